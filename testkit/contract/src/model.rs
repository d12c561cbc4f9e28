//! The engine against a model that anyone can check by looking at it.

use std::collections::BTreeMap;
use std::sync::Arc;

use everfold_engine::engine::{AppendError, Area, Epoch, Put, PutError, ReadLimit, Revision};
use everfold_engine::record::Kind;
use everfold_engine::{Bytes, Engine, Partition, Record, Stamp};

use crate::bench::{Bench, read_all, unlinked};
use crate::check::{Checked, Tried, same};
use crate::harness::{Ending, PARTITIONS};
use crate::owner::Owner;
use crate::sample::{event, unusual};

/// What a partition holds.
#[derive(Default)]
struct Plain {
    epoch: Option<Epoch>,
    floor: Stamp,
    records: Vec<Record>,
    areas: BTreeMap<Area, (u64, BTreeMap<Bytes, Bytes>)>,
}

struct Run<'a> {
    bench: &'a Bench,
    /// Away only while the log is opened again.
    engine: Option<Arc<dyn Engine>>,
    plain: Vec<Plain>,
    owners: Vec<Option<Owner>>,
}

/// Random calls; after each, engine and model say the same.
pub(crate) async fn a_plain_model_agrees(bench: &Bench) -> Checked {
    let mut run = Run {
        bench,
        engine: Some(bench.engine()?),
        plain: (0..PARTITIONS).map(|_| Plain::default()).collect(),
        owners: (0..PARTITIONS).map(|_| None).collect(),
    };
    let mut steps = Vec::new();
    for _ in 0..300 {
        let partition = Partition(bench.below(u64::from(PARTITIONS)) as u16);
        let (name, checked) = run.step(partition).await;
        steps.push(format!("{name}({partition})"));
        checked.map_err(|why| {
            let recent = steps.len().saturating_sub(12);
            format!(
                "{why}; after {} steps: {}",
                steps.len(),
                steps[recent..].join(", ")
            )
        })?;
    }
    Ok(())
}

impl Run<'_> {
    fn engine(&self) -> Checked<&Arc<dyn Engine>> {
        self.engine.as_ref().ok_or_else(|| "no engine".into())
    }

    async fn step(&mut self, partition: Partition) -> (&'static str, Checked) {
        match self.bench.below(20) {
            0 | 1 => ("claim", self.claim(partition).await),
            2..=7 => ("append", self.append(partition).await),
            8 => ("append late", self.append_late(partition).await),
            9 => ("renew", self.renew(partition).await),
            10..=12 => ("put", self.put(partition).await),
            13..=15 => ("read", self.read(partition).await),
            16 | 17 => ("scan", self.scan(partition).await),
            18 => ("entity", self.entity(partition).await),
            _ => ("restart", self.restart().await),
        }
    }

    async fn claim(&mut self, partition: Partition) -> Checked {
        let owner = Owner::claim(self.engine()?.clone(), partition).await?;
        let plain = &mut self.plain[partition.index()];
        ensure!(Some(owner.epoch()) > plain.epoch, "the epoch did not grow");
        ensure!(owner.claim.floor >= plain.floor, "the floor fell");
        plain.epoch = Some(owner.epoch());
        plain.floor = owner.claim.floor;
        self.owners[partition.index()] = Some(owner);
        Ok(())
    }

    async fn append(&mut self, partition: Partition) -> Checked {
        let bench = self.bench;
        let Some(owner) = &mut self.owners[partition.index()] else {
            return Ok(());
        };
        let units = (0..=bench.below(3)).map(|_| match bench.below(4) {
            0 => unusual(&*bench.world),
            _ => (0..=bench.below(3))
                .map(|_| event(&bench.below(5).to_string()))
                .collect(),
        });
        let records = owner.append(units.collect()).await?;
        let plain = &mut self.plain[partition.index()];
        plain.floor = owner.tail.stamp;
        plain.records.extend(records);
        Ok(())
    }

    async fn append_late(&mut self, partition: Partition) -> Checked {
        let Some(mut old) = self.owners[partition.index()].take() else {
            return Ok(());
        };
        self.claim(partition).await?;
        let batch = old.compose(vec![vec![event("late")]]);
        ensure_form!(
            old.try_append(batch).await,
            Err(AppendError::Fenced(_)),
            "a late append"
        );
        Ok(())
    }

    async fn renew(&mut self, partition: Partition) -> Checked {
        let Some(owner) = &mut self.owners[partition.index()] else {
            return Ok(());
        };
        let floor = Stamp::next(owner.tail.stamp, owner.claim.time, partition);
        let renewed = owner.engine.renew(partition, owner.epoch(), floor).await;
        renewed.tried("renewing")?;
        owner.tail.stamp = floor;
        self.plain[partition.index()].floor = floor;
        Ok(())
    }

    fn area(&self, partition: Partition) -> Area {
        Area {
            name: ["a", "b"][self.bench.below(2) as usize].into(),
            partition,
        }
    }

    async fn put(&mut self, partition: Partition) -> Checked {
        let (area, bench) = (self.area(partition), self.bench);
        let engine = self.engine()?.clone();
        let plain = &mut self.plain[partition.index()];
        let Some(epoch) = plain.epoch else {
            return Ok(());
        };
        let (revision, values) = plain.areas.entry(area.clone()).or_default();
        let stale = bench.below(4) == 0;
        let byte = |bound| Bytes::from(vec![bench.below(bound) as u8]);
        let changes: Vec<_> = (0..bench.below(4))
            .map(|_| (byte(6), (bench.below(3) > 0).then(|| byte(250))))
            .collect();
        let put = Put {
            area,
            epoch,
            incarnation: engine.identity().incarnation,
            previous: Revision(*revision + u64::from(stale)),
            clear: bench.below(6) == 0,
            changes: changes.clone(),
        };
        let clear = put.clear;
        let result = engine.put(put).await;
        if stale {
            ensure_form!(result, Err(PutError::Changed(_)), "a stale put");
            return Ok(());
        }
        *revision += 1;
        same(&result, &Ok(Revision(*revision)), "a put")?;
        if clear {
            values.clear();
        }
        for (key, value) in changes {
            match value {
                Some(value) => values.insert(key, value),
                None => values.remove(&key),
            };
        }
        Ok(())
    }

    async fn read(&self, partition: Partition) -> Checked {
        let limit = ReadLimit {
            records: self.bench.below(20) as usize,
            bytes: self.bench.below(4000) as usize,
        };
        let found = read_all(&**self.engine()?, partition, limit).await?;
        same(&found, &self.plain[partition.index()].records, "records")
    }

    async fn scan(&self, partition: Partition) -> Checked {
        let area = self.area(partition);
        let found = self.engine()?.scan(&area, None, usize::MAX).await;
        let known = self.engine()?.revision(&area).await;
        let (revision, values) = self.plain[partition.index()]
            .areas
            .get(&area)
            .cloned()
            .unwrap_or_default();
        same(&known, &Ok(Revision(revision)), "revision")?;
        same(&found, &Ok(values.into_iter().collect()), "values")
    }

    async fn entity(&self, partition: Partition) -> Checked {
        if !self.bench.offers.entities {
            return Ok(());
        }
        let key = event(&self.bench.below(5).to_string()).portable.entity;
        let (after, limit) = (self.bench.below(5), self.bench.below(8) as usize);
        let found = self
            .engine()?
            .read_entity(partition, &key, after, limit)
            .await
            .tried("reading an entity")?;
        let expected = self.plain[partition.index()]
            .records
            .iter()
            .filter(|record| record.kind == Kind::Event && record.portable.entity == key)
            .filter(|record| record.local.version > after)
            .take(limit);
        let found: Vec<_> = found.iter().map(|record| unlinked(record)).collect();
        let expected = expected.map(unlinked).collect();
        same(&found, &expected, "events of an entity")
    }

    async fn restart(&mut self) -> Checked {
        if !self.bench.offers.durable {
            return Ok(());
        }
        let ending = match self.bench.below(2) {
            0 => Ending::Closed,
            _ => Ending::Crashed,
        };
        self.owners.fill_with(|| None);
        // Nothing may hold the engine when it vanishes.
        if let Some(engine) = self.engine.take() {
            self.engine = Some(self.bench.reopen(engine, ending).await);
        }
        for partition in (0..PARTITIONS).map(Partition) {
            self.claim(partition).await?;
            self.read(partition).await?;
        }
        Ok(())
    }
}
