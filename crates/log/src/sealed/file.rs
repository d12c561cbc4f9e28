//! Reads sealed segments.

use std::sync::Arc;

use bytes::Bytes;
use everfold_engine::record::wire::Reader;

use super::pack::TAIL;
use super::{BadSealed, BlockEntry, Codec, Directory, FORMAT, MAGIC, SealedHeader, name, sum};
use crate::cache::{Cached, ReadCache};
use crate::disk::{Access, Disk, File};
use crate::error::{Damage, OpenError};
use crate::frame::{self, FrameHeader};

/// The most that a header takes: two for each of 1024 partitions, and names.
const HEADER_LIMIT: usize = 128 << 10;
/// Blocks that lie together are read at once up to this.
const PIECE: u64 = 4 << 20;

pub(crate) struct SealedFile {
    name: String,
    file: Arc<dyn File>,
    length: u64,
    header: SealedHeader,
    number: u64,
    cache: Arc<ReadCache>,
}

/// Opens a sealed segment and reads its header.
fn open(disk: &dyn Disk, generation: u64) -> Result<(Arc<dyn File>, u64, SealedHeader), OpenError> {
    let name = name(generation);
    let read = || {
        let file = disk.open(&name, Access::Read)?;
        let length = file.len()?;
        let mut start = vec![0; (length as usize).min(HEADER_LIMIT)];
        file.read_at(0, &mut start)?;
        Ok((file, length, start))
    };
    let (file, length, start) = read().map_err(OpenError::io(&name))?;
    match SealedHeader::decode(&start) {
        Ok(header) if header.segment.generation == generation => Ok((file, length, header)),
        Err(BadSealed::Newer(found)) => Err(OpenError::Newer {
            file: name,
            found,
            known: FORMAT,
        }),
        Err(BadSealed::Foreign) => Err(OpenError::NotASegment { file: name }),
        Ok(_) | Err(BadSealed::Damaged) => Err(Damage {
            passing: false,
            file: name,
            at: 0,
            expected: format!("the header of sealed segment {generation}"),
            found: "one that is cut, changed or of another segment".into(),
        }
        .into()),
    }
}

/// The header of a sealed segment.
pub(crate) fn header_of(disk: &dyn Disk, generation: u64) -> Result<SealedHeader, OpenError> {
    open(disk, generation).map(|(_, _, header)| header)
}

impl SealedFile {
    pub(crate) fn open(
        disk: &dyn Disk,
        generation: u64,
        cache: &Arc<ReadCache>,
    ) -> Result<Self, OpenError> {
        let (file, length, header) = open(disk, generation)?;
        Ok(Self {
            name: name(generation),
            file,
            length,
            header,
            number: cache.file(),
            cache: Arc::clone(cache),
        })
    }

    pub(crate) fn header(&self) -> &SealedHeader {
        &self.header
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.length
    }

    fn incarnation(&self) -> u128 {
        self.header.segment.identity.incarnation.0
    }

    pub(crate) fn damage(
        &self,
        at: u64,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Damage {
        Damage {
            passing: false,
            file: self.name.clone(),
            at,
            expected: expected.into(),
            found: found.into(),
        }
    }

    fn read(&self, position: u64, length: usize) -> Result<Bytes, Damage> {
        let end = position.checked_add(length as u64);
        if end.is_none_or(|end| end > self.length) {
            let found = format!("a file of {} bytes", self.length);
            return Err(self.damage(position, format!("{length} bytes"), found));
        }
        let mut bytes = vec![0; length];
        self.file
            .read_at(position, &mut bytes)
            .map_err(|error| Damage {
                passing: true,
                ..self.damage(position, format!("{length} bytes"), error.to_string())
            })?;
        Ok(bytes.into())
    }

    pub(crate) fn directory(&self) -> Result<Arc<Directory>, Damage> {
        const KEY: u64 = u64::MAX;
        if let Some(Cached::Directory(directory)) = self.cache.get(self.number, KEY) {
            return Ok(directory);
        }
        let directory = Arc::new(self.read_directory()?);
        let cached = Cached::Directory(Arc::clone(&directory));
        self.cache.insert(self.number, KEY, cached);
        Ok(directory)
    }

    fn read_directory(&self) -> Result<Directory, Damage> {
        let at = self.length.saturating_sub(TAIL as u64);
        let tail = self.read(at, TAIL.min(self.length as usize))?;
        let damage = |found: &str| self.damage(at, "the end of a sealed segment", found);
        let mut reader = Reader::new(&tail);
        let mut fields = || {
            let place = (reader.u64().ok()?, reader.u64().ok()?);
            let rest = (reader.u64().ok()?, reader.u32().ok()?, reader.u32().ok()?);
            let magic = reader.take(MAGIC.len()).ok()?;
            (magic == MAGIC).then_some((place, rest))
        };
        let ((position, length), (generation, stored, format)) =
            fields().ok_or_else(|| damage("something else"))?;
        let ours = generation == self.header.segment.generation && format == FORMAT;
        if !ours || position.checked_add(length) != Some(at) {
            return Err(damage("one of another segment"));
        }
        let bytes = self.read(position, length as usize)?;
        if sum(&bytes, self.incarnation(), generation, position) != stored {
            return Err(self.damage(position, "a directory", "one whose checksum is wrong"));
        }
        // A frame from which records were taken is larger than before at most by what stands for them.
        let most = self.header.end.saturating_mul(8);
        let fits = |entry: &BlockEntry| {
            let end = entry.position.checked_add(u64::from(entry.stored));
            end.is_some_and(|end| end <= position) && u64::from(entry.raw) <= most
        };
        Directory::decode(&bytes)
            .filter(|directory| directory.entries().iter().all(fits))
            .ok_or_else(|| self.damage(position, "a directory", "one that cannot be read"))
    }

    /// Unpacks a block, and keeps it for the next question if `cached`.
    pub(crate) fn block(&self, entry: &BlockEntry, cached: bool) -> Result<Bytes, Damage> {
        if let Some(Cached::Bytes(raw)) = self.cache.get(self.number, entry.position) {
            return Ok(raw);
        }
        let stored = self.read(entry.position, entry.stored as usize)?;
        let raw = self.unpack(entry, stored)?;
        if cached {
            let kept = Cached::Bytes(raw.clone());
            self.cache.insert(self.number, entry.position, kept);
        }
        Ok(raw)
    }

    /// Unpacks blocks that lie one behind the other, read in as few pieces as may be.
    pub(crate) fn blocks(&self, entries: &[BlockEntry]) -> Result<Vec<Bytes>, Damage> {
        let mut raw = Vec::with_capacity(entries.len());
        let mut rest = entries;
        while let Some(first) = rest.first() {
            let together = rest
                .windows(2)
                .take_while(|pair| {
                    let end = pair[1].position + u64::from(pair[1].stored);
                    pair[0].position + u64::from(pair[0].stored) == pair[1].position
                        && end - first.position <= PIECE
                })
                .count()
                + 1;
            let (piece, behind) = rest.split_at(together);
            let length: usize = piece.iter().map(|entry| entry.stored as usize).sum();
            let bytes = self.read(first.position, length)?;
            for entry in piece {
                let from = (entry.position - first.position) as usize;
                raw.push(self.unpack(entry, bytes.slice(from..from + entry.stored as usize))?);
            }
            rest = behind;
        }
        Ok(raw)
    }

    fn unpack(&self, entry: &BlockEntry, stored: Bytes) -> Result<Bytes, Damage> {
        let damage = |found: &str| self.damage(entry.position, "a block of frames", found);
        let generation = self.header.segment.generation;
        if sum(&stored, self.incarnation(), generation, entry.position) != entry.sum {
            return Err(damage("one whose checksum is wrong"));
        }
        let raw = match Codec::of(entry.codec) {
            Some(Codec::Plain) => stored,
            Some(Codec::Zstandard) => zstd::bulk::decompress(&stored, entry.raw as usize)
                .map_err(|error| damage(&error.to_string()))?
                .into(),
            None => return Err(damage("one that is packed in an unknown way")),
        };
        if raw.len() != entry.raw as usize {
            return Err(damage("one of another length"));
        }
        Ok(raw)
    }
}

/// The frames of an unpacked block.
pub(crate) struct Walk {
    rest: Bytes,
}

impl Walk {
    pub(crate) fn through(block: Bytes) -> Self {
        Self { rest: block }
    }
}

impl Iterator for Walk {
    /// Where the frame lay in the segment, what it says, and its bytes.
    type Item = Result<(u32, FrameHeader, Bytes), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        const POSITION: usize = 4;
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let Some(position) = rest.first_chunk::<POSITION>() else {
            return Some(Err("a block that ends early"));
        };
        let position = u32::from_le_bytes(*position);
        let header = match frame::peek(&rest[POSITION..]) {
            Ok(header) => header,
            Err(found) => return Some(Err(found)),
        };
        let end = POSITION + header.length as usize;
        if rest.len() < end {
            return Some(Err("a frame longer than its block"));
        }
        self.rest = rest.slice(end..);
        Some(Ok((position, header, rest.slice(POSITION..end))))
    }
}
