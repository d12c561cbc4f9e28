//! An entity index for engines that have none.
//!
//! Fed below the safe head only, so it can hold nothing that the log does not.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::engine::{
    AppendError, Appended, Area, Batch, BoxFuture, Chunk, Claim, Engine, Entries, Epoch, Finding,
    Identity, Limits, OwnerError, Put, PutError, Query, ReadError, ReadLimit, Revision, Trim,
    TrimError, Trimmed,
};
use crate::map::{Map, seeded};
use crate::name::EntityKey;
use crate::position::Offset;
use crate::record::{Kind, Record};
use crate::slot::Partition;
use crate::time::Stamp;

/// Serves [`Engine::read_entity`] over any engine, from an index in memory that follows the log.
/// Everything else is the inner engine's.
pub struct Indexed {
    inner: Arc<dyn Engine>,
    partitions: Vec<Mutex<Index>>,
}

struct Index {
    read: Offset,
    entities: Map<EntityKey, Vec<Place>>,
}

#[derive(Clone, Copy)]
struct Place {
    version: u64,
    offset: Offset,
}

impl Indexed {
    /// The engine itself if it has an index, else the engine with one.
    pub fn over(inner: Arc<dyn Engine>, seed: u64) -> Arc<dyn Engine> {
        if inner.indexes_entities() {
            return inner;
        }
        let layout = inner.identity().layout;
        let index = |_| {
            Mutex::new(Index {
                read: Offset(0),
                entities: seeded(seed),
            })
        };
        Arc::new(Self {
            inner,
            partitions: layout.all().map(index).collect(),
        })
    }

    async fn follow(&self, partition: Partition) -> Result<(), ReadError> {
        let index = self
            .partitions
            .get(partition.index())
            .ok_or(ReadError::NoPartition(partition))?;
        loop {
            let read = index.lock().unwrap_or_else(PoisonError::into_inner).read;
            let chunk = self
                .inner
                .read(partition, read, ReadLimit::default())
                .await?;
            if chunk.next == read {
                return Ok(());
            }
            let mut index = index.lock().unwrap_or_else(PoisonError::into_inner);
            // Another reader may have been here meanwhile.
            let known = index.read;
            for record in chunk.records {
                let place = Place {
                    version: record.local.version,
                    offset: record.local.offset,
                };
                if record.kind == Kind::Event && place.offset > known {
                    index
                        .entities
                        .entry(record.portable.entity.clone())
                        .or_default()
                        .push(place);
                }
            }
            index.read = known.max(chunk.next);
        }
    }
}

impl Engine for Indexed {
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
            self.follow(partition).await?;
            let places: Vec<Offset> = {
                let index = self.partitions[partition.index()]
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                let places = index
                    .entities
                    .get(entity)
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                let wanted = places.iter().filter(|place| place.version > after);
                wanted.take(limit).map(|place| place.offset).collect()
            };
            let mut records = Vec::with_capacity(places.len());
            let mut known: Vec<Arc<Record>> = Vec::new();
            for offset in places {
                if !known.iter().any(|record| record.local.offset == offset) {
                    // A read gives whole units, so a neighbour may already be at hand.
                    let limit = ReadLimit {
                        records: 1,
                        bytes: 1,
                    };
                    known = self
                        .inner
                        .read(partition, Offset(offset.0 - 1), limit)
                        .await?
                        .records;
                }
                let found = known.iter().find(|record| record.local.offset == offset);
                records.push(found.cloned().ok_or_else(|| {
                    ReadError::Damaged(format!("no record at offset {offset} of {partition}"))
                })?);
            }
            Ok(records)
        })
    }

    fn identity(&self) -> &Identity {
        self.inner.identity()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn claim(&self, partition: Partition) -> BoxFuture<'_, Result<Claim, OwnerError>> {
        self.inner.claim(partition)
    }

    fn renew(
        &self,
        partition: Partition,
        epoch: Epoch,
        floor: Stamp,
    ) -> BoxFuture<'_, Result<(), OwnerError>> {
        self.inner.renew(partition, epoch, floor)
    }

    fn release(&self, partition: Partition, epoch: Epoch) -> BoxFuture<'_, Result<(), OwnerError>> {
        self.inner.release(partition, epoch)
    }

    fn confirm(&self, partition: Partition, epoch: Epoch) -> BoxFuture<'_, Result<(), OwnerError>> {
        self.inner.confirm(partition, epoch)
    }

    fn append(
        &self,
        partition: Partition,
        epoch: Epoch,
        batch: Batch,
    ) -> BoxFuture<'_, Result<Appended, AppendError>> {
        self.inner.append(partition, epoch, batch)
    }

    fn read(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Chunk, ReadError>> {
        self.inner.read(partition, after, limit)
    }

    fn read_chained(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Chunk, ReadError>> {
        self.inner.read_chained(partition, after, limit)
    }

    fn safe_head(&self, partition: Partition) -> BoxFuture<'_, Result<Offset, ReadError>> {
        self.inner.safe_head(partition)
    }

    fn wait(
        &self,
        partition: Partition,
        after: Offset,
    ) -> BoxFuture<'_, Result<Offset, ReadError>> {
        self.inner.wait(partition, after)
    }

    fn find<'a>(
        &'a self,
        partition: Partition,
        query: &'a Query,
        after: Offset,
        limit: usize,
    ) -> BoxFuture<'a, Result<Chunk, ReadError>> {
        self.inner.find(partition, query, after, limit)
    }

    fn trim(&self, trim: Trim) -> BoxFuture<'_, Result<Trimmed, TrimError>> {
        self.inner.trim(trim)
    }

    fn put(&self, put: Put) -> BoxFuture<'_, Result<Revision, PutError>> {
        self.inner.put(put)
    }

    fn revision<'a>(&'a self, area: &'a Area) -> BoxFuture<'a, Result<Revision, ReadError>> {
        self.inner.revision(area)
    }

    fn get<'a>(
        &'a self,
        area: &'a Area,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, ReadError>> {
        self.inner.get(area, key)
    }

    fn scan<'a>(
        &'a self,
        area: &'a Area,
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Entries, ReadError>> {
        self.inner.scan(area, after, limit)
    }

    fn doctor(&self) -> Vec<Finding> {
        self.inner.doctor()
    }

    fn durability(&self) -> String {
        self.inner.durability()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}
