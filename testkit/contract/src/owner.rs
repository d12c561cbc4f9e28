//! An owner as simple as can be: fills in what owners fill in, and knows what must come back.

use std::collections::BTreeMap;
use std::sync::Arc;

use everfold_engine::engine::{AppendError, Appended, Batch, Claim, Epoch, ReadLimit};
use everfold_engine::record::{Dot, Kind, Link, Unit};
use everfold_engine::{Engine, EntityKey, Offset, Partition, Record, Stamp};

use crate::bench::{read_all, read_everything};
use crate::check::{Checked, Tried};

/// A claimed partition and what its next records depend on.
pub(crate) struct Owner {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) partition: Partition,
    pub(crate) claim: Claim,
    pub(crate) tail: Tail,
    batches: u64,
}

/// The state after the last record.
#[derive(Clone, Default)]
pub(crate) struct Tail {
    pub(crate) stamp: Stamp,
    link: Link,
    versions: BTreeMap<EntityKey, u64>,
    counter: u64,
}

impl Tail {
    fn pass(&mut self, record: &Record) {
        self.stamp = self.stamp.max(record.local.stamp);
        self.link = record.local.link;
        if record.kind == Kind::Event {
            let version = record.local.version;
            self.versions
                .insert(record.portable.entity.clone(), version);
            self.counter += 1;
        }
    }
}

impl Owner {
    /// Claims, then reads up to the safe head as every owner does.
    pub(crate) async fn claim(engine: Arc<dyn Engine>, partition: Partition) -> Checked<Self> {
        let claim = engine.claim(partition).await.tried("claiming")?;
        let mut tail = Tail::default();
        let known = read_everything(&*engine, partition, ReadLimit::default()).await?;
        known.iter().for_each(|record| tail.pass(record));
        tail.stamp = tail.stamp.max(claim.floor);
        Ok(Self {
            engine,
            partition,
            claim,
            tail,
            batches: 0,
        })
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.claim.epoch
    }

    /// A batch of these units, as if everything before it will be appended.
    pub(crate) fn compose(&mut self, units: Vec<Vec<Record>>) -> Batch {
        self.batches += 1;
        let (origin, chained) = {
            let identity = self.engine.identity();
            (identity.origin(), identity.chained)
        };
        let mut records = Vec::new();
        for unit in units {
            let count = unit.len() as u32;
            for (index, mut record) in (0..).zip(unit) {
                record.portable.unit = Unit { index, count };
                if record.kind == Kind::Event {
                    let known = self.tail.versions.get(&record.portable.entity);
                    record.local.version = known.copied().unwrap_or_default() + 1;
                    record.portable.dot = Some(Dot {
                        origin: origin.clone(),
                        partition: self.partition,
                        counter: self.tail.counter + 1,
                    });
                }
                record.local.stamp = Stamp::next(self.tail.stamp, self.claim.time, self.partition);
                if chained {
                    record.local.link = record.link_after(self.tail.link);
                }
                self.tail.pass(&record);
                records.push(record);
            }
        }
        Batch::new(self.batches, records)
    }

    /// Appends a composed batch.
    pub(crate) async fn try_append(&self, batch: Batch) -> Result<Appended, AppendError> {
        self.engine
            .append(self.partition, self.epoch(), batch)
            .await
    }

    /// What must be read after a batch was put there.
    pub(crate) fn expected(&self, batch: &Batch, at: Appended) -> Checked<Vec<Record>> {
        let count = batch.records.len() as u64;
        ensure!(
            at.last.0 + 1 == at.first.0 + count,
            "{count} records were given the offsets {} to {}",
            at.first,
            at.last
        );
        let mut records = batch.records.clone();
        for (index, record) in (0..).zip(&mut records) {
            record.local.offset = Offset(at.first.0 + index);
            record.local.epoch = self.epoch().0;
            record.local.batch = batch.id;
        }
        Ok(records)
    }

    /// Appends units in one batch and waits until they can be read; returns what must be read.
    pub(crate) async fn append(&mut self, units: Vec<Vec<Record>>) -> Checked<Vec<Record>> {
        let batch = self.compose(units);
        let at = self.try_append(batch.clone()).await.tried("appending")?;
        let expected = self.expected(&batch, at)?;
        let before = Offset(at.last.0 - 1);
        let head = self
            .engine
            .wait(self.partition, before)
            .await
            .tried("waiting for what was acknowledged")?;
        ensure!(
            head >= at.last,
            "waiting past {before} resolved with {head}"
        );
        Ok(expected)
    }

    /// Everything that can be read now.
    pub(crate) async fn all(&self) -> Checked<Vec<Record>> {
        read_all(&*self.engine, self.partition, ReadLimit::default()).await
    }
}
