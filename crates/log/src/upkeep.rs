//! What is done beside the writing: sealed segments are indexed, packed, and their files used again.
//!
//! Nothing here is needed for what was acknowledged to be durable or readable, so a step that fails
//! is left for the next time.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everfold_engine::engine::Identity;
use everfold_engine::{Offset, World};

use crate::cache::ReadCache;
use crate::decode::{Body, first_stamp};
use crate::disk::{Access, Disk};
use crate::error::OpenError;
use crate::frame::FrameKind;
use crate::index::{self, Builder, FramePlace, Fresh, Key, MergeError, Run};
use crate::journal::Spare;
use crate::open::{check_length, read_whole, segment_in_any_form, segment_of};
use crate::options::Options;
use crate::partition::Shard;
use crate::read::Source;
use crate::recovery::{Verdict, recover};
use crate::sealed::{self, Packer, SealedHeader, Walk};
use crate::segment;
use crate::segments::Form;

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
        let upkeep = Arc::clone(self);
        let job = move || {
            loop {
                while upkeep.wanted.swap(false, Ordering::AcqRel) {
                    upkeep.work();
                }
                upkeep.busy.store(false, Ordering::Release);
                // Whoever came in between found it busy and went away.
                let again = upkeep.wanted.load(Ordering::Acquire);
                if !again || upkeep.busy.swap(true, Ordering::AcqRel) {
                    return;
                }
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

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn work(&self) {
        let _alone = self.alone();
        let result = self
            .index_waiting()
            .and_then(|()| self.merge_runs())
            .and_then(|()| self.pack_old());
        let trouble = result.err().map(|error| error.to_string());
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn index_waiting(&self) -> Result<(), OpenError> {
        loop {
            let waiting: Vec<_> = self
                .shards
                .iter()
                .map(|shard| shard.state().waiting().first().cloned())
                .collect();
            let Some(generation) = waiting.iter().flatten().map(|w| w.generation).min() else {
                return Ok(());
            };
            if self.is_closing() {
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
            self.write_run(generation, &parts)?;
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
        let span = (generation, generation);
        let subjects = parts.iter().map(|(_, index, _)| index.subjects().count() as u64);
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
        let file = self.disk.open(INDEXING, Access::Store);
        let file = file.map_err(OpenError::io(INDEXING))?;
        file.set_len(0).map_err(OpenError::io(INDEXING))?;
        Ok(Builder::new(
            file,
            self.identity.incarnation,
            span,
            subjects,
        ))
    }

    fn publish_run(&self, span: (u64, u64)) -> Result<(), OpenError> {
        let name = index::name(span);
        let publish = || {
            self.disk.rename(INDEXING, &name)?;
            self.disk.sync_directory()
        };
        publish().map_err(OpenError::io(&name))?;
        let run = Run::open(&*self.disk, &name, self.identity.incarnation, &self.cache)?;
        for replaced in self.source.runs.add(run) {
            self.release(&replaced.name)?;
        }
        Ok(())
    }

    fn merge_runs(&self) -> Result<(), OpenError> {
        while let Some(group) = self.source.runs.to_merge() {
            let (Some(first), Some(last)) = (group.first(), group.last()) else {
                return Ok(());
            };
            if self.is_closing() {
                return Ok(());
            }
            let span = (first.generations().0, last.generations().1);
            let subjects = group.iter().map(|run| run.subjects()).sum();
            let mut builder = self.builder(span, subjects)?;
            let forms = self.source.segments.forms();
            let has_frames = |generation: u32| {
                forms.get(&u64::from(generation)) == Some(&Form::Plain)
            };
            let runs: Vec<&Run> = group.iter().map(|run| &**run).collect();
            index::merge(&runs, &mut builder, &has_frames).map_err(|error| match error {
                MergeError::Damaged(damage) => OpenError::Damaged(damage),
                MergeError::Io(error) => OpenError::io(INDEXING)(error),
            })?;
            builder.finish().map_err(OpenError::io(INDEXING))?;
            self.publish_run(span)?;
        }
        Ok(())
    }

    /// Packs what is far enough behind the segment that is written.
    fn pack_old(&self) -> Result<(), OpenError> {
        let Some(level) = self.options.compression else {
            return Ok(());
        };
        let keep = self.options.plain_segments;
        let active = self.source.segments.active();
        for (generation, form) in self.source.segments.forms() {
            if generation + keep >= active || self.is_closing() {
                return Ok(());
            }
            if form == Form::Plain && self.source.runs.cover(generation) {
                self.pack(generation, level)?;
            }
        }
        Ok(())
    }

    fn pack(&self, generation: u64, level: i32) -> Result<(), OpenError> {
        let segment = segment_of(&*self.disk, generation)?;
        let next = segment_in_any_form(&*self.disk, generation + 1)?.header;
        let mut expectation = segment.expectation();
        expectation.sealed_end = Some(next.previous_end);
        check_length(&segment)?;
        let bytes = read_whole(&*self.disk, &segment.name)?;
        let recovered = recover(&bytes, &expectation);
        if let Verdict::Damaged {
            at,
            expected,
            found,
        } = recovered.verdict
        {
            return Err(segment.damage(at, expected, found).into());
        }
        let file = self.disk.open(SEALING, Access::Store);
        let file = file.map_err(OpenError::io(SEALING))?;
        file.set_len(0).map_err(OpenError::io(SEALING))?;
        let header = SealedHeader {
            segment: segment.header.clone(),
            end: next.previous_end,
            last_flush: next.last_flush,
            ends: next.starts,
        };
        let mut frames = recovered.frames;
        frames.retain(|found| found.header.kind != FrameKind::Close);
        frames.sort_by_key(|found| (found.header.partition, found.position));
        let mut packer = Packer::new(file, &header, Some(level));
        for found in &frames {
            if self.is_closing() {
                return Ok(());
            }
            let begin = found.position as usize;
            let frame = bytes.slice(begin..begin + found.header.length as usize);
            let stamp = if packer.begins_block(&found.header) {
                first_stamp(&frame, &found.header, &self.identity)
                    .map_err(|seen| segment.damage(found.position, "records", seen))?
            } else {
                0
            };
            packer
                .push(&found.header, stamp, found.position as u32, &frame)
                .map_err(OpenError::io(SEALING))?;
        }
        packer.finish().map_err(OpenError::io(SEALING))?;
        let name = sealed::name(generation);
        let publish = || {
            self.disk.rename(SEALING, &name)?;
            self.disk.sync_directory()
        };
        publish().map_err(OpenError::io(&name))?;
        self.source.segments.packed(generation);
        self.spare
            .reuse(&segment::name(generation))
            .map_err(OpenError::io(&segment.name))
    }

    /// Reads a packed segment into the partitions, to index it again.
    pub(crate) fn load_packed(&self, generation: u64) -> Result<(), OpenError> {
        let file = self.source.segments.sealed(generation)?;
        let header = file.header();
        for (shard, start) in self.shards.iter().zip(&header.segment.starts) {
            shard.state().restart(*start);
        }
        for entry in file.directory()?.entries() {
            let damage = |found: &str| file.damage(entry.position, "frames of records", found);
            let shard = self.shards.get(usize::from(entry.partition));
            let shard = shard.ok_or_else(|| damage("another partition's"))?;
            for found in Walk::through(file.block(entry, false)?) {
                let (_, header, frame) = found.map_err(damage)?;
                if header.kind != FrameKind::Batch {
                    continue;
                }
                let identity = &self.identity;
                let (records, _) = Body::of(&frame, &header)
                    .and_then(|body| {
                        body.records_without_links(&header, &identity.origin(), identity.chained)
                    })
                    .map_err(|found| damage(&found))?;
                let mut state = shard.state();
                records.iter().for_each(|record| state.index(record));
            }
        }
        for (shard, end) in self.shards.iter().zip(&header.ends) {
            shard.state().at = *end;
        }
        Ok(())
    }

    /// Removes a file in steps: to free much space at once holds up whoever writes elsewhere.
    pub(crate) fn release(&self, name: &str) -> Result<(), OpenError> {
        crate::disk::release(&*self.disk, name).map_err(OpenError::io(name))
    }
}

/// Writes what one partition has in a segment, up to its last offset there.
fn put_index(
    builder: &mut Builder,
    partition: u16,
    index: &Fresh,
    last: Offset,
) -> io::Result<()> {
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
