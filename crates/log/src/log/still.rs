//! A log as it was at some moment, without anybody who writes it.

use std::sync::{Arc, Mutex};

use everfold_engine::World;
use tokio::sync::watch;

use super::Log;
use super::parts::index_again;
use crate::areas::Areas;
use crate::cache::ReadCache;
use crate::disk::{Disk, File, MemoryDisk};
use crate::error::OpenError;
use crate::frame::FrameKind;
use crate::index::{Runs, Subjects};
use crate::journal::{Queue, Spare};
use crate::open::{self, Report, Segment};
use crate::options::Options;
use crate::partition::Shard;
use crate::prefix::{load_settled, look_again};
use crate::read::Source;
use crate::scrub::Scrubber;
use crate::segments::Segments;
use crate::upkeep::Upkeep;

/// Why nothing is written.
pub(super) const READ_ONLY: &str = "it was opened for reading only";

/// A log that takes nothing, and where to read on.
pub(super) struct Still {
    pub(super) log: Arc<Log>,
    pub(super) active: Segment,
    /// Its file, whatever it is called by now.
    pub(super) file: Arc<dyn File>,
    /// Behind the last frame.
    pub(super) end: u64,
    /// The number of the last flush, and where it began if it is of this segment.
    pub(super) flush: (u64, Option<u32>),
}

impl Still {
    /// Reads what is durable; nothing in the directory is changed.
    pub(super) fn of(
        disk: &Arc<dyn Disk>,
        world: &Arc<dyn World>,
        options: &Options,
    ) -> Result<Self, OpenError> {
        let directory = disk.description().path;
        let names = disk.list().map_err(OpenError::io(&directory))?;
        open::refuse_unfinished(&directory, &names)?;
        look_again(|| Self::look(disk, world, options))
    }

    fn look(
        disk: &Arc<dyn Disk>,
        world: &Arc<dyn World>,
        options: &Options,
    ) -> Result<Self, OpenError> {
        let directory = disk.description().path;
        let survey = open::survey(&**disk)?;
        let survey =
            survey.ok_or_else(|| OpenError::Invalid(format!("there is no log in {directory}")))?;
        let header = &survey.active.header;
        let identity = header.identity.clone();
        open::check_options(&identity, options, &directory)?;
        let subjects = Subjects::of(identity.incarnation);
        let shards: Arc<[Shard]> = header
            .starts
            .iter()
            .map(|start| Shard::new(*start, subjects, world.random(), 0))
            .collect();
        let cache = Arc::new(ReadCache::new(options.read_cache_bytes));
        let incarnation = identity.incarnation;
        let (runs, indexes_discarded) = Runs::look(
            &**disk,
            &survey.names,
            incarnation,
            header.generation,
            &cache,
        );
        let segments = Segments::new(
            Arc::clone(disk),
            Arc::clone(&cache),
            incarnation,
            survey.forms.clone(),
        );
        let trimmed = survey.trimmed.is_some();
        let source = Arc::new(Source::new(identity.clone(), segments, runs, trimmed));
        // Indexes that are missing are made beside the log.
        let scratch: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let upkeep = Arc::new(Upkeep::new(
            Arc::clone(&scratch),
            identity.clone(),
            options.clone(),
            Arc::clone(&shards),
            Arc::clone(&source),
            cache,
            Arc::new(Spare::new(scratch)),
        ));
        let mut report = Report {
            segments: survey.forms.len() as u64,
            indexes_discarded,
            ..Report::default()
        };
        report.indexes_made = index_again(&**disk, &upkeep, &survey)?;
        // Nothing else is done to a log that is only read.
        upkeep.close();
        let (_, recovered, file) = load_settled(&**disk, &survey.active, &shards)?;
        for shard in shards.iter() {
            let last = shard.state().at.last;
            report.records += last.0;
            shard.head.send_modify(|head| head.offset = last);
        }
        let last = recovered.frames.last().map(|found| found.header);
        report.closed = last.is_some_and(|last| last.kind == FrameKind::Close);
        let queue = Arc::new(Queue::default());
        queue.stop(&READ_ONLY.into());
        let finished = watch::channel(true).1;
        let scrubber = Scrubber {
            disk: Arc::clone(disk),
            world: Arc::clone(world),
            source: Arc::clone(&source),
            incarnation,
            rate: options.scrub_bytes_per_second,
            finished: finished.clone(),
            last: Mutex::default(),
        };
        let areas = Areas::new(Arc::clone(disk), incarnation, options.area_cache_bytes);
        let flush = match last {
            Some(last) => (last.flush, Some(last.flush_start)),
            None => (header.last_flush, None),
        };
        Ok(Self {
            log: Arc::new(Log {
                identity,
                limits: options.limits,
                world: Arc::clone(world),
                disk: Arc::clone(disk),
                shards,
                queue,
                source,
                subjects,
                areas: Arc::new(areas),
                upkeep,
                scrubber: Arc::new(scrubber),
                finished,
                report,
            }),
            file,
            end: recovered.end,
            flush,
            active: survey.active,
        })
    }
}
