//! The task that stores state beside the log, so that the owner never waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use everfold_engine::engine::{Area, Engine, Epoch, Put, PutError, Revision};
use everfold_engine::slot::Partition;
use everfold_engine::{Bytes, World};
use tokio::sync::{mpsc, oneshot};

use super::ownership::OwnerStatus;
use super::partition_state::{Cut, partition_area};
use super::remembered::remembered_area;
use super::snapshot::{Snapshot, snapshot_area, snapshot_key};

/// Snapshots of more bytes than this wait for no store: they are lost, and histories longer to read.
const MOST_QUEUED: u64 = 16 << 20;
/// Bytes of snapshots in one put, about.
const PUT_BYTES: usize = 1 << 20;
/// How often a put is tried.
const ATTEMPTS: u32 = 5;

/// Between two series of tries to store a partition's state.
const PAUSE: Duration = Duration::from_secs(10);

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Stored,
    /// The store does not take it now.
    NotNow,
    /// This ownership is over.
    Never,
}

type Changes = Vec<(Bytes, Option<Bytes>)>;

/// Writes one area for one ownership.
pub(crate) struct Writer {
    area: Area,
    epoch: Epoch,
    revision: Option<Revision>,
}

impl Writer {
    pub(crate) fn new(area: Area, epoch: Epoch) -> Self {
        Self {
            area,
            epoch,
            revision: None,
        }
    }

    /// Stores changes as one, trying for a second or two.
    pub(crate) async fn write(
        &mut self,
        engine: &dyn Engine,
        world: &dyn World,
        clear: bool,
        changes: Changes,
    ) -> Written {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                world.sleep(Duration::from_millis(50 << attempt)).await;
            }
            let previous = match self.revision {
                Some(revision) => revision,
                None => match engine.revision(&self.area).await {
                    Ok(revision) => revision,
                    Err(_) => continue,
                },
            };
            let put = Put {
                area: self.area.clone(),
                epoch: self.epoch,
                incarnation: engine.identity().incarnation,
                previous,
                clear,
                changes: changes.clone(),
            };
            match engine.put(put).await {
                Ok(revision) => {
                    self.revision = Some(revision);
                    return Written::Stored;
                }
                // It may have happened; nobody else writes in this epoch, so it is done again.
                Err(PutError::Unavailable(_)) => {
                    world.reached("owner: put without an answer, done again");
                    self.revision = None;
                }
                Err(_) => {
                    world.reached("owner: put of a past ownership refused");
                    return Written::Never;
                }
            }
        }
        Written::NotNow
    }
}

enum Order {
    Snapshot(Snapshot),
    /// What is stored of entities is of another history.
    ClearSnapshots,
    Partition(Cut),
    /// Who is in memory.
    Remembered((Bytes, Option<Bytes>)),
}

/// The owner's side of the task.
pub(super) struct Keeper {
    orders: mpsc::UnboundedSender<Order>,
    shared: Arc<Shared>,
    ended: oneshot::Receiver<()>,
}

#[derive(Default)]
struct Shared {
    queued: AtomicU64,
    cutting: AtomicBool,
    failed: AtomicBool,
}

impl Keeper {
    pub(super) fn start(
        engine: Arc<dyn Engine>,
        world: &Arc<dyn World>,
        partition: Partition,
        epoch: Epoch,
        status: Arc<OwnerStatus>,
    ) -> Self {
        let (orders, receiver) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let shared = Arc::new(Shared::default());
        let task = Task {
            engine,
            world: world.clone(),
            status,
            shared: shared.clone(),
            snapshots: Writer::new(snapshot_area(partition), epoch),
            partition: Writer::new(partition_area(partition), epoch),
            remembered: Writer::new(remembered_area(partition), epoch),
        };
        let run = async move {
            task.run(receiver).await;
            let _ = end.send(());
        };
        world.spawn("store state", Box::pin(run));
        Self {
            orders,
            shared,
            ended,
        }
    }

    /// Stores a snapshot of durable state, unless too many wait already.
    pub(super) fn snapshot(&self, snapshot: Snapshot) {
        let bytes = snapshot.value.len() as u64;
        if self.shared.queued.load(Ordering::Relaxed) <= MOST_QUEUED {
            self.shared.queued.fetch_add(bytes, Ordering::Relaxed);
            // If the task has ended the snapshot is lost, and the history is longer to read.
            let _ = self.orders.send(Order::Snapshot(snapshot));
        }
    }

    pub(super) fn clear_snapshots(&self) {
        let _ = self.orders.send(Order::ClearSnapshots);
    }

    /// Stores who is in memory, if the store takes it.
    pub(super) fn remembered(&self, names: (Bytes, Option<Bytes>)) {
        let _ = self.orders.send(Order::Remembered(names));
    }

    /// Whether a cut is on its way.
    pub(super) fn is_cutting(&self) -> bool {
        self.shared.cutting.load(Ordering::Acquire)
    }

    /// Whether a cut was lost: those after it would build on it.
    pub(super) fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }

    pub(super) fn partition(&self, cut: Cut) {
        self.shared.cutting.store(true, Ordering::Release);
        let _ = self.orders.send(Order::Partition(cut));
    }

    /// Waits until everything is stored.
    pub(super) async fn finish(self) {
        drop(self.orders);
        let _ = self.ended.await;
    }
}

struct Task {
    engine: Arc<dyn Engine>,
    world: Arc<dyn World>,
    status: Arc<OwnerStatus>,
    shared: Arc<Shared>,
    snapshots: Writer,
    partition: Writer,
    remembered: Writer,
}

impl Task {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut waiting = Vec::new();
        while orders.recv_many(&mut waiting, 256).await > 0 {
            let (mut changes, mut bytes) = (Changes::new(), 0);
            for order in waiting.drain(..) {
                match order {
                    Order::Snapshot(snapshot) => {
                        let key = Bytes::from(snapshot_key(&snapshot.entity));
                        bytes += snapshot.value.len();
                        changes.push((key, Some(Bytes::from(snapshot.value))));
                        if bytes >= PUT_BYTES {
                            self.keep_snapshots(std::mem::take(&mut changes), bytes)
                                .await;
                            bytes = 0;
                        }
                    }
                    Order::ClearSnapshots => {
                        let (engine, world) = (self.engine.as_ref(), self.world.as_ref());
                        self.snapshots
                            .write(engine, world, true, Changes::new())
                            .await;
                    }
                    Order::Partition(cut) => self.keep_partition(cut, &orders).await,
                    Order::Remembered(names) => {
                        let (engine, world) = (self.engine.as_ref(), self.world.as_ref());
                        let changes = vec![names];
                        self.remembered.write(engine, world, true, changes).await;
                    }
                }
            }
            if !changes.is_empty() {
                self.keep_snapshots(changes, bytes).await;
            }
        }
    }

    async fn keep_snapshots(&mut self, changes: Changes, bytes: usize) {
        let count = changes.len() as u64;
        let (engine, world) = (self.engine.as_ref(), self.world.as_ref());
        let written = self.snapshots.write(engine, world, false, changes).await;
        if written == Written::Stored {
            self.status.snapshots.fetch_add(count, Ordering::Relaxed);
        }
        self.shared
            .queued
            .fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Tries until it is stored or the ownership ends: cuts after it build on it.
    async fn keep_partition(&mut self, cut: Cut, orders: &mpsc::UnboundedReceiver<Order>) {
        let (engine, world) = (self.engine.as_ref(), self.world.as_ref());
        let failed = &self.shared.failed;
        while !failed.load(Ordering::Acquire) {
            let changes = cut.changes.clone();
            match self
                .partition
                .write(engine, world, cut.clear, changes)
                .await
            {
                Written::Stored => {
                    self.status.stored.store(cut.offset.0, Ordering::Relaxed);
                    break;
                }
                Written::NotNow if !orders.is_closed() => world.sleep(PAUSE).await,
                Written::NotNow | Written::Never => failed.store(true, Ordering::Release),
            }
        }
        self.shared.cutting.store(false, Ordering::Release);
    }
}
