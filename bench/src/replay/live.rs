//! How soon a waiting reader holds what is appended.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use everfold_engine::engine::{Engine as _, ReadLimit};
use everfold_engine::world::{System, World};
use everfold_engine::{Offset, Partition};
use everfold_log::{Log, Options};
use tokio::sync::mpsc;

use super::opening::aside;
use super::report::Live;
use crate::log::Front;
use crate::turns::tenths;

/// Between two appends: nothing is on its way when one begins.
const PAUSE: Duration = Duration::from_millis(2);
/// Appends before anything counts.
const WARM_UP: usize = 20;

/// Appends one event at a time while a reader waits for it in a task of its own.
pub(super) async fn measure(
    directory: &Path,
    options: &Options,
    appends: usize,
) -> anyhow::Result<Live> {
    let world: Arc<dyn World> = System::current();
    let log = Log::open_directory(directory, world.clone(), options.clone())?;
    let partition = Partition(0);
    let mut front = Front::claim(log.clone(), world.clone(), partition, Arc::default()).await?;
    let head = log.safe_head(partition).await?;
    let (holds, mut held) = mpsc::unbounded_channel();
    let reader = tokio::spawn(follow(log.clone(), partition, head, holds));
    let (mut to_ack, mut to_reader, mut between) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..WARM_UP + appends {
        tokio::time::sleep(PAUSE).await;
        front.put(aside(&log, &*world)?, world.now());
        let begin = Instant::now();
        let appended = front.flush().await?;
        let acknowledged = begin.elapsed();
        let (offset, at): (Offset, Instant) = held.recv().await.context("the reader ended")?;
        anyhow::ensure!(offset == appended.last, "the reader holds another event");
        let received = at - begin;
        if round >= WARM_UP {
            to_ack.push(us(acknowledged));
            to_reader.push(us(received));
            between.push(us(received) - us(acknowledged));
        }
    }
    reader.abort();
    log.close().await;
    Ok(Live {
        appends,
        ack_p50_us: quantile(&mut to_ack, 0.5),
        ack_p99_us: quantile(&mut to_ack, 0.99),
        held_p50_us: quantile(&mut to_reader, 0.5),
        held_p99_us: quantile(&mut to_reader, 0.99),
        ack_to_held_p50_us: quantile(&mut between, 0.5),
        ack_to_held_p99_us: quantile(&mut between, 0.99),
    })
}

/// Waits and reads, as handlers do; says when it held what.
async fn follow(
    log: Arc<Log>,
    partition: Partition,
    mut after: Offset,
    holds: mpsc::UnboundedSender<(Offset, Instant)>,
) -> anyhow::Result<()> {
    loop {
        log.wait(partition, after).await?;
        let chunk = log.read(partition, after, ReadLimit::default()).await?;
        for record in &chunk.records {
            holds.send((record.local.offset, Instant::now()))?;
        }
        after = chunk.next;
    }
}

fn us(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share) as usize;
    let value = values.get(at.min(values.len().saturating_sub(1)));
    tenths(value.copied().unwrap_or_default())
}
