//! Engines that break the contract, each in one way.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use everfold_engine::engine::*;
use everfold_engine::memory::Memory;
use everfold_engine::{EntityKey, Offset, Partition, Record, Stamp};
use tokio::task::yield_now;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: the wrapper itself is no fault.
    None,
    /// Appends whoever asks.
    NoEpochCheck,
    /// Checks the epoch, and then writes.
    CheckThenWrite,
    /// Acknowledges before the flush: a crash loses the last batch.
    NoFlush,
    /// Readers see a batch while only part of it was published.
    TornBatch,
    /// Appends up to the unit that is refused.
    HalfThenRefused,
    /// Publishes a batch after the next one: readers pass a hole that fills later.
    HoleFillsLater,
    /// Ends reads within units.
    CutReads,
    /// Says how far the log reached some time ago.
    StaleClaim,
    /// Forgets floors.
    NoFloor,
    /// Replaces whatever revision there is.
    PutWithoutCompare,
    /// Stores whoever asks.
    PutWithoutEpoch,
    /// Stores one change after the other.
    HalfPut,
    /// Resolves at once.
    EarlyWait,
    /// Wakes one waiter only.
    OneWoken,
    /// Does not tell tenants apart.
    TenantsMixed,
    /// Finds events by the first label alone.
    OneLabel,
}

/// What outlives one opened engine.
#[derive(Default)]
pub(crate) struct Kept {
    hidden: BTreeSet<(Partition, Offset)>,
    unflushed: BTreeSet<(Partition, Offset)>,
    lost: BTreeSet<(Partition, Offset)>,
    /// An area that is being changed, and what it held.
    half: Option<(Area, Entries)>,
    appends: u64,
}

pub(crate) struct Mutant {
    inner: Arc<Memory>,
    fault: Fault,
    kept: Arc<Mutex<Kept>>,
    waiting: AtomicUsize,
}

impl Mutant {
    /// Opens the store as after a crash.
    pub(crate) fn open(inner: Arc<Memory>, fault: Fault, kept: Arc<Mutex<Kept>>) -> Self {
        {
            let mut kept = kept.lock().unwrap();
            let unflushed = std::mem::take(&mut kept.unflushed);
            kept.lost.extend(unflushed);
        }
        Self {
            inner,
            fault,
            kept,
            waiting: AtomicUsize::new(0),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// The epoch that is valid, told by the error that another one gets.
    async fn valid(&self, partition: Partition) -> Epoch {
        match self.inner.confirm(partition, Epoch(u64::MAX)).await {
            Err(OwnerError::Fenced {
                current: Some(epoch),
                ..
            }) => epoch,
            other => panic!("{other:?}"),
        }
    }

    async fn linger() {
        for _ in 0..6 {
            yield_now().await;
        }
    }

    async fn append_wrongly(
        &self,
        partition: Partition,
        mut epoch: Epoch,
        batch: Batch,
    ) -> Result<Appended, AppendError> {
        if self.is(Fault::NoEpochCheck) {
            epoch = self.valid(partition).await;
        }
        if self.is(Fault::CheckThenWrite) {
            let checked = self.inner.confirm(partition, epoch).await;
            checked.map_err(|_| AppendError::Fenced(partition))?;
            Self::linger().await;
            epoch = self.valid(partition).await;
        }
        let appended = self.inner.append(partition, epoch, batch.clone()).await;
        let at = match appended {
            Ok(at) => at,
            Err(AppendError::Refused(refusal)) if self.is(Fault::HalfThenRefused) => {
                self.append_first_unit(partition, epoch, batch).await;
                return Err(refusal.into());
            }
            Err(error) => return Err(error),
        };
        let places = || (at.first.0..=at.last.0).map(|offset| (partition, Offset(offset)));
        let odd = {
            let mut kept = self.kept();
            kept.appends += 1;
            kept.appends % 2 == 1
        };
        match self.fault {
            Fault::NoFlush => self.kept().unflushed = places().collect(),
            Fault::TornBatch => {
                self.kept().hidden.insert((partition, at.last));
                Self::linger().await;
                self.kept().hidden.clear();
            }
            Fault::HoleFillsLater if odd => self.kept().hidden.extend(places()),
            Fault::HoleFillsLater => {
                Self::linger().await;
                self.kept().hidden.clear();
            }
            _ => {}
        }
        Ok(at)
    }

    async fn append_first_unit(&self, partition: Partition, epoch: Epoch, mut batch: Batch) {
        let ends = batch
            .records
            .iter()
            .position(|record| record.portable.unit.is_last());
        batch.records.truncate(ends.map_or(0, |index| index + 1));
        let _ = self.inner.append(partition, epoch, batch).await;
    }

    async fn put_wrongly(&self, mut put: Put) -> Result<Revision, PutError> {
        if self.is(Fault::PutWithoutCompare) {
            put.previous = self.inner.revision(&put.area).await.unwrap();
        }
        if self.is(Fault::PutWithoutEpoch) {
            put.epoch = self.valid(put.area.partition).await;
        }
        if self.is(Fault::HalfPut) {
            let area = put.area.clone();
            let before = self.inner.scan(&area, None, usize::MAX).await.unwrap();
            let revision = self.inner.put(put).await?;
            self.kept().half = Some((area, before));
            Self::linger().await;
            self.kept().half = None;
            return Ok(revision);
        }
        self.inner.put(put).await
    }
}

impl Engine for Mutant {
    everfold_engine::forward! { identity limits coordinator release confirm safe_head revision get doctor durability }

    fn claim(&self, partition: Partition) -> BoxFuture<'_, Result<Claim, OwnerError>> {
        Box::pin(async move {
            let mut claim = self.inner.claim(partition).await?;
            if self.is(Fault::StaleClaim) {
                claim.safe_head.0 = claim.safe_head.0.saturating_sub(1);
            }
            if self.is(Fault::NoFloor) {
                claim.floor = Stamp::default();
            }
            Ok(claim)
        })
    }

    fn renew(
        &self,
        partition: Partition,
        epoch: Epoch,
        floor: Stamp,
    ) -> BoxFuture<'_, Result<(), OwnerError>> {
        let floor = if self.is(Fault::NoFloor) {
            Stamp::default()
        } else {
            floor
        };
        self.inner.renew(partition, epoch, floor)
    }

    fn append(
        &self,
        partition: Partition,
        epoch: Epoch,
        batch: Batch,
    ) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(self.append_wrongly(partition, epoch, batch))
    }

    fn read(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Chunk, ReadError>> {
        Box::pin(async move {
            let mut chunk = self.inner.read(partition, after, limit).await?;
            {
                let kept = self.kept();
                chunk.records.retain(|record| {
                    let place = (partition, record.local.offset);
                    !kept.hidden.contains(&place) && !kept.lost.contains(&place)
                });
            }
            if self.is(Fault::CutReads) && chunk.records.len() > limit.records.max(1) {
                chunk.records.truncate(limit.records.max(1));
                chunk.next = chunk.records.last().map_or(after, |last| last.local.offset);
            }
            Ok(chunk)
        })
    }

    fn wait(
        &self,
        partition: Partition,
        after: Offset,
    ) -> BoxFuture<'_, Result<Offset, ReadError>> {
        Box::pin(async move {
            if self.is(Fault::EarlyWait) {
                return self.inner.safe_head(partition).await;
            }
            let before = self.waiting.fetch_add(1, Ordering::SeqCst);
            let late = u64::from(self.is(Fault::OneWoken) && before > 0);
            let reached = self.inner.wait(partition, Offset(after.0 + late)).await;
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            reached
        })
    }

    fn indexes_entities(&self) -> bool {
        true
    }

    fn read_entity<'a>(
        &'a self,
        partition: Partition,
        entity: &'a EntityKey,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Arc<Record>>, ReadError>> {
        if !self.is(Fault::TenantsMixed) {
            return self.inner.read_entity(partition, entity, after, limit);
        }
        Box::pin(async move {
            let mut found = Vec::new();
            for tenant in ["", "a", "ab"] {
                let mut key = entity.clone();
                key.tenant = tenant.into();
                let events = self.inner.read_entity(partition, &key, after, limit);
                found.extend(events.await?);
            }
            found.truncate(limit);
            Ok(found)
        })
    }

    fn find<'a>(
        &'a self,
        partition: Partition,
        query: &'a Query,
        after: Offset,
        limit: usize,
    ) -> BoxFuture<'a, Result<Chunk, ReadError>> {
        let mut query = query.clone();
        if self.is(Fault::OneLabel) {
            query.labels.truncate(1);
        }
        Box::pin(async move { scan(self, partition, &query, after, limit).await })
    }

    fn put(&self, put: Put) -> BoxFuture<'_, Result<Revision, PutError>> {
        Box::pin(self.put_wrongly(put))
    }

    fn scan<'a>(
        &'a self,
        area: &'a Area,
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Entries, ReadError>> {
        Box::pin(async move {
            let mut found = self.inner.scan(area, after, limit).await?;
            if let Some((changing, before)) = &self.kept().half
                && changing == area
                && before.len() == found.len()
            {
                found[1..].clone_from_slice(&before[1..]);
            }
            Ok(found)
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.kept().unflushed.clear();
        self.inner.close()
    }
}
