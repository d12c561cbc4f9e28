//! The engine contract over the log's parts.

use std::sync::Arc;

use bytes::Bytes;
use everfold_engine::engine::{
    AppendError, Appended, Area, Batch, BoxFuture, Chunk, Claim, Engine, Entries, Epoch, Finding,
    Identity, Limits, OwnerError, Put, PutError, Query, ReadError, ReadLimit, Revision, Trim,
    TrimError, Trimmed,
};
use everfold_engine::{EntityKey, Offset, Partition, Record, Stamp};

use super::Log;
use super::append::permit;
use crate::read::Links;

fn ending<T>(result: Option<Result<T, ReadError>>) -> Result<T, ReadError> {
    result.unwrap_or_else(|| Err(ReadError::Unavailable("the process is ending".into())))
}

impl Engine for Log {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn claim(&self, partition: Partition) -> BoxFuture<'_, Result<Claim, OwnerError>> {
        Box::pin(self.claim_partition(partition))
    }

    fn renew(
        &self,
        partition: Partition,
        epoch: Epoch,
        floor: Stamp,
    ) -> BoxFuture<'_, Result<(), OwnerError>> {
        Box::pin(self.raise_floor(partition, epoch, floor))
    }

    fn release(&self, partition: Partition, epoch: Epoch) -> BoxFuture<'_, Result<(), OwnerError>> {
        Box::pin(self.give_up(partition, epoch))
    }

    fn confirm(&self, partition: Partition, epoch: Epoch) -> BoxFuture<'_, Result<(), OwnerError>> {
        // The lock on the directory keeps every other owner in this process.
        Box::pin(async move { self.check_owner(partition, epoch) })
    }

    fn append(
        &self,
        partition: Partition,
        epoch: Epoch,
        batch: Batch,
    ) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(self.append_batch(partition, epoch, batch))
    }

    fn read(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Chunk, ReadError>> {
        Box::pin(self.read_after(partition, after, limit, Links::Known))
    }

    fn read_chained(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Chunk, ReadError>> {
        Box::pin(self.read_after(partition, after, limit, Links::All))
    }

    fn safe_head(&self, partition: Partition) -> BoxFuture<'_, Result<Offset, ReadError>> {
        Box::pin(async move { self.head(partition) })
    }

    fn wait(
        &self,
        partition: Partition,
        after: Offset,
    ) -> BoxFuture<'_, Result<Offset, ReadError>> {
        Box::pin(self.head_past(partition, after))
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
        Box::pin(self.events_of(partition, entity, after, limit))
    }

    fn find<'a>(
        &'a self,
        partition: Partition,
        query: &'a Query,
        after: Offset,
        limit: usize,
    ) -> BoxFuture<'a, Result<Chunk, ReadError>> {
        Box::pin(self.events_like(partition, query, after, limit))
    }

    fn trim(&self, trim: Trim) -> BoxFuture<'_, Result<Trimmed, TrimError>> {
        Box::pin(async move {
            let upkeep = Arc::clone(&self.upkeep);
            self.blocking("trim", move || upkeep.trim(trim))
                .await
                .unwrap_or_else(|| Err(TrimError::Unavailable("the process is ending".into())))
        })
    }

    fn put(&self, put: Put) -> BoxFuture<'_, Result<Revision, PutError>> {
        Box::pin(async move {
            if put.incarnation != self.identity.incarnation {
                return Err(PutError::Foreign(self.identity.incarnation));
            }
            let partition = put.area.partition;
            let shard = self
                .shard(partition)
                .map_err(|_| PutError::Fenced(partition))?;
            let owner = permit(&shard.owner).await;
            self.check_owner(partition, put.epoch)
                .map_err(|error| match error {
                    OwnerError::Stopped(why) => PutError::Unavailable(why),
                    _ => PutError::Fenced(partition),
                })?;
            let areas = Arc::clone(&self.areas);
            let job = move || {
                // Kept until the values are stored, also if the caller has gone away.
                let _owner = owner;
                areas.put(&put)
            };
            self.blocking("put", job)
                .await
                .unwrap_or_else(|| Err(PutError::Unavailable("the process is ending".into())))
        })
    }

    fn revision<'a>(&'a self, area: &'a Area) -> BoxFuture<'a, Result<Revision, ReadError>> {
        Box::pin(async move {
            let (areas, area) = (Arc::clone(&self.areas), area.clone());
            ending(self.blocking("get", move || areas.revision(&area)).await)
        })
    }

    fn get<'a>(
        &'a self,
        area: &'a Area,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, ReadError>> {
        Box::pin(async move {
            let (areas, area, key) = (Arc::clone(&self.areas), area.clone(), key.to_vec());
            ending(self.blocking("get", move || areas.get(&area, &key)).await)
        })
    }

    fn scan<'a>(
        &'a self,
        area: &'a Area,
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Entries, ReadError>> {
        Box::pin(async move {
            let (areas, area) = (Arc::clone(&self.areas), area.clone());
            let after = after.map(<[u8]>::to_vec);
            let job = move || areas.scan(&area, after.as_deref(), limit);
            ending(self.blocking("scan", job).await)
        })
    }

    fn doctor(&self) -> Vec<Finding> {
        self.findings()
    }

    fn durability(&self) -> String {
        let description = self.disk.description();
        if description.loses_data {
            return format!(
                "none: {} is on {}, gone with the machine",
                description.path, description.file_system
            );
        }
        format!(
            "on the device before it is acknowledged: {} on {} ({})",
            description.durable_by, description.file_system, description.path
        )
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.queue.close();
            let mut finished = self.finished.clone();
            // An error means that the driver is gone, which is as good.
            let _ = finished.wait_for(|finished| *finished).await;
        })
    }
}
