//! A disk in memory that forgets, tears and fills up as real ones do.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Access, Description, Disk, File, Held};

/// What a device writes whole or not at all.
const SECTOR: usize = 512;

/// A disk in memory. What was not flushed is lost in a [`MemoryDisk::crash`], or part of it.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What a reader sees.
    names: BTreeMap<String, Arc<Mutex<Contents>>>,
    /// What is left of the names after a crash.
    durable_names: BTreeMap<String, Arc<Mutex<Contents>>>,
    capacity: Option<u64>,
    locked: bool,
    /// How many more operations succeed.
    remaining: Option<u64>,
    operations: u64,
    fail_syncs: bool,
    ignore_syncs: bool,
}

#[derive(Default, Clone)]
struct Contents {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

/// How much of what was not flushed survives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Nothing.
    Nothing,
    /// Everything.
    Everything,
    /// Any subset of the sectors, drawn from this seed.
    Sectors(u64),
}

impl MemoryDisk {
    /// An empty disk without limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Room for `bytes` in all files together; `None` for any amount.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// After `operations` more writes, flushes, renames and removals the machine is dead: the last
    /// of them is under way when it dies, every later one fails.
    pub fn die_after(&self, operations: u64) {
        self.state().remaining = Some(operations);
    }

    /// Writes, flushes, renames and removals so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// From now on every flush fails, and what it should have flushed stays unflushed.
    pub fn fail_syncs(&self) {
        self.state().fail_syncs = true;
    }

    /// From now on flushes do nothing and say that they did: a disk that lies.
    pub fn ignore_syncs(&self) {
        self.state().ignore_syncs = true;
    }

    /// What a machine finds after losing power. This disk goes on as it was.
    #[must_use]
    pub fn crash(&self, kind: Crash) -> Self {
        let state = self.state();
        let mut random = match kind {
            Crash::Sectors(seed) => seed,
            _ => 0,
        };
        let mut names = BTreeMap::new();
        for (name, file) in &state.durable_names {
            let file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let mut bytes = file.durable.clone();
            for (at, written) in &file.unsynced {
                for (index, part) in sectors(*at, written) {
                    let keep = match kind {
                        Crash::Nothing => false,
                        Crash::Everything => true,
                        Crash::Sectors(_) => split_mix(&mut random) & 1 == 1,
                    };
                    if keep {
                        put(&mut bytes, index, part);
                    }
                }
            }
            let contents = Contents {
                bytes: bytes.clone(),
                durable: bytes,
                unsynced: Vec::new(),
            };
            names.insert(name.clone(), Arc::new(Mutex::new(contents)));
        }
        let state = State {
            durable_names: names.clone(),
            names,
            capacity: state.capacity,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// What a file holds.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let file = Arc::clone(self.state().names.get(name)?);
        let file = file.lock().unwrap_or_else(PoisonError::into_inner);
        Some(file.bytes.clone())
    }

    /// Replaces what a file holds, durably; what a test does to a file behind the log's back.
    pub fn replace(&self, name: &str, bytes: Vec<u8>) {
        let contents = Contents {
            durable: bytes.clone(),
            bytes,
            unsynced: Vec::new(),
        };
        let file = Arc::new(Mutex::new(contents));
        let mut state = self.state();
        state.names.insert(name.to_owned(), Arc::clone(&file));
        state.durable_names.insert(name.to_owned(), file);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts an operation; `Ok(true)` if the machine dies during it.
    fn operate(&mut self) -> io::Result<bool> {
        self.operations += 1;
        match &mut self.remaining {
            None => Ok(false),
            Some(0) => Err(io::Error::other("the machine is dead")),
            Some(left) => {
                *left -= 1;
                Ok(*left == 0)
            }
        }
    }

    fn used(&self) -> u64 {
        self.names
            .values()
            .map(|file| {
                file.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .bytes
                    .len() as u64
            })
            .sum()
    }
}

fn sectors(at: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut from = 0;
    std::iter::from_fn(move || {
        (from < bytes.len()).then(|| {
            let place = at + from;
            let end = (from + SECTOR - place % SECTOR).min(bytes.len());
            let part = &bytes[from..end];
            from = end;
            (place, part)
        })
    })
}

fn put(bytes: &mut Vec<u8>, at: usize, part: &[u8]) {
    if bytes.len() < at + part.len() {
        bytes.resize(at + part.len(), 0);
    }
    bytes[at..at + part.len()].copy_from_slice(part);
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn dying() -> io::Error {
    io::Error::other("the machine is dying")
}

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let file = match state.names.get(name) {
            Some(file) => Arc::clone(file),
            None if access == Access::Read => {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("no file {name}"),
                ));
            }
            None => {
                let file = Arc::<Mutex<Contents>>::default();
                state.names.insert(name.to_owned(), Arc::clone(&file));
                file
            }
        };
        Ok(Arc::new(MemoryFile {
            state: Arc::clone(&self.state),
            file,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.operate()? {
            return Err(dying());
        }
        let file = state
            .names
            .remove(from)
            .ok_or(io::Error::from(io::ErrorKind::NotFound))?;
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.operate()? {
            return Err(dying());
        }
        state.names.remove(name);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.operate()? {
            return Err(dying());
        }
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn lock(&self, _name: &str) -> io::Result<Option<Box<dyn Held>>> {
        let mut state = self.state();
        if std::mem::replace(&mut state.locked, true) {
            return Ok(None);
        }
        Ok(Some(Box::new(MemoryLock(Arc::clone(&self.state)))))
    }

    fn description(&self) -> Description {
        Description {
            path: "memory".into(),
            file_system: "memory".into(),
            durable_by: "nothing",
            loses_data: true,
        }
    }
}

struct MemoryLock(Arc<Mutex<State>>);

impl Held for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).locked = false;
    }
}

struct MemoryFile {
    state: Arc<Mutex<State>>,
    file: Arc<Mutex<Contents>>,
}

impl MemoryFile {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses to make the file longer than there is room.
    fn reserve(&self, state: &State, length: usize) -> io::Result<()> {
        let more = length.saturating_sub(self.contents().bytes.len()) as u64;
        match state.capacity {
            Some(capacity) if more > 0 && state.used() + more > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.contents().bytes.len() as u64)
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let contents = self.contents();
        let at = at as usize;
        let read = contents
            .bytes
            .get(at..at + bytes.len())
            .ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
        bytes.copy_from_slice(read);
        Ok(())
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let dies = state.operate()?;
        self.reserve(&state, at as usize + bytes.len())?;
        let mut contents = self.contents();
        put(&mut contents.bytes, at as usize, bytes);
        contents.unsynced.push((at as usize, bytes.to_vec()));
        if dies { Err(dying()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.operate()? {
            return Err(dying());
        }
        if state.fail_syncs {
            return Err(io::Error::other("the device failed a flush"));
        }
        if !state.ignore_syncs {
            let mut contents = self.contents();
            let Contents {
                bytes,
                durable,
                unsynced,
            } = &mut *contents;
            durable.resize(bytes.len(), 0);
            for (at, written) in unsynced.drain(..) {
                // A later cut of the file may have taken part of the write away.
                let end = (at + written.len()).min(bytes.len());
                if at < end {
                    durable[at..end].copy_from_slice(&bytes[at..end]);
                }
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        let dies = state.operate()?;
        self.reserve(&state, length as usize)?;
        let mut contents = self.contents();
        contents.bytes.resize(length as usize, 0);
        if dies { Err(dying()) } else { Ok(()) }
    }
}
