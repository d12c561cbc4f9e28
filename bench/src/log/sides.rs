//! Both sides as targets of the same writers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use everfold_engine::engine::ReadLimit;
use everfold_engine::world::World;
use everfold_engine::{Engine, Layout, Offset, Record};
use everfold_log::{Log, Options};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::bare::Append;
use super::front::Front;
use super::sizes::frame_bytes;
use crate::bare_log::QUEUE;
use crate::load::Target;
use crate::unit::{Ids, Maker};

/// Bytes per event are counted over so many of a partition's newest events.
const LOOKED_AT: u64 = 8192;

/// What both sides' writers do: make a unit, hand it over, wait.
struct Writers {
    maker: Arc<Maker>,
    world: Arc<dyn World>,
    events: usize,
}

impl Writers {
    fn append(&self, order: usize, seed: u64) -> anyhow::Result<(Append, oneshot::Receiver<()>)> {
        let now = self.world.now();
        let (partition, records) = self.maker.unit(order, seed, self.events, now)?;
        let (done, answer) = oneshot::channel();
        let append = Append {
            partition,
            records,
            done,
        };
        Ok((append, answer))
    }
}

async fn through(
    sender: &mpsc::Sender<Append>,
    (append, answer): (Append, oneshot::Receiver<()>),
) -> anyhow::Result<()> {
    let gone = "it takes no more appends";
    sender.send(append).await.ok().context(gone)?;
    answer.await.context(gone)
}

/// The log.
pub(crate) struct Ours {
    log: Arc<dyn Engine>,
    world: Arc<dyn World>,
    maker: Arc<Maker>,
    batches: Arc<AtomicU64>,
}

impl Ours {
    pub(crate) async fn open(
        directory: &Path,
        world: Arc<dyn World>,
        layout: Layout,
        ids: Ids,
        chained: bool,
    ) -> anyhow::Result<Self> {
        let mut options = Options::default();
        options.partitions = Some(layout.partitions);
        options.chained = Some(chained);
        let log = Log::open_directory(directory, world.clone(), options)?;
        Ok(Self::over(log, world, ids))
    }

    /// The same over any engine.
    pub(crate) fn over(log: Arc<dyn Engine>, world: Arc<dyn World>, ids: Ids) -> Self {
        let maker = Arc::new(Maker::new(ids, log.identity().layout));
        Self {
            log,
            world,
            maker,
            batches: Arc::default(),
        }
    }

    pub(crate) fn log(&self) -> &dyn Engine {
        &*self.log
    }

    /// Batches appended so far, of all partitions.
    pub(crate) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// A front for each partition, for units of so many events.
    pub(crate) async fn fronts(&self, events: usize) -> anyhow::Result<Fronts> {
        let (mut senders, mut tasks) = (Vec::new(), Vec::new());
        for partition in self.log.identity().layout.all() {
            let (log, world) = (self.log.clone(), self.world.clone());
            let front = Front::claim(log, world, partition, self.batches.clone()).await?;
            let (sender, inbox) = mpsc::channel(QUEUE);
            senders.push(sender);
            tasks.push(tokio::spawn(front.serve(inbox, events)));
        }
        let writers = Writers {
            maker: self.maker.clone(),
            world: self.world.clone(),
            events,
        };
        Ok(Fronts {
            target: Arc::new(Fronted { writers, senders }),
            tasks,
        })
    }

    /// The last offset of each partition.
    pub(super) async fn heads(&self) -> anyhow::Result<Vec<Offset>> {
        let mut heads = Vec::new();
        for partition in self.log.identity().layout.all() {
            heads.push(self.log.safe_head(partition).await?);
        }
        Ok(heads)
    }

    /// Bytes of the journal per event, of the newest batches of each partition after an offset.
    pub(super) async fn bytes_per_event(&self, since: &[Offset]) -> anyhow::Result<f64> {
        let (mut bytes, mut events) = (0, 0);
        for (partition, since) in self.log.identity().layout.all().zip(since) {
            let head = self.log.safe_head(partition).await?;
            let mut after = Offset(head.0.saturating_sub(LOOKED_AT).max(since.0));
            let mut batch: Vec<Record> = Vec::new();
            // The first batch may be cut.
            let mut whole = after == *since;
            while after < head {
                let chunk = self
                    .log
                    .read(partition, after, ReadLimit::default())
                    .await?;
                for record in &chunk.records {
                    let begins = batch.last().is_some_and(|last| {
                        let of = |record: &Record| (record.local.epoch, record.local.batch);
                        of(last) != of(record)
                    });
                    if begins {
                        if whole {
                            bytes += frame_bytes(&batch, self.log.identity());
                            events += batch.len();
                        }
                        whole = true;
                        batch.clear();
                    }
                    batch.push(Record::clone(record));
                }
                after = chunk.next;
            }
            if whole {
                bytes += frame_bytes(&batch, self.log.identity());
                events += batch.len();
            }
        }
        Ok(bytes as f64 / events.max(1) as f64)
    }
}

/// The running fronts of all partitions.
pub(crate) struct Fronts {
    pub(crate) target: Arc<Fronted>,
    tasks: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Fronts {
    /// Ends them; says what went wrong, if anything did.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        drop(self.target);
        for task in self.tasks {
            task.await??;
        }
        Ok(())
    }
}

/// The log behind one front per partition.
pub(crate) struct Fronted {
    writers: Writers,
    senders: Vec<mpsc::Sender<Append>>,
}

impl Target for Fronted {
    async fn send(&self, order: usize, seed: u64) -> anyhow::Result<()> {
        let append = self.writers.append(order, seed)?;
        through(&self.senders[append.0.partition.index()], append).await
    }
}

/// The bare log, or whatever else takes appends of all partitions.
pub(crate) struct Bare {
    writers: Writers,
    sender: mpsc::Sender<Append>,
}

impl Bare {
    pub(crate) fn new(
        sender: mpsc::Sender<Append>,
        world: Arc<dyn World>,
        ids: Ids,
        layout: Layout,
        events: usize,
    ) -> Self {
        let writers = Writers {
            maker: Arc::new(Maker::new(ids, layout)),
            world,
            events,
        };
        Self { writers, sender }
    }
}

impl Target for Bare {
    async fn send(&self, order: usize, seed: u64) -> anyhow::Result<()> {
        let append = self.writers.append(order, seed)?;
        through(&self.sender, append).await
    }
}
