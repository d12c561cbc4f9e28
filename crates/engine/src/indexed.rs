//! An entity index for engines that have none.
//!
//! Fed below the safe head only, so it can hold nothing that the log does not.

use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::{BoxFuture, Engine, ReadError, ReadLimit};
use crate::map::{Map, seeded};
use crate::name::EntityKey;
use crate::position::Offset;
use crate::record::{Kind, Record};
use crate::slot::Partition;

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

    crate::forward! {
        identity limits coordinator claim renew release confirm append read safe_head wait find trim put
        revision get scan doctor durability close
    }
}
