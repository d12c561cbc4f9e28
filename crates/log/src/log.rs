//! The log: opening it, and the parts behind the engine contract.

mod append;
mod engine;
mod lookup;

use std::path::Path;
use std::sync::Arc;

use everfold_engine::World;
use everfold_engine::engine::{Finding, Identity, Limits};
use tokio::sync::{mpsc, oneshot, watch};

use crate::areas::Areas;
use crate::disk::{Access, Directory, Disk};
use crate::error::OpenError;
use crate::journal::{Driver, Journal, Queue, Spare, herald, prepare_ahead};
use crate::open::{self, LOCK, Report};
use crate::options::Options;
use crate::partition::Shard;
use crate::read::Source;

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
    areas: Arc<Areas>,
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
        // Nothing is put into a directory that is not ours, not even the lock. Everything else is
        // looked at with the lock held: whoever had it until now may have gone on.
        if let Err(error @ OpenError::Foreign { .. }) = open::survey(&*disk) {
            return Err(error);
        }
        let lock = disk.lock(LOCK).map_err(OpenError::io(LOCK))?;
        let lock = lock.ok_or_else(|| OpenError::InUse {
            directory: directory.clone(),
        })?;
        let mut segments = open::survey(&*disk)?;
        match segments.first() {
            Some(first) => {
                open::check_options(&first.header.identity, &options, &directory)?;
                // Whoever made the files may have ended before their names were durable.
                disk.sync_directory().map_err(OpenError::io(&directory))?;
            }
            None => segments.push(open::create(&*disk, &*world, &options)?),
        }
        let identity = segments[0].header.identity.clone();
        let tail_bytes = options.tail_bytes / usize::from(identity.layout.partitions);
        let shards: Arc<[Shard]> = segments[0]
            .header
            .starts
            .iter()
            .map(|start| Shard::new(*start, world.random(), tail_bytes))
            .collect();
        let mut report = Report::default();
        let (end, partial) = open::load(&*disk, &segments, &shards, &mut report)?;
        let areas = Areas::new(
            Arc::clone(&disk),
            identity.incarnation,
            options.area_cache_bytes,
        );
        report.areas_discarded = areas.open_existing().map_err(|error| OpenError::Io {
            file: crate::areas::FILE.into(),
            source: std::io::Error::other(error),
        })?;
        let areas = Arc::new(areas);
        let queue = Arc::new(Queue::default());
        let spare = Arc::new(Spare::new(Arc::clone(&disk)));
        let name = crate::segment::name(end.generation);
        let file = disk
            .open(&name, Access::Journal)
            .map_err(OpenError::io(&name))?;
        // What was found may have been written but not flushed by a process that ended.
        file.sync().map_err(OpenError::io(&name))?;
        let (finished_sender, finished) = watch::channel(false);
        let (landed, flushes) = mpsc::unbounded_channel();
        world.spawn("log herald", Box::pin(herald(Arc::clone(&shards), flushes)));
        let driver = Driver {
            journal: Journal::new(
                identity.clone(),
                options.clone(),
                Arc::clone(&shards),
                end,
                &partial,
            ),
            queue: Arc::clone(&queue),
            spare: Arc::clone(&spare),
            world: Arc::clone(&world),
            options: options.clone(),
            file,
            next_file: None,
            areas: Arc::clone(&areas),
            finished: finished_sender,
            lock: Some(lock),
            taken: Vec::new(),
            landed,
        };
        prepare_ahead(&world, &spare, &options, end.generation + 1);
        queue.driven_by(world.drive("log", Box::new(driver)));
        let source = Arc::new(Source::new(Arc::clone(&disk), identity.clone()));
        Ok(Arc::new(Self {
            identity,
            limits: options.limits,
            world,
            disk,
            shards,
            queue,
            source,
            areas,
            finished,
            report,
        }))
    }

    /// What opening the log found.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Runs a job that may block where it holds up no task; `None` if the world ended it.
    async fn blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (done, result) = oneshot::channel();
        let run = move || {
            let _ = done.send(job());
        };
        self.world.block(name, Box::new(run));
        result.await.ok()
    }

    fn findings(&self) -> Vec<Finding> {
        let description = self.disk.description();
        let finding = |name, value, loses_data| Finding {
            name,
            value,
            loses_data,
        };
        vec![
            finding("storage", description.path, false),
            finding(
                "file system",
                description.file_system,
                description.loses_data,
            ),
            finding("durable write", description.durable_by.to_owned(), false),
        ]
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.queue.close();
    }
}
