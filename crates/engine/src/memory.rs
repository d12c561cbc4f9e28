//! The reference engine: the contract in memory, as plainly as it can be said.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use crate::coordination::Coordinator;
use crate::coordination::memory::InMemory;
use crate::engine::rules::{check_batch, whole_units};
use crate::engine::{
    AppendError, Appended, Area, Batch, BoxFuture, Chunk, Claim, Engine, Entries, Epoch, Finding,
    Identity, Limits, OwnerError, Put, PutError, ReadError, ReadLimit, Refusal, Revision,
};
use crate::map::{Map, seeded};
use crate::name::EntityKey;
use crate::position::{Incarnation, Offset};
use crate::record::{Kind, Record};
use crate::slot::{BadPartitionCount, Layout, Partition};
use crate::time::Stamp;
use crate::world::World;

/// Keeps everything in memory; nothing outlives the process.
pub struct Memory {
    identity: Identity,
    world: Arc<dyn World>,
    limits: Limits,
    index: bool,
    partitions: Vec<Shared>,
    areas: Mutex<BTreeMap<Area, Stored>>,
    coordinator: Arc<InMemory>,
}

struct Shared {
    state: Mutex<State>,
    head: watch::Sender<Offset>,
}

#[derive(Default)]
struct State {
    epoch: Epoch,
    floor: Stamp,
    records: Vec<Arc<Record>>,
    entities: Map<EntityKey, Vec<Offset>>,
}

#[derive(Default)]
struct Stored {
    revision: Revision,
    values: BTreeMap<Bytes, Bytes>,
}

impl Memory {
    /// An empty log named `main` with `partitions` partitions.
    ///
    /// # Errors
    /// [`BadPartitionCount`] outside 1 to 1024.
    pub fn new(world: Arc<dyn World>, partitions: u16) -> Result<Self, BadPartitionCount> {
        let layout = Layout::first(partitions)?;
        let high = u128::from(world.random()) << 64;
        let identity = Identity {
            log: "main".into(),
            site: "local".into(),
            incarnation: Incarnation(high | u128::from(world.random())),
            layout,
            chained: true,
        };
        let seed = world.random();
        let shared = |_| Shared {
            state: Mutex::new(State {
                entities: seeded(seed),
                ..State::default()
            }),
            head: watch::Sender::new(Offset(0)),
        };
        Ok(Self {
            identity,
            coordinator: Arc::new(InMemory::new(world.clone(), layout)),
            world,
            limits: Limits::default(),
            index: true,
            partitions: layout.all().map(shared).collect(),
            areas: Mutex::default(),
        })
    }

    /// The same without an entity index, as engines over a plain message log are.
    #[must_use]
    pub fn without_index(mut self) -> Self {
        self.index = false;
        self
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    fn shared(&self, partition: Partition) -> Option<(&Shared, MutexGuard<'_, State>)> {
        let shared = self.partitions.get(partition.index())?;
        Some((
            shared,
            shared.state.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }

    fn owned(
        &self,
        partition: Partition,
        epoch: Epoch,
    ) -> Result<MutexGuard<'_, State>, OwnerError> {
        let (_, state) = self
            .shared(partition)
            .ok_or(OwnerError::NoPartition(partition))?;
        if state.epoch == epoch {
            Ok(state)
        } else {
            Err(OwnerError::Fenced {
                partition,
                current: Some(state.epoch),
            })
        }
    }

    fn append_now(
        &self,
        partition: Partition,
        epoch: Epoch,
        batch: Batch,
    ) -> Result<Appended, AppendError> {
        let Some((shared, mut state)) = self.shared(partition) else {
            return Err(Refusal::Invalid(format!("no partition {partition}")).into());
        };
        if state.epoch != epoch {
            return Err(AppendError::Fenced(partition));
        }
        check_batch(&batch, self.limits, state.floor)?;
        let first = Offset(state.records.len() as u64 + 1);
        for mut record in batch.records {
            record.local.offset = Offset(state.records.len() as u64 + 1);
            record.local.epoch = epoch.0;
            record.local.batch = batch.id;
            state.floor = record.local.stamp;
            if record.kind == Kind::Event {
                let offset = record.local.offset;
                state
                    .entities
                    .entry(record.portable.entity.clone())
                    .or_default()
                    .push(offset);
            }
            state.records.push(Arc::new(record));
        }
        let last = Offset(state.records.len() as u64);
        // Before the state is let go: a claim must find it, and heads must not overtake each other.
        shared.head.send_replace(last);
        drop(state);
        Ok(Appended { first, last })
    }

    fn put_now(&self, put: Put) -> Result<Revision, PutError> {
        if put.incarnation != self.identity.incarnation {
            return Err(PutError::Foreign(self.identity.incarnation));
        }
        let partition = put.area.partition;
        let _owned = self
            .owned(partition, put.epoch)
            .map_err(|_| PutError::Fenced(partition))?;
        let mut areas = self.areas.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = areas.entry(put.area).or_default();
        if stored.revision != put.previous {
            return Err(PutError::Changed(stored.revision));
        }
        if put.clear {
            stored.values.clear();
        }
        for (key, value) in put.changes {
            match value {
                Some(value) => stored.values.insert(key, value),
                None => stored.values.remove(&key),
            };
        }
        stored.revision.0 += 1;
        Ok(stored.revision)
    }
}

impl Engine for Memory {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn claim(&self, partition: Partition) -> BoxFuture<'_, Result<Claim, OwnerError>> {
        Box::pin(async move {
            let (shared, mut state) = self
                .shared(partition)
                .ok_or(OwnerError::NoPartition(partition))?;
            state.epoch.0 += 1;
            Ok(Claim {
                epoch: state.epoch,
                floor: state.floor,
                safe_head: *shared.head.borrow(),
                time: self.world.now(),
            })
        })
    }

    fn renew(
        &self,
        partition: Partition,
        epoch: Epoch,
        floor: Stamp,
    ) -> BoxFuture<'_, Result<(), OwnerError>> {
        Box::pin(async move {
            let mut state = self.owned(partition, epoch)?;
            state.floor = state.floor.max(floor);
            Ok(())
        })
    }

    fn release(&self, partition: Partition, epoch: Epoch) -> BoxFuture<'_, Result<(), OwnerError>> {
        Box::pin(async move {
            self.owned(partition, epoch)?.epoch.0 += 1;
            Ok(())
        })
    }

    fn confirm(&self, partition: Partition, epoch: Epoch) -> BoxFuture<'_, Result<(), OwnerError>> {
        Box::pin(async move { self.owned(partition, epoch).map(drop) })
    }

    fn append(
        &self,
        partition: Partition,
        epoch: Epoch,
        batch: Batch,
    ) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async move { self.append_now(partition, epoch, batch) })
    }

    fn read(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Chunk, ReadError>> {
        Box::pin(async move {
            let (_, state) = self
                .shared(partition)
                .ok_or(ReadError::NoPartition(partition))?;
            let safe_head = Offset(state.records.len() as u64);
            let start = (after.0 as usize).min(state.records.len());
            let mut records: Vec<_> = state.records[start..]
                .iter()
                .take(
                    limit
                        .records
                        .max(1)
                        .saturating_add(self.limits.batch_records),
                )
                .cloned()
                .collect();
            whole_units(&mut records, limit);
            let next = records.last().map_or(after, |record| record.local.offset);
            Ok(Chunk {
                records,
                next,
                safe_head,
            })
        })
    }

    fn safe_head(&self, partition: Partition) -> BoxFuture<'_, Result<Offset, ReadError>> {
        Box::pin(async move {
            let shared = self
                .partitions
                .get(partition.index())
                .ok_or(ReadError::NoPartition(partition))?;
            Ok(*shared.head.borrow())
        })
    }

    fn wait(
        &self,
        partition: Partition,
        after: Offset,
    ) -> BoxFuture<'_, Result<Offset, ReadError>> {
        Box::pin(async move {
            let shared = self
                .partitions
                .get(partition.index())
                .ok_or(ReadError::NoPartition(partition))?;
            let mut head = shared.head.subscribe();
            let reached = head.wait_for(|head| *head > after).await;
            reached
                .map(|head| *head)
                .map_err(|_| ReadError::Unavailable("closed".into()))
        })
    }

    fn indexes_entities(&self) -> bool {
        self.index
    }

    fn read_entity<'a>(
        &'a self,
        partition: Partition,
        entity: &'a EntityKey,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Arc<Record>>, ReadError>> {
        Box::pin(async move {
            if !self.index {
                return Err(ReadError::Unsupported("reading one entity"));
            }
            let (_, state) = self
                .shared(partition)
                .ok_or(ReadError::NoPartition(partition))?;
            let offsets = state
                .entities
                .get(entity)
                .map(Vec::as_slice)
                .unwrap_or_default();
            Ok(offsets
                .iter()
                .filter_map(|offset| state.records.get(offset.0 as usize - 1))
                .filter(|record| record.local.version > after)
                .take(limit)
                .cloned()
                .collect())
        })
    }

    fn put(&self, put: Put) -> BoxFuture<'_, Result<Revision, PutError>> {
        Box::pin(async move { self.put_now(put) })
    }

    fn revision<'a>(&'a self, area: &'a Area) -> BoxFuture<'a, Result<Revision, ReadError>> {
        Box::pin(async move {
            let areas = self.areas.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(areas
                .get(area)
                .map(|stored| stored.revision)
                .unwrap_or_default())
        })
    }

    fn get<'a>(
        &'a self,
        area: &'a Area,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, ReadError>> {
        Box::pin(async move {
            let areas = self.areas.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(areas
                .get(area)
                .and_then(|stored| stored.values.get(key))
                .cloned())
        })
    }

    fn scan<'a>(
        &'a self,
        area: &'a Area,
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Entries, ReadError>> {
        Box::pin(async move {
            use std::ops::Bound::{Excluded, Unbounded};
            let areas = self.areas.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(stored) = areas.get(area) else {
                return Ok(Entries::new());
            };
            let from = after.map_or(Unbounded, Excluded);
            let values = stored.values.range::<[u8], _>((from, Unbounded));
            Ok(values
                .take(limit)
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect())
        })
    }

    fn coordinator(&self) -> Option<Arc<dyn Coordinator>> {
        Some(self.coordinator.clone())
    }

    fn doctor(&self) -> Vec<Finding> {
        vec![Finding {
            name: "storage",
            value: self.durability(),
            loses_data: true,
        }]
    }

    fn durability(&self) -> String {
        "none: kept in memory, gone with the process".into()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
