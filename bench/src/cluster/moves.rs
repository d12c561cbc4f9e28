//! How long a partition keeps its clients waiting while it moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::client;
use super::nodes::{Nodes, Outside};
use super::report::Moves;
use crate::load::mix;
use crate::order::{AddLine, Order, OrderId, name};
use crate::output::say;

/// One client per partition sends one command after the other; what it waits longest for in a round
/// is how long the move kept it waiting, if its partition has moved.
pub(super) async fn measure(nodes: &Nodes, rounds: usize) -> anyhow::Result<Moves> {
    let outside = nodes.client().await?;
    let layout = nodes.alone().engine().identity().layout;
    let orders: Vec<String> = layout
        .all()
        .filter_map(|partition| {
            let mut names = (0..10_000).map(name);
            names.find(|order| layout.partition(order) == partition)
        })
        .collect();
    let (mut leaving, mut joining, mut calm) = (Vec::new(), Vec::new(), Vec::new());
    let mut failed = 0;
    for round in 0..rounds {
        let (longest, errors) = watched(&outside, &orders, async {
            nodes.world_sleep(Duration::from_secs(2)).await;
            anyhow::Ok(())
        })
        .await?;
        calm.extend(longest);
        failed += errors;
        let before = nodes.owners();
        let (longest, errors) = watched(&outside, &orders, nodes.retire("node-3")).await?;
        leaving.extend(moved(&before, &nodes.owners(), &longest));
        failed += errors;
        let before = nodes.owners();
        let join = async {
            nodes.join("node-3").await?;
            nodes.balanced(3).await
        };
        let (longest, errors) = watched(&outside, &orders, join).await?;
        joining.extend(moved(&before, &nodes.owners(), &longest));
        failed += errors;
        say(format_args!("moves: round {} of {rounds}", round + 1));
    }
    Ok(Moves::of(leaving, joining, calm, failed))
}

/// The waits of the partitions that have another owner now.
fn moved(before: &[usize], after: &[usize], longest: &[Duration]) -> Vec<Duration> {
    let pairs = before.iter().zip(after).zip(longest);
    let moved = pairs.filter(|((before, after), _)| before != after);
    moved.map(|(_, longest)| *longest).collect()
}

/// Lets clients send while something happens; the longest that each waited for an answer.
async fn watched(
    outside: &Arc<Outside>,
    orders: &[String],
    happens: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<(Vec<Duration>, u64)> {
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for (place, order) in orders.iter().enumerate() {
        let (outside, over, order) = (outside.clone(), over.clone(), order.clone());
        clients.push(tokio::spawn(async move {
            let (mut longest, mut failed, mut seed) = (Duration::ZERO, 0, place as u64);
            while !over.load(Ordering::Relaxed) {
                seed = mix(seed);
                let begin = Instant::now();
                let order = client(&outside).entity::<Order>(OrderId::from(order.clone()));
                let sent = order.send(AddLine::any(seed)).await;
                failed += u64::from(sent.is_err());
                longest = longest.max(begin.elapsed());
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (longest, failed)
        }));
    }
    let happened = happens.await;
    over.store(true, Ordering::Relaxed);
    let (mut longest, mut failed) = (Vec::new(), 0);
    for client in clients {
        let (waited, errors) = client.await?;
        longest.push(waited);
        failed += errors;
    }
    happened?;
    Ok((longest, failed))
}
