//! Indexes of full segments are written, and neighbours merged.

use std::io;
use std::sync::Arc;

use everfold_engine::Offset;

use super::{INDEXING, Upkeep};
use crate::disk;
use crate::error::OpenError;
use crate::index::{self, Builder, FramePlace, Fresh, Key, MergeError, Run, Trust};
use crate::partition::Waiting;
use crate::segments::Form;

impl Upkeep {
    pub(crate) fn index_waiting(&self) -> Result<(), OpenError> {
        loop {
            let waiting: Vec<_> = self
                .shards
                .iter()
                .map(|shard| shard.state().waiting().first().cloned())
                .collect();
            let Some(generation) = waiting.iter().flatten().map(|w| w.generation).min() else {
                return Ok(());
            };
            // Partitions are sealed one after the other: an index without those that follow would
            // stand for them too. Whoever seals the last one wakes the upkeep.
            let is_waiting =
                |w: &Option<Waiting>| w.as_ref().map(|w| w.generation) == Some(generation);
            if self.is_closing() || !waiting.iter().all(is_waiting) {
                return Ok(());
            }
            let parts: Vec<_> = waiting
                .iter()
                .enumerate()
                .filter_map(|(partition, waiting)| {
                    let waiting = waiting.as_ref().filter(|w| w.generation == generation)?;
                    Some((partition as u16, &*waiting.index, waiting.last))
                })
                .collect();
            // An index that was there all along waits for those before it.
            if !self.source.runs.cover(generation) {
                self.write_run(generation, &parts)?;
            }
            for shard in self.shards.iter() {
                shard.state().indexed(generation);
            }
        }
    }

    /// Writes the index of one segment, and takes it into use.
    pub(crate) fn write_run(
        &self,
        generation: u64,
        parts: &[(u16, &Fresh, Offset)],
    ) -> Result<(), OpenError> {
        let run = self.write_index((generation, generation), parts)?;
        self.take(vec![run])
    }

    pub(super) fn write_index(
        &self,
        span: (u64, u64),
        parts: &[(u16, &Fresh, Offset)],
    ) -> Result<Run, OpenError> {
        self.or_clear(INDEXING, || self.put_run(span, parts))
    }

    fn put_run(&self, span: (u64, u64), parts: &[(u16, &Fresh, Offset)]) -> Result<Run, OpenError> {
        let subjects = parts
            .iter()
            .map(|(_, index, _)| index.subjects().count() as u64);
        let mut builder = self.builder(span, subjects.sum())?;
        let write = || {
            for (partition, index, last) in parts {
                put_index(&mut builder, *partition, index, *last)?;
            }
            builder.finish()
        };
        write().map_err(OpenError::io(INDEXING))?;
        self.publish_run(span)
    }

    fn builder(&self, span: (u64, u64), subjects: u64) -> Result<Builder, OpenError> {
        let file = disk::create(&*self.disk, INDEXING).map_err(OpenError::io(INDEXING))?;
        Ok(Builder::new(
            file,
            self.identity.incarnation,
            span,
            subjects,
        ))
    }

    fn publish_run(&self, span: (u64, u64)) -> Result<Run, OpenError> {
        let name = index::name(span);
        disk::publish(&*self.disk, INDEXING, &name).map_err(OpenError::io(&name))?;
        Ok(Run::open(
            &*self.disk,
            &name,
            self.identity.incarnation,
            &self.cache,
        )?)
    }

    /// Takes runs into use, and removes the files of those that they replace.
    pub(super) fn take(&self, runs: Vec<Run>) -> Result<(), OpenError> {
        let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
        let replaced = self.source.runs.add(runs);
        for run in replaced.iter().filter(|run| !names.contains(&run.name)) {
            self.release(&run.name)?;
        }
        Ok(())
    }

    pub(super) fn merge_runs(&self) -> Result<(), OpenError> {
        while let Some(group) = self.source.runs.to_merge() {
            let (Some(first), Some(last)) = (group.first(), group.last()) else {
                return Ok(());
            };
            if self.is_closing() {
                return Ok(());
            }
            let span = (first.generations().0, last.generations().1);
            match self.or_clear(INDEXING, || self.merge(span, &group)) {
                Ok(Some(run)) => self.take(vec![run])?,
                Ok(None) => return Ok(()),
                // It is made again, and not merged before.
                Err(OpenError::Damaged(damage)) => {
                    if group.iter().all(|run| run.trust() == Trust::Full) {
                        return Err(damage.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// One run of several; none if there was no time for it.
    fn merge(&self, span: (u64, u64), group: &[Arc<Run>]) -> Result<Option<Run>, OpenError> {
        let subjects = group.iter().map(|run| run.subjects()).sum();
        let mut builder = self.builder(span, subjects)?;
        let forms = self.source.segments.forms();
        let has_frames = |generation: u32| forms.get(&u64::from(generation)) == Some(&Form::Plain);
        let runs: Vec<&Run> = group.iter().map(|run| &**run).collect();
        let stop = || self.is_closing();
        match index::merge(&runs, &mut builder, &has_frames, &stop) {
            Ok(()) => {}
            Err(MergeError::Stopped) => return Ok(None),
            Err(MergeError::Damaged(damage)) => return Err(damage.into()),
            Err(MergeError::Io(error)) => return Err(OpenError::io(INDEXING)(error)),
        }
        builder.finish().map_err(OpenError::io(INDEXING))?;
        self.publish_run(span).map(Some)
    }
}

/// Writes what one partition has in a segment, up to its last offset there.
fn put_index(builder: &mut Builder, partition: u16, index: &Fresh, last: Offset) -> io::Result<()> {
    let within = |place: &&FramePlace| place.first <= last;
    for place in index.frames().iter().take_while(within) {
        let key = Key::frame(partition, place.first.0);
        builder.push(key, &index::encode_frame(place))?;
    }
    let mut subjects: Vec<_> = index.subjects().collect();
    subjects.sort_unstable_by_key(|(subject, _)| *subject);
    for (subject, places) in subjects {
        let offsets = places.offsets();
        let offsets = &offsets[..offsets.partition_point(|offset| *offset <= last.0)];
        let mut version = places.first_version;
        for piece in offsets.chunks(index::PIECE) {
            let key = Key {
                partition,
                subject,
                first: piece[0],
            };
            let value = index::encode_postings(version, places.dense, piece);
            builder.push(key, &value)?;
            version += if places.dense { piece.len() as u64 } else { 0 };
        }
    }
    Ok(())
}
