//! The log: opening it, and the parts behind the engine contract.

mod append;
mod engine;
mod find;
mod follow;
mod history;
mod lookup;
mod parts;
mod read_only;
mod still;

use std::path::Path;
use std::sync::{Arc, Mutex};

use everfold_engine::World;
use everfold_engine::engine::{Finding, Identity, Limits};
use tokio::sync::{mpsc, oneshot, watch};

use crate::areas::Areas;
use crate::disk::{Access, Directory, Disk};
use crate::error::OpenError;
use crate::index::Subjects;
use crate::journal::{Driver, Journal, Queue, herald, prepare_ahead};
use crate::open::{self, LOCK, Report};
use crate::options::Options;
use crate::partition::Shard;
use crate::read::Source;
use crate::scrub::{self, Scrubber};
use crate::upkeep::Upkeep;
use parts::Parts;

pub use read_only::ReadOnly;

/// An embedded log in one directory: one journal for all partitions, one durable write for
/// whatever waits.
pub struct Log {
    identity: Identity,
    limits: Limits,
    world: Arc<dyn World>,
    disk: Arc<dyn Disk>,
    shards: Arc<[Shard]>,
    queue: Arc<Queue>,
    source: Arc<Source>,
    subjects: Subjects,
    areas: Arc<Areas>,
    upkeep: Arc<Upkeep>,
    scrubber: Arc<Scrubber>,
    finished: watch::Receiver<bool>,
    report: Report,
}

impl Log {
    /// Opens the log in a directory of the file system, or makes one where there is none.
    ///
    /// # Errors
    /// [`OpenError`]; each says what to do.
    pub fn open_directory(
        path: impl AsRef<Path>,
        world: Arc<dyn World>,
        options: Options,
    ) -> Result<Arc<Self>, OpenError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let disk = Directory::new(path).map_err(OpenError::io(&name))?;
        Self::open(Arc::new(disk), world, options)
    }

    /// Opens the log on a disk, or makes one where there is none. Blocks while it reads the log.
    ///
    /// # Errors
    /// [`OpenError`]; each says what to do.
    pub fn open(
        disk: Arc<dyn Disk>,
        world: Arc<dyn World>,
        options: Options,
    ) -> Result<Arc<Self>, OpenError> {
        let directory = disk.description().path;
        let names = disk.list().map_err(OpenError::io(&directory))?;
        open::refuse_unfinished(&directory, &names)?;
        // Nothing is put into a directory that is not ours, not even the lock. Everything else is
        // looked at with the lock held: whoever had it until now may have gone on.
        open::refuse_foreign(&directory, &names)?;
        let lock = disk.lock(LOCK).map_err(OpenError::io(LOCK))?;
        let lock = lock.ok_or_else(|| OpenError::InUse {
            directory: directory.clone(),
        })?;
        let survey = match open::survey(&*disk)? {
            Some(survey) => Some(survey),
            None => {
                open::create(&*disk, &*world, &options)?;
                open::survey(&*disk)?
            }
        };
        let survey = survey.ok_or_else(|| OpenError::MissingSegment {
            missing: crate::segment::name(1),
        })?;
        open::check_options(&survey.active.header.identity, &options, &directory)?;
        // Whoever made the files may have ended before their names were durable.
        disk.sync_directory().map_err(OpenError::io(&directory))?;
        let parts = Parts::open(&disk, &*world, &options, survey)?;
        parts.report.tell(&*world);
        let (finished_sender, finished) = watch::channel(false);
        let (landed, flushes) = mpsc::unbounded_channel();
        let shards = Arc::clone(&parts.shards);
        world.spawn("log herald", Box::pin(herald(shards, flushes)));
        let name = crate::segment::name(parts.end.generation);
        let file = disk
            .open(&name, Access::Journal)
            .map_err(OpenError::io(&name))?;
        // What was found may have been written but not flushed by a process that ended.
        file.sync().map_err(OpenError::io(&name))?;
        let queue = Arc::new(Queue::default());
        let driver = Driver {
            journal: Journal::new(
                parts.identity.clone(),
                options.clone(),
                Arc::clone(&parts.shards),
                Arc::clone(&parts.source),
                parts.end,
                &parts.partial,
            ),
            queue: Arc::clone(&queue),
            spare: Arc::clone(&parts.spare),
            upkeep: Arc::clone(&parts.upkeep),
            world: Arc::clone(&world),
            options: options.clone(),
            file,
            next_file: None,
            areas: Arc::clone(&parts.areas),
            finished: finished_sender,
            lock: Some(lock),
            taken: Vec::new(),
            landed,
        };
        prepare_ahead(&world, &parts.spare, &options, parts.end.generation + 1);
        parts.upkeep.wake(&world);
        queue.driven_by(world.drive("log", Box::new(driver)));
        let scrubber = Arc::new(Scrubber {
            disk: Arc::clone(&disk),
            world: Arc::clone(&world),
            source: Arc::clone(&parts.source),
            incarnation: parts.identity.incarnation,
            rate: options.scrub_bytes_per_second,
            finished: finished.clone(),
            last: Mutex::default(),
        });
        if let Some(every) = options.scrub_every {
            let task = scrub::periodically(Arc::clone(&scrubber), every);
            world.spawn("scrub", Box::pin(task));
        }
        Ok(Arc::new(Self {
            identity: parts.identity,
            limits: options.limits,
            world,
            disk,
            shards: parts.shards,
            queue,
            source: parts.source,
            subjects: parts.subjects,
            areas: parts.areas,
            upkeep: parts.upkeep,
            scrubber,
            finished,
            report: parts.report,
        }))
    }

    /// What opening the log found.
    pub fn report(&self) -> &Report {
        &self.report
    }

    pub(crate) fn scrubber(&self) -> &Scrubber {
        &self.scrubber
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Runs a job that may block where it holds up no task; `None` if the world ended it.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (done, result) = oneshot::channel();
        let run = move || {
            let _ = done.send(job());
        };
        self.world.block(name, Box::new(run));
        let result = result.await.ok();
        if self.source.runs.are_damaged() {
            self.upkeep.wake(&self.world);
        }
        result
    }

    fn findings(&self) -> Vec<Finding> {
        let description = self.disk.description();
        let finding = |name, value, loses_data| Finding {
            name,
            value,
            loses_data,
        };
        let mut findings = vec![
            finding("storage", description.path, false),
            finding(
                "file system",
                description.file_system,
                description.loses_data,
            ),
            finding("durable write", description.durable_by.to_owned(), false),
        ];
        if let Some(trouble) = self.upkeep.trouble() {
            findings.push(finding("upkeep", trouble, false));
        }
        findings.extend(self.scrubber.findings());
        findings
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.queue.close();
    }
}
