//! An owner as simple as can be, and what must be true of every log.

use std::collections::BTreeMap;
use std::sync::Arc;

use everfold_engine::engine::{AppendError, Appended, Batch, Claim, Epoch, OwnerError, ReadLimit};
use everfold_engine::record::{Dot, Kind, Link, Local, Portable, Unit};
use everfold_engine::{Engine, EntityKey, Offset, Partition, Record, Stamp};

/// A claimed partition, and what its next records depend on.
pub struct Owner {
    pub engine: Arc<dyn Engine>,
    pub partition: Partition,
    pub claim: Claim,
    tail: Tail,
    batches: u64,
}

#[derive(Clone, Default)]
struct Tail {
    stamp: Stamp,
    link: Link,
    versions: BTreeMap<EntityKey, u64>,
    counter: u64,
}

/// An event of the entity `thing-id`, not yet composed.
pub fn event(id: &str) -> Record {
    let mut portable = Portable::new(EntityKey::new("thing", id), "Happened");
    portable.payload = "{}".into();
    Record {
        kind: Kind::Event,
        portable,
        local: Local {
            offset: Offset(0),
            version: 0,
            epoch: 0,
            batch: 0,
            stamp: Stamp(0),
            reply: None,
            link: Link::default(),
        },
    }
}

impl Owner {
    /// Claims, and reads what is there as every owner does.
    pub async fn claim(engine: Arc<dyn Engine>, partition: u16) -> Result<Self, OwnerError> {
        let partition = Partition(partition);
        let claim = engine.claim(partition).await?;
        Ok(Self::of(engine, partition, claim).await.unwrap())
    }

    /// After a claim; `None` if the server is gone before everything was read.
    pub async fn of(engine: Arc<dyn Engine>, partition: Partition, claim: Claim) -> Option<Self> {
        let mut tail = Tail {
            stamp: claim.floor,
            ..Tail::default()
        };
        for record in read(&*engine, partition).await? {
            tail.stamp = tail.stamp.max(record.local.stamp);
            tail.link = record.local.link;
            let entity = record.portable.entity.clone();
            tail.versions.insert(entity, record.local.version);
            tail.counter += 1;
        }
        Some(Self {
            engine,
            partition,
            claim,
            tail,
            batches: 0,
        })
    }

    pub fn epoch(&self) -> Epoch {
        self.claim.epoch
    }

    /// A batch of one unit.
    pub fn batch(&mut self, unit: Vec<Record>) -> Batch {
        self.batches += 1;
        let count = unit.len() as u32;
        let mut records = Vec::new();
        for (index, mut record) in (0..).zip(unit) {
            record.portable.unit = Unit { index, count };
            let entity = record.portable.entity.clone();
            let version = self.tail.versions.entry(entity).or_default();
            *version += 1;
            record.local.version = *version;
            self.tail.counter += 1;
            record.portable.dot = Some(Dot {
                origin: self.engine.identity().origin(),
                partition: self.partition,
                counter: self.tail.counter,
            });
            self.tail.stamp = Stamp::next(self.tail.stamp, self.claim.time, self.partition);
            record.local.stamp = self.tail.stamp;
            record.local.link = record.link_after(self.tail.link);
            self.tail.link = record.local.link;
            records.push(record);
        }
        Batch::new(self.batches, records)
    }

    /// Appends a unit of one event for each name. What was refused did not happen, for the next one.
    pub async fn append(&mut self, names: &[&str]) -> Result<Appended, AppendError> {
        let before = self.tail.clone();
        let batch = self.batch(names.iter().map(|name| event(name)).collect());
        let appended = self.try_append(batch).await;
        if appended.is_err() {
            self.tail = before;
        }
        appended
    }

    /// Appends a batch made with [`Owner::batch`].
    pub async fn try_append(&self, batch: Batch) -> Result<Appended, AppendError> {
        self.engine
            .append(self.partition, self.epoch(), batch)
            .await
    }

    pub async fn confirm(&self) -> Result<(), OwnerError> {
        self.engine.confirm(self.partition, self.epoch()).await
    }
}

/// Everything in a partition; `None` if it cannot be read now.
async fn read(engine: &dyn Engine, partition: Partition) -> Option<Vec<Arc<Record>>> {
    let mut records: Vec<Arc<Record>> = Vec::new();
    loop {
        let after = records.last().map_or(Offset(0), |last| last.local.offset);
        let chunk = engine.read(partition, after, ReadLimit::default()).await;
        let chunk = chunk.ok()?;
        assert!(chunk.next <= chunk.safe_head);
        if chunk.records.is_empty() {
            assert_eq!(
                chunk.safe_head, after,
                "something lies where nothing is read"
            );
            return Some(records);
        }
        records.extend(chunk.records);
    }
}

/// Everything in a partition, which must be sound: offsets without holes, units whole, the chain of
/// links closed, the versions of every entity consecutive.
pub async fn sound(engine: &dyn Engine, partition: Partition) -> Vec<Arc<Record>> {
    let records = read(engine, partition).await.unwrap();
    let (mut link, mut unit) = (Link::default(), 0);
    let mut versions: BTreeMap<&EntityKey, u64> = BTreeMap::new();
    for (offset, record) in (1..).zip(&records) {
        assert_eq!(record.local.offset, Offset(offset), "a hole");
        assert_eq!(record.portable.unit.index, unit, "a unit is not whole");
        unit = match record.portable.unit.is_last() {
            true => 0,
            false => unit + 1,
        };
        assert_eq!(record.local.link, record.link_after(link), "at {offset}");
        link = record.local.link;
        let version = versions.entry(&record.portable.entity).or_default();
        *version += 1;
        assert_eq!(record.local.version, *version, "at {offset}");
    }
    assert_eq!(unit, 0, "the last unit is not whole");
    records
}

/// The names of the entities whose events these are, in order.
pub fn names(records: &[Arc<Record>]) -> Vec<&str> {
    let names = records.iter();
    names
        .map(|record| record.portable.entity.id.as_ref())
        .collect()
}
