//! The contract, kept.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use everfold_engine::engine::{
    AppendError, Appended, Area, Batch, BoxFuture, Chunk, Claim, Engine, Entries, Epoch, Finding,
    Identity, Limits, OwnerError, Put, PutError, Query, ReadError, ReadLimit, Refusal, Revision,
    rules::check_batch,
};
use everfold_engine::{Coordinator, EntityKey, Offset, Partition, Record, Stamp};
use tokio::sync::oneshot;

use crate::postgres::Postgres;
use crate::row::Rows;
use crate::writer::Ticket;

impl Postgres {
    fn check(&self, partition: Partition) -> Result<(), ReadError> {
        match self.has(partition) {
            true => Ok(()),
            false => Err(ReadError::NoPartition(partition)),
        }
    }

    fn check_owner(&self, partition: Partition) -> Result<(), OwnerError> {
        if !self.has(partition) {
            return Err(OwnerError::NoPartition(partition));
        }
        if !self.writable {
            return Err(OwnerError::ReadOnly("it was opened to be looked at".into()));
        }
        Ok(())
    }

    async fn claim_now(&self, partition: Partition) -> Result<Claim, OwnerError> {
        self.check_owner(partition)?;
        let claim = self.ownerships.claim(partition).await?;
        // An append of the ownership before, if it is still on its way, is answered first.
        let mut owned = self.turns[partition.index()].lock().await;
        if claim.safe_head < owned.head {
            return Err(OwnerError::Stopped(format!(
                "partition {partition} ends at offset {}, and offset {} was acknowledged: an earlier \
                 state of the log was put into its place",
                claim.safe_head, owned.head
            )));
        }
        if claim.epoch > owned.epoch {
            owned.epoch = claim.epoch;
            owned.floor = claim.floor;
            owned.head = claim.safe_head;
        }
        Ok(claim)
    }

    async fn append_now(
        &self,
        partition: Partition,
        epoch: Epoch,
        mut batch: Batch,
    ) -> Result<Appended, AppendError> {
        let Some(turn) = self.turns.get(partition.index()) else {
            return Err(Refusal::Invalid(format!("no partition {partition}")).into());
        };
        let turn = turn.clone().lock_owned().await;
        let statements = std::mem::take(&mut batch.statements);
        let floor = match turn.epoch == epoch {
            true => turn.floor,
            false => Stamp(0),
        };
        check_batch(&batch, self.limits, floor)?;
        let units = batch
            .records
            .iter()
            .filter(|record| record.portable.unit.is_last());
        if !statements.is_empty() && units.count() != 1 {
            let reason = "a batch with statements has one unit";
            return Err(Refusal::Invalid(reason.into()).into());
        }
        let chained = self.identity.chained;
        let rows = Rows::of(batch.records, &self.origin, chained, partition);
        let (answer, answered) = oneshot::channel();
        let ticket = Ticket {
            partition,
            epoch,
            batch: batch.id,
            rows,
            statements,
            turn,
            answer,
        };
        let sent = {
            let appends = self.appends.lock().unwrap_or_else(PoisonError::into_inner);
            appends
                .as_ref()
                .is_some_and(|appends| appends.hand_in(ticket))
        };
        if !sent {
            let reason = match self.writable {
                true => "it was closed",
                false => "it was opened to be looked at",
            };
            return Err(Refusal::ReadOnly(reason.into()).into());
        }
        let lost = |_| AppendError::Unknown("the writer ended".into());
        answered.await.map_err(lost)?
    }
}

impl Engine for Postgres {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn claim(&self, partition: Partition) -> BoxFuture<'_, Result<Claim, OwnerError>> {
        Box::pin(self.claim_now(partition))
    }

    fn renew(
        &self,
        partition: Partition,
        epoch: Epoch,
        floor: Stamp,
    ) -> BoxFuture<'_, Result<(), OwnerError>> {
        Box::pin(async move {
            self.check_owner(partition)?;
            self.ownerships.renew(partition, epoch, floor).await?;
            let mut owned = self.turns[partition.index()].lock().await;
            if owned.epoch == epoch {
                owned.floor = owned.floor.max(floor);
            }
            Ok(())
        })
    }

    fn release(&self, partition: Partition, epoch: Epoch) -> BoxFuture<'_, Result<(), OwnerError>> {
        Box::pin(async move {
            self.check_owner(partition)?;
            self.ownerships.release(partition, epoch).await
        })
    }

    fn confirm(&self, partition: Partition, epoch: Epoch) -> BoxFuture<'_, Result<(), OwnerError>> {
        Box::pin(async move {
            self.check_owner(partition)?;
            self.ownerships.confirm(partition, epoch).await
        })
    }

    fn runs_statements(&self) -> bool {
        self.writable
    }

    fn append(
        &self,
        partition: Partition,
        epoch: Epoch,
        batch: Batch,
    ) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(self.append_now(partition, epoch, batch))
    }

    fn read(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Chunk, ReadError>> {
        Box::pin(async move {
            self.check(partition)?;
            Ok(self.reader.read(partition, after, limit).await?)
        })
    }

    fn safe_head(&self, partition: Partition) -> BoxFuture<'_, Result<Offset, ReadError>> {
        Box::pin(async move {
            self.check(partition)?;
            Ok(self.reader.head(partition).await?)
        })
    }

    fn wait(
        &self,
        partition: Partition,
        after: Offset,
    ) -> BoxFuture<'_, Result<Offset, ReadError>> {
        Box::pin(async move {
            self.check(partition)?;
            let reached = self.doorbell.wait(partition, after).await;
            reached.ok_or_else(|| ReadError::Unavailable("closed".into()))
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
        Box::pin(async move {
            self.check(partition)?;
            Ok(self.reader.entity(partition, entity, after, limit).await?)
        })
    }

    fn find<'a>(
        &'a self,
        partition: Partition,
        query: &'a Query,
        after: Offset,
        limit: usize,
    ) -> BoxFuture<'a, Result<Chunk, ReadError>> {
        Box::pin(async move {
            self.check(partition)?;
            Ok(self.reader.find(partition, query, after, limit).await?)
        })
    }

    fn put(&self, put: Put) -> BoxFuture<'_, Result<Revision, PutError>> {
        Box::pin(async move {
            if put.incarnation != self.identity.incarnation {
                return Err(PutError::Foreign(self.identity.incarnation));
            }
            self.areas.put(put).await
        })
    }

    fn revision<'a>(&'a self, area: &'a Area) -> BoxFuture<'a, Result<Revision, ReadError>> {
        Box::pin(async move { Ok(self.areas.revision(area).await?) })
    }

    fn get<'a>(
        &'a self,
        area: &'a Area,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, ReadError>> {
        Box::pin(async move { Ok(self.areas.get(area, key).await?) })
    }

    fn scan<'a>(
        &'a self,
        area: &'a Area,
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Entries, ReadError>> {
        Box::pin(async move { Ok(self.areas.scan(area, after, limit).await?) })
    }

    fn coordinator(&self) -> Option<Arc<dyn Coordinator>> {
        Some(self.coordination.clone())
    }

    fn doctor(&self) -> Vec<Finding> {
        self.findings.clone()
    }

    fn durability(&self) -> String {
        self.durability.clone()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            drop(
                self.appends
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take(),
            );
            for ending in self.writing.lock().await.drain(..) {
                // A writer that is gone has nothing in flight.
                let _ = ending.await;
            }
            for turn in &self.turns {
                // Batches with statements are carried by tasks of their own.
                drop(turn.lock().await);
            }
            self.doorbell.stop();
            for pool in &self.pools {
                pool.close();
            }
        })
    }
}
