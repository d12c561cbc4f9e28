//! What stands between clients and a partition of the log: a channel, and batches of whatever waits.
//!
//! It does what a partition's owner does with decided commands, and nothing before it: fills in
//! stamps, dots and links, gathers the next batch while one is on its way, and answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::anyhow;
use everfold_engine::engine::{AppendError, Appended, Batch, BoxFuture, Engine, Epoch, ReadLimit};
use everfold_engine::record::{Link, Origin, Record};
use everfold_engine::world::World;
use everfold_engine::{Offset, Partition, Timestamp};
use tokio::sync::{mpsc, oneshot};

use super::bare::Append;
use crate::unit::Clock;

/// Units of one batch, as for owners.
const MOST_UNITS: usize = 1024;

/// A claimed partition.
pub(crate) struct Front {
    log: Arc<dyn Engine>,
    world: Arc<dyn World>,
    partition: Partition,
    epoch: Epoch,
    origin: Origin,
    clock: Clock,
    chained: bool,
    link: Link,
    /// Gathered, not yet on its way.
    open: Batch,
    waiting: Vec<oneshot::Sender<()>>,
    batches: Arc<AtomicU64>,
}

type Flight<'a> = (
    BoxFuture<'a, Result<Appended, AppendError>>,
    Vec<oneshot::Sender<()>>,
);

impl Front {
    /// Claims the partition and takes over where its last record left the chain.
    pub(crate) async fn claim(
        log: Arc<dyn Engine>,
        world: Arc<dyn World>,
        partition: Partition,
        batches: Arc<AtomicU64>,
    ) -> anyhow::Result<Self> {
        let claim = log.claim(partition).await?;
        let before = Offset(claim.safe_head.0.saturating_sub(1));
        let chunk = log.read(partition, before, ReadLimit::default()).await?;
        // Not in every engine is a claim a record: there may be none yet.
        let last = chunk.records.last();
        let link = last.map(|last| last.local.link).unwrap_or_default();
        Ok(Self {
            origin: log.identity().origin(),
            log: log.clone(),
            world,
            partition,
            epoch: claim.epoch,
            clock: Clock {
                counter: claim.safe_head.0,
                stamp: claim.floor,
                ..Clock::default()
            },
            chained: log.identity().chained,
            link,
            open: Batch::new(1, Vec::new()),
            waiting: Vec::new(),
            batches,
        })
    }

    /// Appends what comes until all senders are gone; `largest` is the most records of a unit.
    pub(crate) async fn serve(
        mut self,
        mut inbox: mpsc::Receiver<Append>,
        largest: usize,
    ) -> anyhow::Result<()> {
        let log = self.log.clone();
        let most_records = log.limits().batch_records;
        let mut drained = Vec::with_capacity(MOST_UNITS);
        let mut flight = None;
        let mut closed = false;
        loop {
            if flight.is_none() && !self.waiting.is_empty() {
                flight = Some(self.launch(&*log));
            }
            let fits = most_records.saturating_sub(self.open.records.len()) / largest;
            let room = fits.min(MOST_UNITS - self.waiting.len());
            tokio::select! { biased;
                appended = landing(&mut flight), if flight.is_some() => {
                    appended.map_err(|error| anyhow!("partition {}: {error}", self.partition))?;
                    self.batches.fetch_add(1, Ordering::Relaxed);
                }
                count = inbox.recv_many(&mut drained, room), if room > 0 && !closed => {
                    closed = count == 0;
                    let now = self.world.now();
                    for append in drained.drain(..) {
                        append.records.into_iter().for_each(|record| self.put(record, now));
                        self.waiting.push(append.done);
                    }
                }
                else => return Ok(()),
            }
        }
    }

    /// Completes a record and puts it into the open batch.
    pub(crate) fn put(&mut self, mut record: Record, now: Timestamp) {
        self.clock
            .complete(&mut record, &self.origin, self.partition, now);
        record.local.epoch = self.epoch.0;
        record.local.batch = self.open.id;
        if self.chained {
            self.link = record.link_after(self.link);
            record.local.link = self.link;
        }
        self.open.records.push(record);
    }

    /// How many records the open batch has.
    pub(crate) fn gathered(&self) -> usize {
        self.open.records.len()
    }

    /// Appends the open batch and waits for it.
    pub(crate) async fn flush(&mut self) -> anyhow::Result<Appended> {
        let batch = self.take();
        let appended = self.log.append(self.partition, self.epoch, batch).await?;
        Ok(appended)
    }

    fn take(&mut self) -> Batch {
        let next = Batch::new(
            self.open.id + 1,
            Vec::with_capacity(self.open.records.len()),
        );
        std::mem::replace(&mut self.open, next)
    }

    fn launch<'a>(&mut self, log: &'a dyn Engine) -> Flight<'a> {
        let batch = self.take();
        let append = log.append(self.partition, self.epoch, batch);
        (append, std::mem::take(&mut self.waiting))
    }
}

async fn landing(flight: &mut Option<Flight<'_>>) -> Result<Appended, AppendError> {
    let result = match flight {
        Some((append, _)) => append.await,
        None => std::future::pending().await,
    };
    if let (Some((_, waiting)), true) = (flight.take(), result.is_ok()) {
        for done in waiting {
            // Whoever asked may have gone away.
            let _ = done.send(());
        }
    }
    result
}
