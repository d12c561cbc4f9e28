//! A world without threads, and shorthands for records and logs.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use everfold_engine::engine::{Batch, BoxFuture, Claim, Engine, Epoch, ReadError, ReadLimit};
use everfold_engine::record::{Kind, Link, Local, Portable, Record, Unit};
use everfold_engine::world::{Machine, Poke, Progress};
use everfold_engine::{EntityKey, Offset, Partition, Stamp, Timestamp, World};
use everfold_log::{Disk, Log, MemoryDisk, OpenError, Options};

type Job = Box<dyn FnOnce() + Send>;

/// What goes on beside the test.
#[derive(Default)]
struct Others {
    machines: Mutex<Vec<Box<dyn Machine>>>,
    tasks: Mutex<Vec<BoxFuture<'static, ()>>>,
}

/// Machines run when [`Still::run`] is called, or at every poke; jobs run at once.
pub struct Still {
    seed: AtomicU64,
    others: Arc<Others>,
    at_once: bool,
    held: Mutex<Option<Vec<Job>>>,
}

impl Still {
    /// Keeps jobs back from now on.
    pub fn hold_jobs(&self) {
        *self.held.lock().unwrap() = Some(Vec::new());
    }

    /// Runs the jobs that were kept back.
    pub fn release_jobs(&self) {
        let held = self.held.lock().unwrap().take();
        held.unwrap_or_default().into_iter().for_each(|job| job());
    }

    /// Machines run whenever they are poked.
    pub fn eager() -> Arc<Self> {
        Self::new(true)
    }

    /// Machines run when told.
    pub fn patient() -> Arc<Self> {
        Self::new(false)
    }

    fn new(at_once: bool) -> Arc<Self> {
        Arc::new(Self {
            seed: AtomicU64::new(1),
            others: Arc::default(),
            at_once,
            held: Mutex::default(),
        })
    }

    pub fn run(&self) {
        run(&self.others);
    }

    /// The process is gone: whatever ran is dropped, and with it its locks.
    pub fn end(&self) {
        let machines = std::mem::take(&mut *self.others.machines.lock().unwrap());
        drop(machines);
        let tasks = std::mem::take(&mut *self.others.tasks.lock().unwrap());
        drop(tasks);
    }
}

fn run(others: &Others) {
    // A poke from within a step has no effect: the machine goes on by itself.
    if let Ok(mut machines) = others.machines.try_lock() {
        machines.retain_mut(|machine| {
            loop {
                match machine.step() {
                    Progress::Busy => {}
                    Progress::Idle => break true,
                    Progress::Finished => break false,
                }
            }
        });
    }
    if let Ok(mut tasks) = others.tasks.try_lock() {
        let mut context = Context::from_waker(Waker::noop());
        tasks.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
    }
}

struct Runs(Arc<Others>, bool);

impl Poke for Runs {
    fn poke(&self) {
        if self.1 {
            run(&self.0);
        }
    }
}

impl World for Still {
    fn now(&self) -> Timestamp {
        Timestamp(1_000_000)
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    fn random(&self) -> u64 {
        self.seed
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    fn spawn(&self, _: &'static str, task: BoxFuture<'static, ()>) {
        self.others.tasks.lock().unwrap().push(task);
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        panic!("the log does not sleep");
    }

    fn block(&self, _: &'static str, job: Box<dyn FnOnce() + Send>) {
        if let Some(held) = &mut *self.held.lock().unwrap() {
            return held.push(job);
        }
        job();
    }

    fn drive(&self, _: &'static str, machine: Box<dyn Machine>) -> Arc<dyn Poke> {
        self.others.machines.lock().unwrap().push(machine);
        run(&self.others);
        Arc::new(Runs(Arc::clone(&self.others), self.at_once))
    }
}

/// Polls a future once.
pub fn poll<T>(future: &mut BoxFuture<'_, T>) -> Option<T> {
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// The value of a future that needs nobody else.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future waits for somebody"),
    }
}

pub fn small() -> Options {
    let mut options = Options::default();
    options.segment_bytes = 32 << 10;
    options.first_segment_bytes = 16 << 10;
    options.tail_bytes = 64 << 10;
    options.partitions = Some(2);
    options
}

pub fn try_open(disk: &MemoryDisk, options: Options) -> Result<Arc<Log>, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Log::open(disk, Still::eager(), options)
}

pub fn open(disk: &MemoryDisk) -> Arc<Log> {
    try_open(disk, small()).unwrap_or_else(|error| panic!("{error}"))
}

pub const P0: Partition = Partition(0);
pub const P1: Partition = Partition(1);

/// An event; its stamp is set by [`batch`].
pub fn event(entity: &str, version: u64, payload: impl Into<Bytes>) -> Record {
    let mut portable = Portable::new(EntityKey::new("thing", entity), "Happened");
    portable.payload = payload.into();
    Record {
        kind: Kind::Event,
        portable,
        local: Local {
            offset: Offset(0),
            version,
            epoch: 0,
            batch: 0,
            stamp: Stamp(0),
            reply: None,
            link: Link::default(),
        },
    }
}

/// A batch of one unit with stamps above `floor`.
pub fn batch(id: u64, floor: Stamp, partition: Partition, mut records: Vec<Record>) -> Batch {
    let count = records.len() as u32;
    let mut stamp = floor;
    for (index, record) in records.iter_mut().enumerate() {
        stamp = Stamp::next(stamp, Timestamp(0), partition);
        record.local.stamp = stamp;
        record.portable.unit = Unit {
            index: index as u32,
            count,
        };
    }
    Batch::new(id, records)
}

/// The owner of a partition, as simple as can be.
pub struct Owner {
    pub partition: Partition,
    pub epoch: Epoch,
    pub floor: Stamp,
    pub batches: u64,
}

impl Owner {
    pub fn of(log: &Log, partition: Partition) -> Self {
        Self::after(now(log.claim(partition)).unwrap(), partition)
    }

    pub fn after(claim: Claim, partition: Partition) -> Self {
        Self {
            partition,
            epoch: claim.epoch,
            floor: claim.floor,
            batches: 0,
        }
    }

    pub fn batch(&mut self, records: Vec<Record>) -> Batch {
        self.batches += 1;
        let batch = batch(self.batches, self.floor, self.partition, records);
        self.floor = batch.records.last().unwrap().local.stamp;
        batch
    }

    pub fn append(&mut self, log: &Log, records: Vec<Record>) -> Offset {
        let batch = self.batch(records);
        now(log.append(self.partition, self.epoch, batch))
            .unwrap()
            .last
    }
}

/// Every record of a partition, read in small steps.
pub fn all(log: &Log, partition: Partition) -> Vec<Arc<Record>> {
    try_all(log, partition).unwrap()
}

/// The same, where reading may fail.
pub fn try_all(log: &Log, partition: Partition) -> Result<Vec<Arc<Record>>, ReadError> {
    let limit = ReadLimit {
        records: 3,
        bytes: 1000,
    };
    let (mut records, mut after) = (Vec::new(), Offset(0));
    loop {
        let chunk = now(log.read_chained(partition, after, limit))?;
        if chunk.next == after {
            return Ok(records);
        }
        after = chunk.next;
        records.extend(chunk.records);
    }
}

/// The files of the segments in order, packed or not.
pub fn segments(disk: &MemoryDisk) -> Vec<String> {
    let mut names = everfold_log::Disk::list(disk).unwrap();
    names.retain(|name| name.ends_with(".log") || name.ends_with(".sealed"));
    names.sort();
    names
}
