//! What an opened log consists of.

use std::sync::Arc;

use everfold_engine::World;
use everfold_engine::engine::Identity;

use crate::areas::{self, Areas};
use crate::cache::ReadCache;
use crate::disk::{Disk, release};
use crate::error::OpenError;
use crate::index::{Runs, Subjects};
use crate::journal::{self, End, Spare, is_spare};
use crate::open::{self, Report, Survey};
use crate::options::Options;
use crate::partition::Shard;
use crate::read::Source;
use crate::sealed;
use crate::segment;
use crate::segments::{Form, Segments};
use crate::trim::TRIMMING;
use crate::upkeep::{INDEXING, SEALING, Upkeep};

pub(super) struct Parts {
    pub(super) identity: Identity,
    pub(super) shards: Arc<[Shard]>,
    pub(super) source: Arc<Source>,
    pub(super) subjects: Subjects,
    pub(super) spare: Arc<Spare>,
    pub(super) upkeep: Arc<Upkeep>,
    pub(super) areas: Arc<Areas>,
    pub(super) end: End,
    pub(super) partial: Vec<u8>,
    pub(super) report: Report,
}

impl Parts {
    /// Reads the segment that is written, and the indexes of the others; makes those that are
    /// missing.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        world: &dyn World,
        options: &Options,
        survey: Survey,
    ) -> Result<Self, OpenError> {
        let header = &survey.active.header;
        let identity = header.identity.clone();
        let tail_bytes = options.tail_bytes / usize::from(identity.layout.partitions);
        let subjects = Subjects::of(identity.incarnation);
        let shards: Arc<[Shard]> = header
            .starts
            .iter()
            .map(|start| Shard::new(*start, subjects, world.random(), tail_bytes))
            .collect();
        let mut report = Report {
            segments: survey.forms.len() as u64,
            ..Report::default()
        };
        let cache = Arc::new(ReadCache::new(options.read_cache_bytes));
        let runs = Runs::open(
            &**disk,
            &survey.names,
            identity.incarnation,
            header.generation,
            &cache,
            &mut report.indexes_discarded,
        )?;
        let segments = Segments::new(
            Arc::clone(disk),
            Arc::clone(&cache),
            identity.incarnation,
            survey.forms.clone(),
        );
        let trimmed = survey.trimmed.is_some();
        let source = Arc::new(Source::new(identity.clone(), segments, runs, trimmed));
        let spare = Arc::new(Spare::new(Arc::clone(disk)));
        let upkeep = Arc::new(Upkeep::new(
            Arc::clone(disk),
            identity.clone(),
            options.clone(),
            Arc::clone(&shards),
            Arc::clone(&source),
            cache,
            Arc::clone(&spare),
        ));
        clear(&**disk, &spare, &survey)?;
        for run in source.runs.forget_before(source.segments.first()) {
            upkeep.release(&run.name)?;
        }
        report.indexes_made = index_again(&**disk, &upkeep, &survey)?;
        let (end, partial) = open::load_active(&**disk, &survey.active, &shards, &mut report)?;
        let areas = Areas::new(
            Arc::clone(disk),
            identity.incarnation,
            options.area_cache_bytes,
        );
        report.areas_discarded = areas.open_existing().map_err(|error| OpenError::Io {
            file: areas::FILE.into(),
            source: std::io::Error::other(error),
        })?;
        Ok(Self {
            identity,
            shards,
            source,
            subjects,
            spare,
            upkeep,
            areas: Arc::new(areas),
            end,
            partial,
            report,
        })
    }
}

/// Puts away what a process that ended early has left.
fn clear(disk: &dyn Disk, spare: &Spare, survey: &Survey) -> Result<(), OpenError> {
    for name in &survey.names {
        let packed = segment::generation(name)
            .is_some_and(|generation| survey.forms.get(&generation) == Some(&Form::Sealed));
        let first = survey.forms.keys().next().copied().unwrap_or(1);
        let before = |generation: u64| generation < first;
        let trimmed = segment::generation(name).is_some_and(before)
            || sealed::generation(name).is_some_and(before);
        if trimmed {
            release(disk, name).map_err(OpenError::io(name))?;
        } else if packed || is_spare(name) {
            spare.reuse(name).map_err(OpenError::io(name))?;
        } else if [INDEXING, SEALING, TRIMMING].contains(&name.as_str()) {
            disk.remove(name).map_err(OpenError::io(name))?;
        }
    }
    Ok(())
}

/// Makes the indexes that are missing; how many. Where there is no room for one it stays in memory,
/// and so do those of all later segments, for what memory has is newer than what files have.
pub(super) fn index_again(
    disk: &dyn Disk,
    upkeep: &Upkeep,
    survey: &Survey,
) -> Result<u64, OpenError> {
    let (mut made, mut is_full) = (0, false);
    for (generation, form) in &survey.forms {
        let is_missing = !upkeep.source().runs.cover(*generation);
        if *generation >= survey.active.header.generation || !(is_missing || is_full) {
            continue;
        }
        match form {
            Form::Plain => open::load_sealed(disk, *generation, upkeep.shards())?,
            Form::Sealed => upkeep.load_packed(*generation)?,
        }
        for shard in upkeep.shards() {
            shard.state().seal(*generation);
        }
        made += u64::from(is_missing);
        if is_full {
            continue;
        }
        match upkeep.index_waiting() {
            Err(OpenError::Io { source, .. }) if journal::is_full(&source) => is_full = true,
            result => result?,
        }
    }
    Ok(made)
}
