//! A disk in memory that forgets, tears, lies and fills up as real ones do.

mod contents;
mod fault;
mod file;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Access, Description, Disk, File, Held};
use contents::{Contents, Keeps};
pub use fault::{Call, Fault, FaultPlan, Tally};
use file::MemoryFile;

/// A disk in memory. What was not flushed is lost in a [`MemoryDisk::crash`], or part of it, and
/// what else goes wrong is told by a [`FaultPlan`].
#[derive(Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

type Names = BTreeMap<String, Arc<Mutex<Contents>>>;

#[derive(Default)]
struct State {
    /// What a reader sees.
    names: Names,
    /// What is left of the names after a crash.
    durable_names: Names,
    capacity: Option<u64>,
    locked: bool,
    /// How many more operations succeed.
    remaining: Option<u64>,
    operations: u64,
    fail_syncs: bool,
    ignore_syncs: bool,
    plan: FaultPlan,
    calls: BTreeMap<Call, u64>,
    random: u64,
    tally: Tally,
}

/// How much of what was not flushed survives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Nothing.
    Nothing,
    /// Everything.
    Everything,
    /// Any subset of the sectors, and the names of then or now, drawn from this seed.
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

    /// What goes wrong from now on, instead of what was planned before.
    pub fn set_plan(&self, plan: FaultPlan) {
        let mut state = self.state();
        for (fault, _) in &plan.planned {
            state.tally.plan(*fault);
        }
        state.random = plan.seed;
        state.calls.clear();
        state.plan = plan;
    }

    /// How often a call was made since the plan was set.
    pub fn calls(&self, call: Call) -> u64 {
        self.state().calls.get(&call).copied().unwrap_or_default()
    }

    /// What was planned and what happened, on this disk and on those that it is what is left of.
    pub fn tally(&self) -> Tally {
        self.state().tally.clone()
    }

    /// After `operations` more writes, flushes, renames, removals and changes of length the machine
    /// is dead: the last of them is under way when it dies, every later one fails.
    pub fn die_after(&self, operations: u64) {
        let mut state = self.state();
        state.tally.plan(Fault::PowerCut);
        state.remaining = Some(operations);
    }

    /// Writes, flushes, renames, removals and changes of length so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// From now on every flush fails.
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
        let mut keeps = Keeps::of(kind);
        let mut tally = state.tally.clone();
        let same = |(name, file): (&String, &Arc<_>)| {
            let durable = state.durable_names.get(name);
            durable.is_some_and(|durable| Arc::ptr_eq(durable, file))
        };
        let settled =
            state.names.len() == state.durable_names.len() && state.names.iter().all(same);
        let left = if keeps.names() {
            &state.names
        } else {
            if !settled {
                tally.happen(Fault::LostName);
            }
            &state.durable_names
        };
        let mut names = Names::new();
        for (name, file) in left {
            let file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let contents = file.after(&mut keeps, &mut tally);
            names.insert(name.clone(), Arc::new(Mutex::new(contents)));
        }
        let state = State {
            durable_names: names.clone(),
            names,
            capacity: state.capacity,
            tally,
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
        let file = Arc::new(Mutex::new(Contents::durable(bytes)));
        let mut state = self.state();
        state.names.insert(name.to_owned(), Arc::clone(&file));
        state.durable_names.insert(name.to_owned(), file);
    }

    /// Changes one bit of a file where it lies; nothing happens beyond its end. Done twice, the
    /// file is as it was.
    pub fn flip(&self, name: &str, at: u64, bit: u8) {
        let mut state = self.state();
        if let Some(file) = state.names.get(name).map(Arc::clone) {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.flip(at as usize, bit);
            state.tally.happen(Fault::FlippedAtRest);
        }
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
                let dies = *left == 0;
                if dies {
                    self.tally.fire(Fault::PowerCut);
                }
                Ok(dies)
            }
        }
    }

    /// Counts a call and says what goes wrong with it.
    fn fault(&mut self, call: Call, name: &str, may: impl Fn(Fault) -> bool) -> Option<Fault> {
        let count = self.calls.entry(call).or_default();
        *count += 1;
        let fault = self.plan.due(call, *count, name, may)?;
        self.tally.fire(fault);
        Some(fault)
    }

    /// The same for a call that succeeds or fails.
    fn try_call(&mut self, call: Call, name: &str) -> io::Result<()> {
        match self.fault(call, name, |_| true) {
            None => Ok(()),
            Some(_) => Err(failed(call)),
        }
    }

    fn used(&self) -> u64 {
        let length = |file: &Arc<Mutex<Contents>>| {
            let file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.bytes.len() as u64
        };
        self.names.values().map(length).sum()
    }
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

fn failed(call: Call) -> io::Error {
    io::Error::other(format!("the device failed: {call:?}"))
}

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.try_call(Call::List, "")?;
        Ok(state.names.keys().cloned().collect())
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        state.try_call(Call::Open, name)?;
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
        Ok(Arc::new(MemoryFile::new(name, &self.state, file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.operate()? {
            return Err(dying());
        }
        state.try_call(Call::Rename, from)?;
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
        state.try_call(Call::Remove, name)?;
        state.names.remove(name);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.operate()? {
            return Err(dying());
        }
        state.try_call(Call::SyncDirectory, "")?;
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
