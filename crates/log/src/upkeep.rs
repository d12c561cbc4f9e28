//! What is done beside the writing: sealed segments are indexed, packed, and their files used again.
//!
//! Nothing here is needed for what was acknowledged to be durable or readable, so a step that fails
//! is left for the next time.

mod again;
mod contents;
mod pack;
mod runs;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everfold_engine::World;
use everfold_engine::engine::Identity;

use crate::cache::ReadCache;
use crate::disk::{Access, Disk};
use crate::error::OpenError;
use crate::index::{self};
use crate::journal::Spare;
use crate::options::Options;
use crate::partition::Shard;
use crate::read::Source;

/// A run while it is written.
pub(crate) const INDEXING: &str = "indexing";
/// A packed segment while it is written.
pub(crate) const SEALING: &str = "sealing";

pub(crate) struct Upkeep {
    disk: Arc<dyn Disk>,
    identity: Identity,
    options: Options,
    shards: Arc<[Shard]>,
    source: Arc<Source>,
    cache: Arc<ReadCache>,
    spare: Arc<Spare>,
    closing: AtomicBool,
    /// Somebody is at work, or about to be.
    busy: AtomicBool,
    /// There may be more to do.
    wanted: AtomicBool,
    /// Held while files are written.
    working: Mutex<()>,
    trouble: Mutex<Option<String>>,
}

impl Upkeep {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        identity: Identity,
        options: Options,
        shards: Arc<[Shard]>,
        source: Arc<Source>,
        cache: Arc<ReadCache>,
        spare: Arc<Spare>,
    ) -> Self {
        Self {
            disk,
            identity,
            options,
            shards,
            source,
            cache,
            spare,
            closing: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            working: Mutex::new(()),
            trouble: Mutex::new(None),
        }
    }

    /// Does what there is to do, beside everything else.
    pub(crate) fn wake(self: &Arc<Self>, world: &Arc<dyn World>) {
        self.wanted.store(true, Ordering::Release);
        if self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let busy = Busy(Arc::clone(self));
        let job = move || {
            let mut busy = busy;
            loop {
                let upkeep = Arc::clone(&busy.0);
                while upkeep.wanted.swap(false, Ordering::AcqRel) {
                    upkeep.work();
                }
                drop(busy);
                // Whoever came in between found it busy and went away.
                let again = upkeep.wanted.load(Ordering::Acquire);
                if !again || upkeep.busy.swap(true, Ordering::AcqRel) {
                    return;
                }
                busy = Busy(upkeep);
            }
        };
        world.block("upkeep", Box::new(job));
    }

    /// Nothing is written after this returned.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        drop(self.alone());
    }

    /// What could not be done the last time.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn alone(&self) -> MutexGuard<'_, ()> {
        self.working.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    pub(crate) fn shards(&self) -> &[Shard] {
        &self.shards
    }

    pub(crate) fn compression(&self) -> Option<i32> {
        self.options.compression
    }

    pub(crate) fn length(&self, name: &str) -> Result<u64, OpenError> {
        let length = || self.disk.open(name, Access::Read)?.len();
        length().map_err(OpenError::io(name))
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn work(&self) {
        let _alone = self.alone();
        if self.is_closing() {
            return;
        }
        // One that cannot be taken does not keep the others from being taken.
        let mut steps = vec![self.index_waiting(), self.index_again(), self.merge_runs()];
        if self.source.runs.are_damaged() {
            steps.extend([self.index_again(), self.merge_runs()]);
        }
        steps.push(self.pack_old());
        let troubles = steps.into_iter().filter_map(Result::err);
        let mut troubles: Vec<_> = troubles.map(|error| error.to_string()).collect();
        troubles.dedup();
        let trouble = (!troubles.is_empty()).then(|| troubles.join("; "));
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Nothing unfinished is left to take room.
    pub(crate) fn or_clear<T>(
        &self,
        name: &str,
        write: impl FnOnce() -> Result<T, OpenError>,
    ) -> Result<T, OpenError> {
        write().inspect_err(|_| {
            // It is removed at the next opening, or written over.
            let _ = self.disk.remove(name);
        })
    }

    /// Removes a file in steps: to free much space at once holds up whoever writes elsewhere. An
    /// index goes at once: whoever reads it goes on reading what it was.
    pub(crate) fn release(&self, name: &str) -> Result<(), OpenError> {
        let released = match index::is_run(name) {
            true => self.disk.remove(name),
            false => crate::disk::release(&*self.disk, name),
        };
        released.map_err(OpenError::io(name))
    }
}

/// Somebody is at work, until this is dropped; also if the work ends in a panic.
struct Busy(Arc<Upkeep>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}
