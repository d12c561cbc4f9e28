//! Records from disk: frames and blocks picked by the indexes, read in large pieces, every checksum
//! verified.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use everfold_engine::engine::{Identity, ReadError, ReadLimit};
use everfold_engine::{Offset, Partition, Record};

use crate::decode::Body;
use crate::error::{Damage, OpenError};
use crate::frame::{self, FrameHeader, Place};
use crate::index::{FramePlace, Runs};
use crate::sealed::{BlockEntry, SealedFile, Walk};
use crate::segment;
use crate::segments::{Form, Segments};

/// Frames closer together than this are read at once.
const GAP: u64 = 64 << 10;
/// The most that is read at once, unless one frame is larger.
const PIECE: u64 = 4 << 20;

/// Which links of the chain a reader wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// Those that are stored: of the last record of each batch.
    Known,
    /// All of them: the others are computed, which takes several times as long as reading.
    All,
}

/// Reads what is durable.
pub(crate) struct Source {
    identity: Identity,
    pub(crate) segments: Segments,
    pub(crate) runs: Runs,
    /// Whether some history was trimmed: then an entity's may begin with a baseline.
    trimmed: AtomicBool,
}

/// Records of one partition, and how far they reach.
pub(crate) struct Stretch {
    pub(crate) records: Vec<Arc<Record>>,
    /// Everything up to here was looked at.
    pub(crate) until: Offset,
}

impl Source {
    pub(crate) fn new(identity: Identity, segments: Segments, runs: Runs, trimmed: bool) -> Self {
        Self {
            identity,
            segments,
            runs,
            trimmed: AtomicBool::new(trimmed),
        }
    }

    pub(crate) fn is_trimmed(&self) -> bool {
        self.trimmed.load(Ordering::Acquire)
    }

    pub(crate) fn set_trimmed(&self) {
        self.trimmed.store(true, Ordering::Release);
    }

    /// The last offset before everything that is left of a partition.
    pub(crate) fn begin(&self, partition: Partition) -> Result<Offset, ReadError> {
        if !self.is_trimmed() {
            return Ok(Offset(0));
        }
        let first = self.segments.first();
        self.segments.before(first, partition).map_err(read_error)
    }

    /// Records after an offset that is durable and no longer indexed in memory; at least those of
    /// one frame.
    pub(crate) fn after(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
        links: Links,
    ) -> Result<Stretch, ReadError> {
        self.again_if_packed(|| {
            let begin = self.begin(partition)?;
            let next = Offset(after.max(begin).0 + 1);
            let generation = self.holding(partition, next)?;
            match self.segments.form(generation) {
                Some(Form::Sealed) => self.packed_after(generation, partition, next, limit, links),
                _ => self.plain_after(generation, partition, next, limit, links),
            }
        })
    }

    /// The records at some offsets, ascending, that are no longer indexed in memory.
    pub(crate) fn at(
        &self,
        partition: Partition,
        offsets: &[u64],
    ) -> Result<Vec<Arc<Record>>, ReadError> {
        self.again_if_packed(|| {
            let mut records = Vec::with_capacity(offsets.len());
            let begin = self.begin(partition)?;
            let mut rest = &offsets[offsets.partition_point(|offset| *offset <= begin.0)..];
            while let Some(first) = rest.first() {
                let generation = self.holding(partition, Offset(*first))?;
                let end = if generation == self.segments.active() {
                    Offset(u64::MAX)
                } else {
                    self.segments
                        .before(generation + 1, partition)
                        .map_err(read_error)?
                };
                let together = rest.partition_point(|offset| *offset <= end.0).max(1);
                let (here, behind) = rest.split_at(together);
                match self.segments.form(generation) {
                    Some(Form::Sealed) => {
                        self.packed_at(generation, partition, here, &mut records)?;
                    }
                    _ => self.plain_at(generation, partition, here, &mut records)?,
                }
                rest = behind;
            }
            Ok(records)
        })
    }

    /// Segments are packed and their files used again while they are read: what was not found as
    /// it was is looked for once more.
    fn again_if_packed<T>(&self, read: impl Fn() -> Result<T, ReadError>) -> Result<T, ReadError> {
        loop {
            let changes = self.segments.changes();
            match read() {
                Err(_) if self.segments.changes() != changes => {}
                done => return done,
            }
        }
    }

    fn holding(&self, partition: Partition, offset: Offset) -> Result<u64, ReadError> {
        self.segments.holding(partition, offset).map_err(read_error)
    }

    fn plain_after(
        &self,
        generation: u64,
        partition: Partition,
        next: Offset,
        limit: ReadLimit,
        links: Links,
    ) -> Result<Stretch, ReadError> {
        let run = self.run(generation)?;
        let mut taken = Vec::new();
        let mut bytes = 0;
        for place in run.frames(partition.0, next).map_err(read_damage)? {
            let place = place.map_err(read_damage)?;
            let records = place.first.0.saturating_sub(next.0);
            let enough = records >= limit.records as u64 || bytes >= limit.bytes;
            let elsewhere = u64::from(place.generation) != generation;
            if !taken.is_empty() && (enough || elsewhere) {
                break;
            }
            bytes += place.length as usize;
            taken.push(place);
        }
        let records = self.frames(&taken, links, &|offset| offset >= next.0)?;
        let until = records.last().map(|record| record.local.offset);
        let until = until.ok_or_else(|| self.lost(generation, partition, next))?;
        Ok(Stretch { records, until })
    }

    fn plain_at(
        &self,
        generation: u64,
        partition: Partition,
        offsets: &[u64],
        records: &mut Vec<Arc<Record>>,
    ) -> Result<(), ReadError> {
        let run = self.run(generation)?;
        let mut places: Vec<FramePlace> = Vec::new();
        let mut until = 0;
        for offset in offsets {
            if *offset < until {
                continue;
            }
            let mut frames = run
                .frames(partition.0, Offset(*offset))
                .map_err(read_damage)?;
            let found = frames.next().transpose().map_err(read_damage)?;
            let found = found.ok_or_else(|| self.lost(generation, partition, Offset(*offset)))?;
            // Where the next frame begins this one's records end.
            until = match frames.next().transpose().map_err(read_damage)? {
                Some(next) => next.first.0,
                None => u64::MAX,
            };
            places.push(found);
        }
        let found = self.frames(&places, Links::Known, &|offset| among(offsets, offset))?;
        records.extend(found);
        Ok(())
    }

    fn run(&self, generation: u64) -> Result<Arc<crate::index::Run>, ReadError> {
        self.runs.covering(generation).ok_or_else(|| {
            ReadError::Unavailable(format!("segment {generation} is not indexed yet"))
        })
    }

    fn lost(&self, generation: u64, partition: Partition, offset: Offset) -> ReadError {
        ReadError::Damaged(format!(
            "segment {generation}: expected offset {offset} of partition {partition}, found none"
        ))
    }

    /// Those records of frames that are wanted by their offset; the frames are in order of place.
    pub(crate) fn frames(
        &self,
        frames: &[FramePlace],
        links: Links,
        wanted: &dyn Fn(u64) -> bool,
    ) -> Result<Vec<Arc<Record>>, ReadError> {
        let mut records = Vec::new();
        let mut rest = frames;
        while let Some(first) = rest.first() {
            let together = rest
                .windows(2)
                .take_while(|pair| joins(first, &pair[0], &pair[1]))
                .count()
                + 1;
            let (piece, behind) = rest.split_at(together);
            self.piece(piece, links, wanted, &mut records)?;
            rest = behind;
        }
        Ok(records)
    }

    fn piece(
        &self,
        frames: &[FramePlace],
        links: Links,
        wanted: &dyn Fn(u64) -> bool,
        records: &mut Vec<Arc<Record>>,
    ) -> Result<(), ReadError> {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
            return Ok(());
        };
        let generation = u64::from(first.generation);
        let begin = u64::from(first.position);
        let end = end_of(last);
        let unavailable = |error: std::io::Error| {
            ReadError::Unavailable(format!("{}: {error}", segment::name(generation)))
        };
        let file = self.segments.plain(generation).map_err(unavailable)?;
        let mut bytes = vec![0; (end - begin) as usize];
        file.read_at(begin, &mut bytes).map_err(unavailable)?;
        let bytes = Bytes::from(bytes);
        for place in frames {
            let from = (u64::from(place.position) - begin) as usize;
            let frame = bytes.slice(from..(end_of(place) - begin) as usize);
            self.frame(&frame, place, links, wanted, records)
                .map_err(|found| {
                    ReadError::Damaged(format!(
                        "{} at byte {}: expected the frame of offset {}, found {found}",
                        segment::name(generation),
                        place.position,
                        place.first
                    ))
                })?;
        }
        Ok(())
    }

    fn frame(
        &self,
        bytes: &Bytes,
        place: &FramePlace,
        links: Links,
        wanted: &dyn Fn(u64) -> bool,
        records: &mut Vec<Arc<Record>>,
    ) -> Result<(), String> {
        let header = frame::parse(
            bytes,
            Place {
                incarnation: self.identity.incarnation.0,
                generation: u64::from(place.generation),
                position: u64::from(place.position),
            },
        )?;
        if header.first != place.first {
            return Err(format!("the frame of offset {}", header.first));
        }
        self.decode(bytes, &header, links, wanted, records)
    }

    fn decode(
        &self,
        bytes: &Bytes,
        header: &FrameHeader,
        links: Links,
        wanted: &dyn Fn(u64) -> bool,
        records: &mut Vec<Arc<Record>>,
    ) -> Result<(), String> {
        let body = Body::of(bytes, header)?;
        match links {
            Links::Known => records.extend(body.some(header, &self.identity, wanted)?),
            Links::All => {
                let decoded = body.records(header, &self.identity)?;
                let decoded = decoded.into_iter().filter(|r| wanted(r.local.offset.0));
                records.extend(decoded.map(Arc::new));
            }
        }
        Ok(())
    }

    fn packed_after(
        &self,
        generation: u64,
        partition: Partition,
        next: Offset,
        limit: ReadLimit,
        links: Links,
    ) -> Result<Stretch, ReadError> {
        let file = self.segments.sealed(generation).map_err(read_error)?;
        let directory = file.directory().map_err(read_damage)?;
        let blocks = directory.from(partition.0, next);
        let mut bytes = 0;
        let mut taken = 0;
        for block in blocks {
            let before = block.first.0.saturating_sub(next.0);
            if taken > 0 && (before >= limit.records as u64 || bytes >= limit.bytes) {
                break;
            }
            bytes += block.raw as usize;
            taken += 1;
        }
        let blocks = &blocks[..taken];
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
            return Err(self.lost(generation, partition, next));
        };
        // The last block is mostly read in part, and asked for again.
        let raw = match taken {
            1 => vec![file.block(first, true).map_err(read_damage)?],
            _ => {
                let mut raw = file.blocks(&blocks[..taken - 1]).map_err(read_damage)?;
                raw.push(file.block(last, true).map_err(read_damage)?);
                raw
            }
        };
        let (mut records, mut until, mut payload) = (Vec::new(), Offset(next.0 - 1), 0);
        for (block, entry) in raw.into_iter().zip(blocks) {
            for found in Walk::through(block) {
                let (_, header, frame) = found.map_err(|found| bad_block(&file, entry, found))?;
                if header.count == 0 || header.last() < next {
                    continue;
                }
                let enough = records.len() >= limit.records || payload >= limit.bytes;
                if enough && until >= next {
                    return Ok(Stretch { records, until });
                }
                self.decode(
                    &frame,
                    &header,
                    links,
                    &|offset| offset >= next.0,
                    &mut records,
                )
                .map_err(|found| bad_block(&file, entry, &found))?;
                payload += frame.len();
                until = header.last();
            }
        }
        if until < next {
            return Err(self.lost(generation, partition, next));
        }
        Ok(Stretch { records, until })
    }

    fn packed_at(
        &self,
        generation: u64,
        partition: Partition,
        offsets: &[u64],
        records: &mut Vec<Arc<Record>>,
    ) -> Result<(), ReadError> {
        let file = self.segments.sealed(generation).map_err(read_error)?;
        let directory = file.directory().map_err(read_damage)?;
        let mut rest = offsets;
        while let Some(offset) = rest.first() {
            let blocks = directory.from(partition.0, Offset(*offset));
            let entry = blocks
                .first()
                .ok_or_else(|| self.lost(generation, partition, Offset(*offset)))?;
            let here = rest
                .partition_point(|offset| *offset <= entry.last.0)
                .max(1);
            let raw = file.block(entry, true).map_err(read_damage)?;
            let of_these = |offset| among(&rest[..here], offset);
            for walked in Walk::through(raw) {
                let (_, header, frame) = walked.map_err(|found| bad_block(&file, entry, found))?;
                let next = rest.partition_point(|offset| *offset < header.first.0);
                let hit = rest
                    .get(next)
                    .is_some_and(|offset| *offset <= header.last().0);
                if header.count > 0 && hit {
                    self.decode(&frame, &header, Links::Known, &of_these, records)
                        .map_err(|found| bad_block(&file, entry, &found))?;
                }
            }
            rest = &rest[here..];
        }
        Ok(())
    }
}

fn among(offsets: &[u64], offset: u64) -> bool {
    offsets.binary_search(&offset).is_ok()
}

fn bad_block(file: &SealedFile, entry: &BlockEntry, found: &str) -> ReadError {
    read_damage(file.damage(entry.position, "frames of records", found))
}

pub(crate) fn read_damage(damage: Damage) -> ReadError {
    match damage.passing {
        true => ReadError::Unavailable(damage.to_string()),
        false => ReadError::Damaged(damage.to_string()),
    }
}

/// What a reader is told of a file that does not open.
pub(crate) fn read_error(error: OpenError) -> ReadError {
    match error {
        OpenError::Io { .. } => ReadError::Unavailable(error.to_string()),
        OpenError::Damaged(damage) => read_damage(damage),
        other => ReadError::Damaged(other.to_string()),
    }
}

fn end_of(place: &FramePlace) -> u64 {
    u64::from(place.position) + frame::span(place.length as usize) as u64
}

/// Whether `next` is read together with `before`, and all since `first`.
fn joins(first: &FramePlace, before: &FramePlace, next: &FramePlace) -> bool {
    before.generation == next.generation
        && next.position >= before.position
        && u64::from(next.position) - end_of(before) <= GAP
        && end_of(next) - u64::from(first.position) <= PIECE
}
