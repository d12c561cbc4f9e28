//! What is done beside the writing: sealed segments are indexed, packed, and their files used again.
//!
//! Nothing here is needed for what was acknowledged to be durable or readable, so a step that fails
//! is left for the next time.

mod again;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use everfold_engine::engine::Identity;
use everfold_engine::{Offset, Partition, Record, World};

use crate::cache::ReadCache;
use crate::decode::{Body, first_stamp};
use crate::disk::{Access, Disk};
use crate::error::OpenError;
use crate::frame::FrameKind;
use crate::index::{self, Builder, FramePlace, Fresh, Key, MergeError, Run, Trust};
use crate::journal::Spare;
use crate::open::{Segment, check_length, read_whole, segment_of};
use crate::options::Options;
use crate::partition::Shard;
use crate::read::Source;
use crate::recovery::{Recovered, Verdict, recover};
use crate::sealed::{self, Packer, SealedHeader, Walk};
use crate::segment::SegmentHeader;
use crate::segments::Form;

/// A run while it is written.
pub(crate) const INDEXING: &str = "indexing";
/// A packed segment while it is written.
pub(crate) const SEALING: &str = "sealing";
/// The mark of trimmed history while it is written.
pub(crate) const TRIMMING: &str = "trimming";

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

    fn write_index(
        &self,
        span: (u64, u64),
        parts: &[(u16, &Fresh, Offset)],
    ) -> Result<Run, OpenError> {
        self.or_clear(INDEXING, || self.put_run(span, parts))
    }

    /// Nothing unfinished is left to take room.
    fn or_clear<T>(
        &self,
        name: &str,
        write: impl FnOnce() -> Result<T, OpenError>,
    ) -> Result<T, OpenError> {
        write().inspect_err(|_| {
            // It is removed at the next opening, or written over.
            let _ = self.disk.remove(name);
        })
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

    fn publish_run(&self, span: (u64, u64)) -> Result<Run, OpenError> {
        let name = index::name(span);
        let publish = || {
            self.disk.rename(INDEXING, &name)?;
            self.disk.sync_directory()
        };
        publish().map_err(OpenError::io(&name))?;
        Ok(Run::open(
            &*self.disk,
            &name,
            self.identity.incarnation,
            &self.cache,
        )?)
    }

    /// Takes runs into use, and removes the files of those that they replace.
    fn take(&self, runs: Vec<Run>) -> Result<(), OpenError> {
        let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
        let replaced = self.source.runs.add(runs);
        for run in replaced.iter().filter(|run| !names.contains(&run.name)) {
            self.release(&run.name)?;
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

    /// Packs what is far enough behind the segment that is written.
    fn pack_old(&self) -> Result<(), OpenError> {
        let Some(level) = self.options.compression else {
            return Ok(());
        };
        let keep = self.options.plain_segments;
        let active = self.source.segments.active();
        let mut result = Ok(());
        for (generation, form) in self.source.segments.forms() {
            if generation + keep >= active || self.is_closing() {
                break;
            }
            if form == Form::Plain && self.source.runs.cover(generation) {
                match self.pack(generation, Some(level)) {
                    // The others are packed all the same.
                    Err(error @ OpenError::Damaged(_)) => result = result.and(Err(error)),
                    packed => packed?,
                }
            }
        }
        result
    }

    /// A segment as it was written, the header of the next one, and what it holds.
    fn full_segment(
        &self,
        generation: u64,
    ) -> Result<(Segment, SegmentHeader, Bytes, Recovered), OpenError> {
        let segment = segment_of(&*self.disk, generation)?;
        let next = self.source.segments.header(generation + 1)?;
        let mut expectation = segment.expectation();
        expectation.sealed_end = Some(next.previous_end);
        check_length(&segment)?;
        let bytes = read_whole(&*self.disk, &segment.name)?;
        let recovered = recover(&bytes, &expectation);
        match recovered.verdict {
            Verdict::Damaged {
                at,
                expected,
                found,
            } => Err(segment.damage(at, expected, found).into()),
            _ => Ok((segment, next, bytes, recovered)),
        }
    }

    /// Packs a full segment, and gives its file to be used again.
    pub(crate) fn pack(&self, generation: u64, level: Option<i32>) -> Result<(), OpenError> {
        let packed = self.or_clear(SEALING, || self.write_packed(generation, level))?;
        let Some(name) = packed else {
            return Ok(());
        };
        self.source.segments.packed(generation);
        self.spare.reuse(&name).map_err(OpenError::io(&name))
    }

    /// The name of the file that is packed now; none if there was no time for it.
    fn write_packed(
        &self,
        generation: u64,
        level: Option<i32>,
    ) -> Result<Option<String>, OpenError> {
        let (segment, next, bytes, recovered) = self.full_segment(generation)?;
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
        let mut packer = Packer::new(file, &header, level);
        for found in &frames {
            if self.is_closing() {
                return Ok(None);
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
        Ok(Some(segment.name))
    }

    /// Reads a packed segment into the partitions, to index it again. Where its frames lie the
    /// segment says itself.
    pub(crate) fn load_packed(&self, generation: u64) -> Result<(), OpenError> {
        let header = self.source.segments.sealed(generation)?.header().clone();
        for (shard, start) in self.shards.iter().zip(&header.segment.starts) {
            shard.state().restart(*start);
        }
        self.for_each_packed(generation, &mut |partition, record| {
            if let Some(shard) = self.shards.get(partition.index()) {
                shard.state().index(record);
            }
        })?;
        for (shard, end) in self.shards.iter().zip(&header.ends) {
            shard.state().at = *end;
        }
        Ok(())
    }

    /// Shows every record of a full segment, those of each partition in order.
    pub(crate) fn for_each_record(
        &self,
        generation: u64,
        visit: &mut dyn FnMut(Partition, &Record),
    ) -> Result<(), OpenError> {
        if self.source.segments.form(generation) == Some(Form::Sealed) {
            return self.for_each_packed(generation, visit);
        }
        let (segment, _, bytes, recovered) = self.full_segment(generation)?;
        for found in &recovered.frames {
            if found.header.kind != FrameKind::Batch {
                continue;
            }
            let begin = found.position as usize;
            let frame = bytes.slice(begin..begin + found.header.length as usize);
            let records = Body::of(&frame, &found.header)
                .and_then(|body| body.records_without_links(&found.header, &self.identity))
                .map_err(|seen| segment.damage(found.position, "records", seen))?;
            for record in &records.0 {
                visit(found.header.partition, record);
            }
        }
        Ok(())
    }

    fn for_each_packed(
        &self,
        generation: u64,
        visit: &mut dyn FnMut(Partition, &Record),
    ) -> Result<(), OpenError> {
        let file = self.source.segments.sealed(generation)?;
        for entry in file.directory()?.entries() {
            let damage = |found: &str| file.damage(entry.position, "frames of records", found);
            for found in Walk::through(file.block(entry, false)?) {
                let (_, header, frame) = found.map_err(damage)?;
                if !matches!(header.kind, FrameKind::Batch | FrameKind::Reduced) {
                    continue;
                }
                let (records, _) = Body::of(&frame, &header)
                    .and_then(|body| body.records_without_links(&header, &self.identity))
                    .map_err(|found| damage(&found))?;
                for record in &records {
                    visit(header.partition, record);
                }
            }
        }
        Ok(())
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

/// Writes what one partition has in a segment, up to its last offset there.
fn put_index(builder: &mut Builder, partition: u16, index: &Fresh, last: Offset) -> io::Result<()> {
    let within = |place: &&FramePlace| place.first <= last;
    // What has no length only stands for something packed.
    let plain = |place: &&FramePlace| place.length > 0;
    for place in index.frames().iter().take_while(within).filter(plain) {
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
