//! Does what the journal wants, in production on a thread of its own.

use std::io;
use std::sync::Arc;

use everfold_engine::World;
use everfold_engine::world::{Machine, Progress};
use tokio::sync::{mpsc, watch};

use super::queue::Rest;
use super::{Failure, Journal, Queue, Spare, Submission, Wanted};
use crate::areas::Areas;
use crate::disk::{File, Held};
use crate::options::Options;
use crate::upkeep::Upkeep;

pub(crate) struct Driver {
    pub(crate) journal: Journal,
    pub(crate) queue: Arc<Queue>,
    pub(crate) spare: Arc<Spare>,
    pub(crate) upkeep: Arc<Upkeep>,
    pub(crate) world: Arc<dyn World>,
    pub(crate) options: Options,
    /// The current segment.
    pub(crate) file: Arc<dyn File>,
    /// The next one, once the journal asked for it.
    pub(crate) next_file: Option<Arc<dyn File>>,
    pub(crate) areas: Arc<Areas>,
    pub(crate) finished: watch::Sender<bool>,
    pub(crate) lock: Option<Box<dyn Held>>,
    pub(crate) taken: Vec<Submission>,
    /// To the herald.
    pub(crate) landed: mpsc::UnboundedSender<Vec<Submission>>,
}

impl Machine for Driver {
    fn step(&mut self) -> Progress {
        self.queue.take(&mut self.taken);
        self.journal.submit(self.taken.drain(..));
        if let Some(wanted) = self.journal.next() {
            return match self.perform(wanted) {
                Ok(()) => Progress::Busy,
                Err(reason) => self.stop(&reason),
            };
        }
        match self.queue.rest() {
            Rest::Work => Progress::Busy,
            Rest::Idle => Progress::Idle,
            Rest::Close => {
                if let Some(wanted) = self.journal.close()
                    && let Err(reason) = self.perform(wanted)
                {
                    return self.stop(&reason);
                }
                self.finish("the log is closed")
            }
        }
    }
}

impl Driver {
    fn perform(&mut self, wanted: Wanted) -> Result<(), Arc<str>> {
        let result = self.execute(&wanted);
        let begun = matches!(wanted, Wanted::Begin { .. }) && result.is_ok();
        self.journal.completed(&wanted, result)?;
        let landed = self.journal.landed();
        if !landed.is_empty()
            && let Err(unheard) = self.landed.send(landed)
        {
            // The executor is gone: nobody waits, but turns are given back.
            unheard
                .0
                .into_iter()
                .for_each(|landed| landed.settle(Ok(())));
        }
        if let (true, Wanted::Begin { generation, .. }) = (begun, &wanted) {
            self.world.reached("log: segment full, next one begun");
            prepare_ahead(&self.world, &self.spare, &self.options, generation + 1);
            self.upkeep.wake(&self.world);
        }
        Ok(())
    }

    fn execute(&mut self, wanted: &Wanted) -> io::Result<u64> {
        match wanted {
            Wanted::Prepare { generation, bytes } => {
                let ready = self.spare.prepare(*generation, *bytes)?;
                self.next_file = Some(ready.file);
                Ok(ready.length)
            }
            Wanted::Begin { header, .. } => {
                let next = self.next_file.take();
                let next = next.ok_or_else(|| io::Error::other("no segment is prepared"))?;
                let mut aligned = crate::disk::Aligned::zeroed(header.len());
                aligned.copy_from_slice(header);
                next.write_at(0, &aligned)?;
                next.sync()?;
                self.file = next;
                Ok(0)
            }
            Wanted::Write { at, bytes } => {
                self.file.write_at(*at, &self.journal.buffer()[..*bytes])?;
                self.file.sync()?;
                Ok(0)
            }
        }
    }

    /// After a failed write nobody knows what the device holds: no later write may follow it.
    fn stop(&mut self, reason: &Arc<str>) -> Progress {
        self.world.reached("log: stopped after a failed write");
        let left = self.queue.stop(reason);
        self.journal.abandon(reason);
        for submission in left {
            submission.settle(Err(Failure::Stopped(Arc::clone(reason))));
        }
        self.finish(reason)
    }

    fn finish(&mut self, reason: &str) -> Progress {
        let reason = Arc::from(reason);
        for shard in self.journal.shards() {
            shard.end(&reason);
        }
        self.spare.close();
        self.upkeep.close();
        self.areas.close();
        self.lock = None;
        self.finished.send_replace(true);
        Progress::Finished
    }
}

/// Has the next segment prepared beside the writing.
pub(crate) fn prepare_ahead(
    world: &Arc<dyn World>,
    spare: &Arc<Spare>,
    options: &Options,
    generation: u64,
) {
    let spare = Arc::clone(spare);
    let bytes = options.capacity(generation);
    let job = move || {
        // If this fails the driver tries again when it needs the space, and says so.
        let _ = spare.prepare(generation, bytes);
    };
    world.block("prepare a segment", Box::new(job));
}
