//! Records from disk: frames picked by the index, read in large pieces, every checksum verified.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use everfold_engine::Record;
use everfold_engine::engine::{Identity, ReadError};
use everfold_engine::map::{Map, seeded};

use crate::decode::Body;
use crate::disk::{Access, Disk, File};
use crate::frame::{self, Place};
use crate::index::FramePlace;
use crate::segment;

/// Frames closer together than this are read at once.
const GAP: u64 = 64 << 10;
/// The most that is read at once, unless one frame is larger.
const PIECE: u64 = 4 << 20;
/// Files kept open for reading.
const OPEN_FILES: usize = 128;

/// Reads frames of segments.
pub(crate) struct Source {
    disk: Arc<dyn Disk>,
    identity: Identity,
    files: Mutex<Map<u32, Arc<dyn File>>>,
}

impl Source {
    pub(crate) fn new(disk: Arc<dyn Disk>, identity: Identity) -> Self {
        Self {
            disk,
            identity,
            files: Mutex::new(seeded(0)),
        }
    }

    /// The records of frames, which are in order of place.
    pub(crate) fn records(&self, frames: &[FramePlace]) -> Result<Vec<Arc<Record>>, ReadError> {
        let mut records = Vec::new();
        let mut rest = frames;
        while let Some(first) = rest.first() {
            let together = rest
                .windows(2)
                .take_while(|pair| joins(first, &pair[0], &pair[1]))
                .count()
                + 1;
            let (piece, behind) = rest.split_at(together);
            self.piece(piece, &mut records)?;
            rest = behind;
        }
        Ok(records)
    }

    fn piece(
        &self,
        frames: &[FramePlace],
        records: &mut Vec<Arc<Record>>,
    ) -> Result<(), ReadError> {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
            return Ok(());
        };
        let begin = u64::from(first.position);
        let end = end_of(last);
        let unavailable = |error: std::io::Error| {
            let name = segment::name(u64::from(first.generation));
            ReadError::Unavailable(format!("{name}: {error}"))
        };
        let file = self.file(first.generation).map_err(unavailable)?;
        let mut bytes = vec![0; (end - begin) as usize];
        file.read_at(begin, &mut bytes).map_err(unavailable)?;
        let bytes = Bytes::from(bytes);
        for place in frames {
            let from = (u64::from(place.position) - begin) as usize;
            let frame = bytes.slice(from..(end_of(place) - begin) as usize);
            let decoded = self.frame(&frame, place).map_err(|found| {
                ReadError::Damaged(format!(
                    "{} at byte {}: expected the frame of offset {}, found {found}",
                    segment::name(u64::from(place.generation)),
                    place.position,
                    place.first
                ))
            })?;
            records.extend(decoded.into_iter().map(Arc::new));
        }
        Ok(())
    }

    fn frame(&self, bytes: &Bytes, place: &FramePlace) -> Result<Vec<Record>, String> {
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
        let origin = self.identity.origin();
        Body::of(bytes, &header)?.records(&header, &origin, self.identity.chained)
    }

    fn file(&self, generation: u32) -> std::io::Result<Arc<dyn File>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(&generation) {
            return Ok(Arc::clone(file));
        }
        let name = segment::name(u64::from(generation));
        let file = self.disk.open(&name, Access::Read)?;
        if files.len() >= OPEN_FILES {
            files.clear();
        }
        files.insert(generation, Arc::clone(&file));
        Ok(file)
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
