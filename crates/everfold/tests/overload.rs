//! More work than an owner can do: what is too much is refused at once with a hint, and what was taken
//! is done.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test a fault is a panic"
)]

mod bank;
#[path = "many_nodes/cluster.rs"]
mod cluster;
mod hook;

use std::sync::Arc;
use std::time::Duration;

use bank::*;
use cluster::Cluster;
use everfold::engine::World;
use everfold::{CommandError, Expected, NewEvent, Node, NodeOptions, SendError};
use hook::{Hook, accounts, hooked};
use tokio::sync::{mpsc, watch};

/// An owner and another node, over a store that takes nothing before it is told to.
async fn held_up(
    hook: &Arc<Hook>,
    world: &Arc<dyn World>,
    options: NodeOptions,
) -> (Cluster, watch::Sender<bool>) {
    let cluster = Cluster::over(hook.clone(), accounts, 2, world.clone(), options).await;
    let first = cluster
        .node(1)
        .entity::<Account>("first")
        .send(Deposit { amount: 1 });
    first.await.unwrap();
    let (release, released) = watch::channel(false);
    hook.mode().released = Some(released);
    (cluster, release)
}

fn room_for(commands: usize) -> NodeOptions {
    NodeOptions {
        waiting_commands: commands,
        ..NodeOptions::default()
    }
}

type Answers = mpsc::UnboundedReceiver<Result<(), CommandError>>;

/// So many deposits of 1, all at once; answers as they come.
fn flood(node: &Arc<Node>, world: &Arc<dyn World>, commands: usize) -> Answers {
    let (tell, answers) = mpsc::unbounded_channel();
    for number in 0..commands {
        let (node, tell) = (node.clone(), tell.clone());
        let one = async move {
            let account = node.entity::<Account>(name(number));
            let sent = account.send(Deposit { amount: 1 }).await;
            let _ = tell.send(sent.map(drop).map_err(|error| match error {
                SendError::Failed(error) => error,
                SendError::Rejected(refused) => panic!("{refused:?}"),
            }));
        };
        world.spawn("one of many", Box::pin(one));
    }
    answers
}

/// What has come so far, when all that can happen without the store has.
async fn so_far(answers: &mut Answers, world: &Arc<dyn World>) -> Vec<Result<(), CommandError>> {
    world.sleep(Duration::from_millis(100)).await;
    std::iter::from_fn(|| answers.try_recv().ok()).collect()
}

fn hint(answer: &Result<(), CommandError>) -> Duration {
    let error = answer.as_ref().unwrap_err();
    assert!(
        matches!(error, CommandError::Overloaded { .. }),
        "{error:?}"
    );
    error.retry_after().unwrap()
}

const ACCOUNTS: usize = 10;

fn name(number: usize) -> String {
    format!("account {}", number % ACCOUNTS)
}

/// Of all accounts together.
async fn balance(node: &Arc<Node>) -> i64 {
    let mut all = 0;
    for number in 0..ACCOUNTS {
        let account = node.entity::<Account>(name(number));
        all += account.read(|account, _| account.balance).await.unwrap();
    }
    all
}

/// Attacks: what is too much waits, is lost, or is refused without a word about when to come back.
#[test]
fn an_owner_that_is_held_up_refuses_what_is_too_much_and_does_the_rest() {
    hooked(1, async |hook, world| {
        let (cluster, release) = held_up(&hook, &world, room_for(100)).await;
        for node in [1, 2] {
            // As many as there is room for at the owner; then as many from elsewhere.
            let mut near = flood(&cluster.node(1), &world, 150);
            let refused = so_far(&mut near, &world).await;
            assert_eq!(refused.len(), 50);
            let mut more = flood(&cluster.node(node), &world, 30);
            let refused_more = so_far(&mut more, &world).await;
            assert_eq!(refused_more.len(), 30);
            for answer in refused.iter().chain(&refused_more) {
                let hint = hint(answer);
                assert!(hint >= Duration::from_millis(10) && hint <= Duration::from_secs(5));
            }
            let before = hook.mode().released.take();
            release.send_replace(true);
            for _ in 0..100 {
                near.recv().await.unwrap().unwrap();
            }
            assert_eq!(balance(&cluster.node(1)).await, 100 * node as i64);
            assert_eq!(balance(&cluster.node(2)).await, 100 * node as i64);
            release.send_replace(false);
            hook.mode().released = before;
        }
    });
}

/// Attacks: the node in between takes any number of commands for another one, or passes on none.
#[test]
fn a_node_that_forwards_holds_no_more_than_an_owner() {
    hooked(1, async |hook, world| {
        let (cluster, release) = held_up(&hook, &world, room_for(100)).await;
        let mut far = flood(&cluster.node(2), &world, 250);
        assert_eq!(so_far(&mut far, &world).await.len(), 150);
        release.send_replace(true);
        for _ in 0..100 {
            far.recv().await.unwrap().unwrap();
        }
        assert_eq!(balance(&cluster.node(2)).await, 100);
        // There is room again.
        let mut far = flood(&cluster.node(2), &world, 100);
        for _ in 0..100 {
            far.recv().await.unwrap().unwrap();
        }
    });
}

/// Attacks: few large commands fill the memory.
#[test]
fn what_waits_is_bounded_in_bytes() {
    hooked(1, async |hook, world| {
        let options = NodeOptions {
            waiting_bytes: 100_000,
            ..NodeOptions::default()
        };
        let (cluster, release) = held_up(&hook, &world, options).await;
        for node in [1, 2] {
            let (tell, mut answers) = mpsc::unbounded_channel();
            for _ in 0..200 {
                let (node, tell) = (cluster.node(node), tell.clone());
                let one = async move {
                    let event = NewEvent::json("noted", format!("{:?}", "x".repeat(10_000)));
                    let sent = node
                        .stream("log-1")
                        .append(vec![event], Expected::Any)
                        .await;
                    let _ = tell.send(sent.map(drop));
                };
                world.spawn("one of many", Box::pin(one));
            }
            let refused = so_far(&mut answers, &world).await;
            assert!(refused.len() >= 120, "{} were refused", refused.len());
            refused.iter().map(hint).for_each(drop);
            release.send_replace(true);
            for _ in refused.len()..200 {
                answers.recv().await.unwrap().unwrap();
            }
            release.send_replace(false);
        }
    });
}

/// Attacks: commands are taken whose callers are gone when their turn comes.
#[test]
fn nobody_is_taken_who_would_wait_for_too_long() {
    hooked(1, async |hook, world| {
        let (cluster, release) = held_up(&hook, &world, NodeOptions::default()).await;
        let owner = cluster.node(1);
        let mut first = flood(&owner, &world, 2000);
        assert!(so_far(&mut first, &world).await.is_empty());
        world.sleep(Duration::from_secs(3)).await;
        let mut late = flood(&owner, &world, 10);
        let refused = so_far(&mut late, &world).await;
        assert_eq!(refused.len(), 10);
        // The store has been silent for three seconds: it is not said that a moment will do.
        for answer in &refused {
            assert!(hint(answer) >= Duration::from_secs(1), "{answer:?}");
        }
        release.send_replace(true);
        for _ in 0..2000 {
            first.recv().await.unwrap().unwrap();
        }
        assert_eq!(balance(&owner).await, 2000);
    });
}

/// Attacks: a partition whose owner is held up takes the way to that node from the others.
#[test]
fn the_way_to_a_node_is_shared_by_partitions() {
    hooked(1, async |hook, world| {
        let (cluster, release) = held_up(&hook, &world, NodeOptions::default()).await;
        let before = cluster.asked();
        let mut far = flood(&cluster.node(2), &world, 3000);
        assert!(so_far(&mut far, &world).await.is_empty());
        let asked = cluster.asked() - before;
        assert!(asked < 1000, "{asked} requests are on their way");
        release.send_replace(true);
        for _ in 0..3000 {
            far.recv().await.unwrap().unwrap();
        }
    });
}
