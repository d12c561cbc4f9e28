//! A disk on which something happens when a file is opened or read, and shorthands.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use everfold_engine::engine::{Engine, Trim};
use everfold_engine::record::{Kind, Record, Unit};
use everfold_engine::{EntityKey, Offset, Stamp, Timestamp};
use everfold_log::disk::{Access, Description, File, Held};
use everfold_log::{Disk, Log, MemoryDisk, Options};

use crate::support::*;

pub fn options() -> Options {
    let mut options = small();
    options.segment_bytes = 16 << 10;
    options.tail_bytes = 0;
    options.plain_segments = 100;
    options
}

pub fn open_with(disk: &MemoryDisk, options: Options) -> Arc<Log> {
    try_open(disk, options).unwrap_or_else(|error| panic!("{error}"))
}

pub fn key(entity: &str) -> EntityKey {
    EntityKey::new("thing", entity)
}

pub fn baseline(entity: &str, version: u64) -> Record {
    let mut record = event(entity, version, format!("state of {entity} at {version}"));
    record.kind = Kind::Baseline;
    record
}

/// Bytes that do not compress.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

pub fn fill(log: &Log, owner: &mut Owner, entity: &str, versions: std::ops::RangeInclusive<u64>) {
    for version in versions {
        owner.append(log, vec![event(entity, version, noise(version, 700))]);
    }
}

pub fn trim_entity(log: &Log, entity: &str, until: Offset) -> u64 {
    let trim = Trim::Entity {
        partition: P0,
        entity: key(entity),
        until,
    };
    now(log.trim(trim)).unwrap().records
}

pub fn versions(log: &Log, entity: &str) -> Vec<u64> {
    let records = now(log.read_entity(P0, &key(entity), 0, 10_000)).unwrap();
    records.iter().map(|record| record.local.version).collect()
}

pub fn remove_indexes(disk: &MemoryDisk) {
    for name in Disk::list(disk).unwrap() {
        if name.ends_with(".index") {
            Disk::remove(disk, &name).unwrap();
        }
    }
}

pub type Act = Box<dyn FnOnce() + Send>;

/// What happens when a file is opened or read: once, at the first call that fits.
#[derive(Default)]
pub struct Hooks {
    pub after_open: Mutex<Option<(String, Act)>>,
    pub before_open: Mutex<Vec<(String, Act)>>,
    pub before_read: Mutex<Option<(String, Act)>>,
    pub read: AtomicU64,
}

pub fn fire(hook: &Mutex<Option<(String, Act)>>, name: &str) {
    let act = {
        let mut hook = hook.lock().unwrap();
        match &*hook {
            Some((wanted, _)) if wanted == name => hook.take(),
            _ => None,
        }
    };
    if let Some((_, act)) = act {
        act();
    }
}

#[derive(Clone)]
pub struct Hooked {
    inner: MemoryDisk,
    pub hooks: Arc<Hooks>,
}

pub struct HookedFile {
    name: String,
    inner: Arc<dyn File>,
    hooks: Arc<Hooks>,
}

impl Hooked {
    pub fn over(inner: &MemoryDisk) -> Self {
        Self {
            inner: inner.clone(),
            hooks: Arc::default(),
        }
    }
}

impl Disk for Hooked {
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        if access == Access::Read {
            let act = {
                let mut hooks = self.hooks.before_open.lock().unwrap();
                let found = hooks.iter().position(|(wanted, _)| wanted == name);
                found.map(|found| hooks.remove(found))
            };
            if let Some((_, act)) = act {
                act();
            }
        }
        let inner = self.inner.open(name, access)?;
        if access == Access::Read {
            fire(&self.hooks.after_open, name);
        }
        Ok(Arc::new(HookedFile {
            name: name.to_owned(),
            inner,
            hooks: Arc::clone(&self.hooks),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.inner.sync_directory()
    }

    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Held>>> {
        self.inner.lock(name)
    }

    fn description(&self) -> Description {
        self.inner.description()
    }
}

impl File for HookedFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        fire(&self.hooks.before_read, &self.name);
        self.hooks
            .read
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.inner.read_at(at, bytes)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_at(at, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.inner.set_len(length)
    }
}

pub fn append_at(log: &Log, owner: &mut Owner, millis: i64, mut record: Record) {
    let stamp = Stamp::next(owner.floor, Timestamp::from_millis(millis), P0);
    owner.floor = stamp;
    owner.batches += 1;
    record.local.stamp = stamp;
    record.portable.unit = Unit::SINGLE;
    let batch = everfold_engine::engine::Batch::new(owner.batches, vec![record]);
    now(log.append(P0, owner.epoch, batch)).unwrap();
}
