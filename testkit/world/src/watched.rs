//! What stands directly around the store: notes of what it answers, refusals by plan, and the
//! promises that a mutated build breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use everfold::engine::engine::*;
use everfold::engine::{Bytes, Offset, Partition};

use crate::coverage::Counts;
use crate::ledger::Ledger;
use crate::mutation::Mutation;

/// What the store refuses now.
#[derive(Default)]
pub(crate) struct Refusals {
    pub(crate) full: AtomicBool,
    pub(crate) small_batches: AtomicBool,
}

/// The store as one node reaches it.
pub(crate) struct Watched {
    pub(crate) inner: Arc<dyn Engine>,
    pub(crate) node: u32,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) mutation: Option<Mutation>,
}

impl Watched {
    fn breaks(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// The epoch that is valid, told by the error that another one gets.
    async fn valid(&self, partition: Partition, otherwise: Epoch) -> Epoch {
        match self.inner.confirm(partition, Epoch(u64::MAX)).await {
            Err(OwnerError::Fenced {
                current: Some(epoch),
                ..
            }) => epoch,
            _ => otherwise,
        }
    }

    fn refusal(&self, batch: &Batch) -> Option<Refusal> {
        if self.refusals.full.load(Ordering::Relaxed) {
            self.counts.count("append refused: full");
            return Some(Refusal::Full("no space left".into()));
        }
        let units = batch
            .records
            .iter()
            .filter(|record| record.portable.unit.is_last())
            .count();
        if self.refusals.small_batches.load(Ordering::Relaxed) && units > 1 {
            self.counts.count("append refused: too large");
            let bytes = batch.records.len();
            return Some(Refusal::TooLarge { bytes, limit: 1 });
        }
        None
    }
}

impl Engine for Watched {
    fn claim(&self, partition: Partition) -> BoxFuture<'_, Result<Claim, OwnerError>> {
        Box::pin(async move {
            let asked = self.ledger.asked();
            let claim = self.inner.claim(partition).await?;
            self.ledger.claimed(self.node, partition, asked, &claim);
            Ok(claim)
        })
    }

    fn confirm(&self, partition: Partition, epoch: Epoch) -> BoxFuture<'_, Result<(), OwnerError>> {
        Box::pin(async move {
            let asked = self.ledger.asked();
            self.inner.confirm(partition, epoch).await?;
            self.ledger.proven(self.node, partition, epoch, asked);
            Ok(())
        })
    }

    fn append(
        &self,
        partition: Partition,
        epoch: Epoch,
        batch: Batch,
    ) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async move {
            if let Some(refusal) = self.refusal(&batch) {
                return Err(refusal.into());
            }
            let used = match self.breaks(Mutation::EpochUnchecked) {
                true => self.valid(partition, epoch).await,
                false => epoch,
            };
            let (id, asked) = (batch.id, self.ledger.asked());
            let appended = self.inner.append(partition, used, batch).await?;
            let place = (epoch, id);
            self.ledger.proven(self.node, partition, epoch, asked);
            self.ledger.appended(self.node, partition, place, appended);
            Ok(appended)
        })
    }

    fn read(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Chunk, ReadError>> {
        Box::pin(async move {
            let mut chunk = self.inner.read(partition, after, limit).await?;
            // One record is read to repeat its answer, many to learn what was decided.
            if self.breaks(Mutation::IdsForgotten) && limit.records > 1 {
                for record in &mut chunk.records {
                    let mut forgetful = record.as_ref().clone();
                    forgetful.local.reply = None;
                    *record = Arc::new(forgetful);
                }
            }
            Ok(chunk)
        })
    }

    fn read_chained(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Chunk, ReadError>> {
        self.inner.read_chained(partition, after, limit)
    }

    fn get<'a>(
        &'a self,
        area: &'a Area,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, ReadError>> {
        if self.breaks(Mutation::IdsForgotten) && area.name == "partition" {
            return Box::pin(async { Ok(None) });
        }
        self.inner.get(area, key)
    }

    fn put(&self, mut put: Put) -> BoxFuture<'_, Result<Revision, PutError>> {
        Box::pin(async move {
            if self.breaks(Mutation::CheckpointUnfenced) {
                put.epoch = self.valid(put.area.partition, put.epoch).await;
                put.previous = self.inner.revision(&put.area).await.unwrap_or_default();
            }
            self.inner.put(put).await
        })
    }

    everfold::engine::forward! {
        identity limits coordinator renew release safe_head wait indexes_entities read_entity find trim revision
        scan doctor durability close
    }
}

/// The store without anything that can be made again from the log: whoever is opened on it folds
/// everything afresh.
pub(crate) struct WithoutAreas {
    pub(crate) inner: Arc<dyn Engine>,
}

impl Engine for WithoutAreas {
    fn put(&self, put: Put) -> BoxFuture<'_, Result<Revision, PutError>> {
        Box::pin(async move { Ok(Revision(put.previous.0 + 1)) })
    }

    fn revision<'a>(&'a self, _: &'a Area) -> BoxFuture<'a, Result<Revision, ReadError>> {
        Box::pin(async { Ok(Revision(0)) })
    }

    fn get<'a>(
        &'a self,
        _: &'a Area,
        _: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, ReadError>> {
        Box::pin(async { Ok(None) })
    }

    fn scan<'a>(
        &'a self,
        _: &'a Area,
        _: Option<&'a [u8]>,
        _: usize,
    ) -> BoxFuture<'a, Result<Entries, ReadError>> {
        Box::pin(async { Ok(Entries::new()) })
    }

    everfold::engine::forward! {
        identity limits coordinator claim renew release confirm append read safe_head wait indexes_entities
        read_entity find trim doctor durability close
    }
}
