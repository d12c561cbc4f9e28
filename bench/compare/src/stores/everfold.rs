//! Everfold's embedded log behind its `Engine` trait, with a small front per partition that checks
//! versions and fills in what an owner fills in.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use everfold_engine::engine::{Batch, Epoch, ReadLimit};
use everfold_engine::record::{Dot, Kind, Link, Local, Origin, Portable, Record};
use everfold_engine::world::System;
use everfold_engine::{
    Engine, EntityKey, HybridTime, Offset, Partition, Stamp, Text, Timestamp, World,
};
use everfold_log::{Log, Options};
use tokio::sync::{mpsc, oneshot};

use crate::front::{GROUP, QUEUE, Request, Versions, ask};
use crate::store::{Held, Refused, Replayed, Store, Work};
use crate::workload::{EVENT_TYPE, Event, HISTORY, name};

/// The type of the entities.
const ORDER: Text = Text::from_static("order");

struct Embedded {
    engine: Arc<dyn Engine>,
    owners: Vec<mpsc::Sender<Request>>,
}

/// A log in a fresh directory.
pub(crate) async fn open(directory: &Path, partitions: u16) -> anyhow::Result<Arc<dyn Store>> {
    let world = System::current();
    let mut options = Options::default();
    options.partitions = Some(partitions);
    let engine: Arc<dyn Engine> =
        Log::open_directory(directory.join("log"), world.clone(), options)?;
    let mut owners = Vec::new();
    for partition in engine.identity().layout.all() {
        let owner = Owner::claim(engine.clone(), world.clone(), partition).await?;
        let (sender, inbox) = mpsc::channel(QUEUE);
        tokio::spawn(owner.serve(inbox));
        owners.push(sender);
    }
    Ok(Arc::new(Embedded { engine, owners }))
}

fn key(entity: &str) -> EntityKey {
    EntityKey::new(ORDER, entity)
}

impl Embedded {
    async fn read(&self, partition: Partition, replayed: &mut Replayed) -> anyhow::Result<()> {
        let head = self.engine.safe_head(partition).await?;
        let mut at = Offset(0);
        while at < head {
            let chunk = self
                .engine
                .read(partition, at, ReadLimit::default())
                .await?;
            for record in &chunk.records {
                if record.kind == Kind::Event {
                    replayed.add(record.portable.payload.len());
                }
            }
            at = chunk.next;
        }
        Ok(())
    }
}

impl Store for Embedded {
    fn append(&self, event: Event, expected: u64) -> Work<'_, Result<u64, Refused>> {
        Box::pin(async move {
            let partition = self.engine.identity().layout.partition(&event.entity);
            let owner = self.owners.get(partition.index());
            ask(owner.context("no owner")?, event, expected).await
        })
    }

    fn durability(&self) -> Option<String> {
        let findings = self.engine.doctor();
        let write = findings.iter().find(|it| it.name == "durable write")?;
        Some(format!("after a write of its group with {}", write.value))
    }

    fn replay(&self) -> Work<'_, anyhow::Result<Replayed>> {
        Box::pin(async {
            let mut replayed = Replayed::default();
            for partition in self.engine.identity().layout.all() {
                self.read(partition, &mut replayed).await?;
            }
            Ok(replayed)
        })
    }

    fn history(&self, entity: usize) -> Work<'_, anyhow::Result<Option<Replayed>>> {
        Box::pin(async move {
            let key = key(&name(entity));
            let partition = self.engine.identity().layout.partition(&key.id);
            let records = self.engine.read_entity(partition, &key, 0, HISTORY).await?;
            let mut replayed = Replayed::default();
            for record in records {
                replayed.add(record.portable.payload.len());
            }
            Ok(Some(replayed))
        })
    }

    fn follow(&self, held: Held) -> Work<'_, anyhow::Result<bool>> {
        Box::pin(async move {
            for partition in self.engine.identity().layout.all() {
                let after = self.engine.safe_head(partition).await?;
                let follower = follow(self.engine.clone(), partition, after, held.clone());
                tokio::spawn(follower);
            }
            Ok(true)
        })
    }

    fn close(&self) -> Work<'_, anyhow::Result<()>> {
        Box::pin(async {
            self.engine.close().await;
            Ok(())
        })
    }
}

/// Reads a partition as it grows; an error is the end of the log.
async fn follow(engine: Arc<dyn Engine>, partition: Partition, mut after: Offset, held: Held) {
    while engine.wait(partition, after).await.is_ok() {
        let Ok(chunk) = engine.read(partition, after, ReadLimit::default()).await else {
            return;
        };
        for _ in &chunk.records {
            if held.send(Instant::now()).is_err() {
                return;
            }
        }
        after = chunk.next;
    }
}

/// Owns one partition: decides nothing, only checks versions.
struct Owner {
    engine: Arc<dyn Engine>,
    world: Arc<dyn World>,
    partition: Partition,
    epoch: Epoch,
    origin: Origin,
    chained: bool,
    versions: Versions,
    stamp: Stamp,
    hybrid: HybridTime,
    link: Link,
    counter: u64,
    batches: u64,
}

/// Appends that were accepted, and whom to tell.
type Answers = Vec<(oneshot::Sender<Result<u64, Refused>>, u64)>;

impl Owner {
    /// The log is fresh: what goes before is this claim.
    async fn claim(
        engine: Arc<dyn Engine>,
        world: Arc<dyn World>,
        partition: Partition,
    ) -> anyhow::Result<Self> {
        let claim = engine.claim(partition).await?;
        let before = engine
            .read(partition, Offset(0), ReadLimit::default())
            .await?;
        let last = before.records.last().context("a claim leaves a record")?;
        let identity = engine.identity();
        Ok(Self {
            partition,
            epoch: claim.epoch,
            origin: identity.origin(),
            chained: identity.chained,
            versions: Versions::new(),
            stamp: claim.floor.max(last.local.stamp),
            hybrid: last.portable.hybrid,
            link: last.local.link,
            counter: 0,
            batches: 0,
            engine,
            world,
        })
    }

    /// One batch after the other, each with all that waits.
    async fn serve(mut self, mut inbox: mpsc::Receiver<Request>) {
        let engine = self.engine.clone();
        let (partition, epoch) = (self.partition, self.epoch);
        let mut waiting = Vec::with_capacity(GROUP);
        while inbox.recv_many(&mut waiting, GROUP).await > 0 {
            let (records, answers) = self.batch(&mut waiting);
            if records.is_empty() {
                continue;
            }
            self.batches += 1;
            let id = self.batches;
            let appended = engine.append(partition, epoch, Batch::new(id, records)).await;
            for (done, version) in answers {
                // Whoever asked may have gone away.
                let _ = done.send(match &appended {
                    Ok(_) => Ok(version),
                    Err(error) => Err(error.clone().into()),
                });
            }
            if appended.is_err() {
                // What the table says is no longer what the log has.
                return;
            }
        }
    }

    fn batch(&mut self, waiting: &mut Vec<Request>) -> (Vec<Record>, Answers) {
        let mut records = Vec::with_capacity(waiting.len());
        let mut answers = Vec::with_capacity(waiting.len());
        let now = self.world.now();
        for request in waiting.drain(..) {
            let entity = &request.event.entity;
            match self.versions.next(entity, request.expected) {
                Ok(version) => {
                    records.push(self.record(request.event, version, now));
                    answers.push((request.done, version));
                }
                Err(refused) => drop(request.done.send(Err(refused))),
            }
        }
        (records, answers)
    }

    fn record(&mut self, event: Event, version: u64, now: Timestamp) -> Record {
        self.stamp = Stamp::next(self.stamp, now, self.partition);
        self.hybrid = self.hybrid.next(now);
        self.counter += 1;
        let mut portable = Portable::new(key(&event.entity), Text::from_static(EVENT_TYPE));
        portable.event_id = event.id;
        portable.correlation = Some(event.id);
        portable.effective = self.stamp.time();
        portable.hybrid = self.hybrid;
        portable.dot = Some(Dot {
            origin: self.origin.clone(),
            partition: self.partition,
            counter: self.counter,
        });
        portable.payload = event.payload.into();
        let mut record = Record {
            kind: Kind::Event,
            portable,
            local: Local {
                offset: Offset(0),
                version,
                epoch: self.epoch.0,
                batch: self.batches + 1,
                stamp: self.stamp,
                reply: None,
                link: Link::default(),
            },
        };
        if self.chained {
            self.link = record.link_after(self.link);
            record.local.link = self.link;
        }
        record
    }
}
