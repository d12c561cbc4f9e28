//! What a case works on.

use std::sync::Arc;

use everfold_engine::engine::ReadLimit;
use everfold_engine::record::Link;
use everfold_engine::{Engine, Offset, Partition, Record, World};
use tokio::sync::oneshot;

use crate::check::{Checked, Tried};
use crate::harness::{Ending, Harness, Log, Offers};
use crate::owner::Owner;
use crate::sample::is_ours;

/// A fresh log, opened, and the means to try it.
pub(crate) struct Bench {
    pub(crate) world: Arc<dyn World>,
    pub(crate) offers: Offers,
    log: Box<dyn Log>,
    first: std::sync::Mutex<Option<Arc<dyn Engine>>>,
}

/// The partition that most cases use.
pub(crate) const P: Partition = Partition(1);

impl Bench {
    pub(crate) async fn new(harness: &dyn Harness) -> Self {
        let log = harness.fresh().await;
        let engine = log.open().await;
        Self {
            world: harness.world(),
            offers: harness.offers(),
            log,
            first: std::sync::Mutex::new(Some(engine)),
        }
    }

    /// The opened engine; given once, so that nothing holds it when it is to vanish.
    pub(crate) fn engine(&self) -> Checked<Arc<dyn Engine>> {
        let mut first = self.first.lock().tried("taking the engine")?;
        first.take().ok_or_else(|| "the engine was taken".into())
    }

    /// Leaves the log and opens it again.
    pub(crate) async fn reopen(&self, engine: Arc<dyn Engine>, ending: Ending) -> Arc<dyn Engine> {
        self.log.reopen(engine, ending).await
    }

    /// An owner of the usual partition.
    pub(crate) async fn owner(&self) -> Checked<Owner> {
        Owner::claim(self.engine()?, P).await
    }

    /// Runs beside the case; the receiver gets the result.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        self.world.spawn(
            name,
            Box::pin(async move {
                let _ = sender.send(task.await);
            }),
        );
        receiver
    }

    /// A number below `bound`.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.world.random() % bound
    }
}

/// Steps aside a random number of times, so that a simulation interleaves here.
pub(crate) async fn stroll(world: &dyn World) {
    for _ in 0..world.random() % 4 {
        tokio::task::yield_now().await;
    }
}

/// A record without its link, which not every read gives.
pub(crate) fn unlinked(record: &Record) -> Record {
    let mut record = record.clone();
    record.local.link = Link::default();
    record
}

/// Everything of the suite's own in a partition, read with one limit. Checks on the way what every
/// read promises.
pub(crate) async fn read_all(
    engine: &dyn Engine,
    partition: Partition,
    limit: ReadLimit,
) -> Checked<Vec<Record>> {
    let mut records = read_everything(engine, partition, limit).await?;
    records.retain(is_ours);
    Ok(records)
}

/// The same with what the engine put between, such as its claims.
pub(crate) async fn read_everything(
    engine: &dyn Engine,
    partition: Partition,
    limit: ReadLimit,
) -> Checked<Vec<Record>> {
    let head = engine
        .safe_head(partition)
        .await
        .tried("asking for the safe head")?;
    let mut records = Vec::new();
    let mut after = Offset(0);
    while after < head {
        let (chunk, next) = read_raw(engine, partition, after, limit).await?;
        ensure!(
            next > after,
            "a read after {after} stands still below the safe head {head}"
        );
        records.extend(chunk);
        after = next;
    }
    Ok(records)
}

/// One read without what the engine put between, with what every read promises checked.
pub(crate) async fn read_chunk(
    engine: &dyn Engine,
    partition: Partition,
    after: Offset,
    limit: ReadLimit,
) -> Checked<(Vec<Record>, Offset)> {
    let (mut records, next) = read_raw(engine, partition, after, limit).await?;
    records.retain(is_ours);
    Ok((records, next))
}

async fn read_raw(
    engine: &dyn Engine,
    partition: Partition,
    after: Offset,
    limit: ReadLimit,
) -> Checked<(Vec<Record>, Offset)> {
    let plain = engine
        .read(partition, after, limit)
        .await
        .tried("reading")?;
    let chunk = engine
        .read_chained(partition, after, limit)
        .await
        .tried("reading with links")?;
    for (plain, chained) in plain.records.iter().zip(&chunk.records) {
        let known = plain.local.link == chained.local.link || plain.local.link == Link::default();
        ensure!(
            known && unlinked(plain) == unlinked(chained),
            "reads with and without links differ at {}",
            plain.local.offset
        );
    }
    let (mut last, mut expected, mut units, mut bytes) = (after, 0, 0, 0);
    for record in &chunk.records {
        let (offset, unit) = (record.local.offset, record.portable.unit);
        ensure!(offset > last, "offset {offset} follows {last}");
        ensure!(
            unit.index == expected,
            "at {offset} a unit goes on with {unit:?}, not with index {expected}"
        );
        expected = if unit.is_last() { 0 } else { expected + 1 };
        units += usize::from(unit.is_last());
        bytes += record.portable.payload.len();
        last = offset;
    }
    ensure!(expected == 0, "a read ends within a unit, at offset {last}");
    ensure!(
        units <= 1 || (chunk.records.len() <= limit.records && bytes <= limit.bytes),
        "{units} units of {} records and {bytes} bytes are over {limit:?}",
        chunk.records.len()
    );
    ensure!(
        chunk.next >= last,
        "next is {}, before the last record read, {last}",
        chunk.next
    );
    ensure!(
        chunk.records.is_empty() || chunk.safe_head >= last,
        "a record at {last} lies past the safe head {}",
        chunk.safe_head
    );
    let records = chunk.records.iter().map(|record| (**record).clone());
    Ok((records.collect(), chunk.next))
}
