//! Letting go of history: whole segments from the front, or the events of one entity.
//!
//! Nothing goes but what a baseline stands for, and the chain stays whole: a segment says with what
//! it begins, and of a record that goes its kind, version and digest stay.

mod marker;
mod reduce;

use std::sync::Arc;

use everfold_engine::engine::{ReadError, Trim, TrimError, Trimmed};
use everfold_engine::map::{Map, seeded};
use everfold_engine::record::Kind;
use everfold_engine::{EntityKey, Offset, Partition, Record};

use crate::error::OpenError;
use crate::index::Subjects;
use crate::read::{Links, read_damage, read_error};
use crate::segments::Form;
use crate::upkeep::Upkeep;

pub(crate) use marker::{MARKER, Marker, TRIMMING};

impl Upkeep {
    /// Trims while nothing else is done beside the writing; appends and reads go on.
    pub(crate) fn trim(&self, trim: Trim) -> Result<Trimmed, TrimError> {
        let _alone = self.alone();
        if self.is_closing() {
            return Err(TrimError::Unavailable("the log is closing".into()));
        }
        // Segments that have just been filled are to be indexed first.
        self.index_waiting().map_err(trim_error)?;
        match trim {
            Trim::Before(offsets) => self.trim_before(&offsets),
            Trim::Entity {
                partition,
                entity,
                until,
            } => self.trim_entity(partition, &entity, until),
        }
    }

    fn trim_before(&self, offsets: &[Offset]) -> Result<Trimmed, TrimError> {
        let segments = &self.source().segments;
        let count = usize::from(self.identity().layout.partitions);
        if offsets.len() != count {
            return Err(TrimError::Invalid(format!(
                "{} offsets were given for {count} partitions",
                offsets.len()
            )));
        }
        let (first, active) = (segments.first(), segments.active());
        let mut end = first;
        while end < active {
            let starts = segments.starts(end + 1).map_err(trim_error)?;
            let goes = |(start, offset): (&crate::segments::Start, &Offset)| start.last <= *offset;
            if !starts.iter().zip(offsets).all(goes) {
                break;
            }
            end += 1;
        }
        let mut trimmed = Trimmed::default();
        if end == first {
            return Ok(trimmed);
        }
        for generation in first..end {
            trimmed.records += self.check_baselines(generation, end)?;
        }
        self.mark(end).map_err(trim_error)?;
        let names = self
            .disk()
            .list()
            .map_err(|error| TrimError::Unavailable(error.to_string()))?;
        let gone = segments.forget_before(end);
        for run in self.source().runs.forget_before(end) {
            self.release(&run.name).map_err(trim_error)?;
        }
        for generation in gone.keys() {
            for name in [
                crate::segment::name(*generation),
                crate::sealed::name(*generation),
            ] {
                if names.contains(&name) {
                    trimmed.bytes += self.length(&name).map_err(trim_error)?;
                    self.release(&name).map_err(trim_error)?;
                }
            }
        }
        Ok(trimmed)
    }

    /// Whether every event of a segment has something behind `end` that stands for it; how many
    /// records the segment has.
    fn check_baselines(&self, generation: u64, end: u64) -> Result<u64, TrimError> {
        let mut versions: Map<(Partition, EntityKey), u64> = seeded(0);
        let mut count = 0;
        self.for_each_batch(generation, &mut |batch| {
            for record in batch.records {
                count += 1;
                if matches!(record.kind, Kind::Event | Kind::Baseline) {
                    let key = (batch.header.partition, record.portable.entity);
                    let version = versions.entry(key).or_default();
                    *version = record.local.version.max(*version);
                }
            }
        })
        .map_err(trim_error)?;
        let starts = self.source().segments.starts(end).map_err(trim_error)?;
        for ((partition, entity), version) in versions {
            let behind = starts[partition.index()].last;
            let baseline = self.baseline(partition, &entity)?;
            let stands = |baseline: Arc<Record>| {
                baseline.local.version >= version && baseline.local.offset > behind
            };
            if !baseline.is_some_and(stands) {
                return Err(TrimError::NoBaseline { entity, version });
            }
        }
        Ok(count)
    }

    fn trim_entity(
        &self,
        partition: Partition,
        entity: &EntityKey,
        until: Offset,
    ) -> Result<Trimmed, TrimError> {
        if self.shards().get(partition.index()).is_none() {
            return Err(ReadError::NoPartition(partition).into());
        }
        let Some(baseline) = self.baseline(partition, entity)? else {
            return Err(TrimError::NoBaseline {
                entity: entity.clone(),
                version: 0,
            });
        };
        let segments = &self.source().segments;
        let subject = Subjects::of(self.identity().incarnation).entity(entity);
        let mut generations = Vec::new();
        for run in self.source().runs.list().iter() {
            let postings = run.postings(partition.0, subject, 0).map_err(read_damage)?;
            for places in postings {
                for offset in places.map_err(read_damage)?.offsets() {
                    if *offset < baseline.local.offset.0 && *offset <= until.0 {
                        let holding = segments.holding(partition, Offset(*offset));
                        generations.push(holding.map_err(trim_error)?);
                    }
                }
            }
        }
        generations.sort_unstable();
        generations.dedup();
        let mut trimmed = Trimmed::default();
        if generations.is_empty() {
            return Ok(trimmed);
        }
        self.mark(segments.first()).map_err(trim_error)?;
        for generation in generations {
            if segments.form(generation) == Some(Form::Plain) {
                self.pack(generation, self.compression())
                    .map_err(trim_error)?;
            }
            let goes = |record: &Record| {
                record.kind == Kind::Event
                    && record.portable.entity == *entity
                    && record.local.version <= baseline.local.version
                    && record.local.offset <= until
            };
            let (records, bytes) = self
                .reduce(generation, partition, &goes)
                .map_err(trim_error)?;
            trimmed.records += records;
            trimmed.bytes += bytes;
        }
        Ok(trimmed)
    }

    /// Says durably that history begins with a segment, or has gaps behind it.
    fn mark(&self, first: u64) -> Result<(), OpenError> {
        let header = self.source().segments.header(first)?;
        let marker = Marker {
            incarnation: self.identity().incarnation,
            first,
            starts: header.starts,
        };
        marker.write(self.disk())?;
        self.source().set_trimmed();
        Ok(())
    }

    /// The newest baseline of an entity.
    pub(crate) fn baseline(
        &self,
        partition: Partition,
        entity: &EntityKey,
    ) -> Result<Option<Arc<Record>>, ReadError> {
        let subject = Subjects::of(self.identity().incarnation).baselines(entity);
        let mut offsets = Vec::new();
        {
            let state = self.shards()[partition.index()].state();
            for (_, places, last) in state.layers(subject) {
                let places = places.map(|places| places.offsets()).unwrap_or_default();
                offsets.extend(places.iter().filter(|offset| **offset <= last.0));
            }
        }
        for run in self.source().runs.list().iter() {
            if run.may_hold(partition.0, subject).map_err(read_damage)? {
                for places in run.postings(partition.0, subject, 0).map_err(read_damage)? {
                    offsets.extend_from_slice(places.map_err(read_damage)?.offsets());
                }
            }
        }
        offsets.sort_unstable();
        while let Some(offset) = offsets.pop() {
            for record in self.record_at(partition, Offset(offset))? {
                let is_it = record.kind == Kind::Baseline && record.portable.entity == *entity;
                if is_it && record.local.offset.0 == offset {
                    return Ok(Some(record));
                }
            }
        }
        Ok(None)
    }

    /// The record at an offset, perhaps among others.
    fn record_at(
        &self,
        partition: Partition,
        offset: Offset,
    ) -> Result<Vec<Arc<Record>>, ReadError> {
        loop {
            let changes = self.source().segments.changes();
            let frame = {
                let state = self.shards()[partition.index()].state();
                if let Some(record) = state.tail.get(offset.0) {
                    return Ok(vec![Arc::clone(record)]);
                }
                let frames = state.frames_from(offset);
                frames.map(|frames| frames.first().copied())
            };
            let read = match frame {
                Some(Some(frame)) => {
                    let it = |found| found == offset.0;
                    self.source().frames(&[frame], Links::Known, &it)
                }
                Some(None) => Ok(Vec::new()),
                None => self.source().at(partition, &[offset.0]),
            };
            match read {
                // It may have been packed before it was read.
                Err(_) if self.source().segments.changes() != changes => {}
                read => return read,
            }
        }
    }
}

fn trim_error(error: OpenError) -> TrimError {
    match read_error(error) {
        ReadError::Unavailable(why) => TrimError::Unavailable(why),
        error => error.into(),
    }
}
