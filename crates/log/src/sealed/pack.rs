//! Packs the frames of a segment.

use std::io;
use std::sync::Arc;

use everfold_engine::Offset;
use everfold_engine::record::wire::Writer;

use super::{BlockEntry, Directory, FORMAT, MAGIC, SealedHeader, sum};
use crate::disk::File;
use crate::frame::FrameHeader;

/// A block is packed when it has grown this large: enough to find repetitions, little enough to
/// unpack for one event.
const BLOCK: usize = 64 << 10;
/// How much is gathered before it is written.
const WRITE: usize = 1 << 20;
/// The bytes behind the directory.
pub(crate) const TAIL: usize = 40;

/// How a block is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    /// As it is.
    Plain = 0,
    /// As a Zstandard frame.
    Zstandard = 1,
}

impl Codec {
    pub(crate) fn of(code: u8) -> Option<Self> {
        [Self::Plain, Self::Zstandard]
            .into_iter()
            .find(|codec| *codec as u8 == code)
    }
}

/// Takes the frames of a segment, those of each partition together and in order.
pub(crate) struct Packer {
    file: Arc<dyn File>,
    incarnation: u128,
    generation: u64,
    level: Option<i32>,
    buffer: Vec<u8>,
    written: u64,
    directory: Directory,
    open: Option<Open>,
}

struct Open {
    partition: u16,
    first: Offset,
    last: Offset,
    stamp: i64,
    raw: Vec<u8>,
}

impl Packer {
    /// Writes to an empty file. `level` is that of Zstandard, `None` packs without compression.
    pub(crate) fn new(file: Arc<dyn File>, header: &SealedHeader, level: Option<i32>) -> Self {
        Self {
            file,
            incarnation: header.segment.identity.incarnation.0,
            generation: header.segment.generation,
            level,
            buffer: header.encode(),
            written: 0,
            directory: Directory::default(),
            open: None,
        }
    }

    /// Whether the next frame begins a block, so that the stamp of its first record is wanted.
    pub(crate) fn begins_block(&self, header: &FrameHeader) -> bool {
        let other = |open: &Open| open.partition != header.partition.0 || open.raw.len() >= BLOCK;
        self.open.as_ref().is_none_or(other)
    }

    /// Takes a frame's bytes, without padding; `stamp` counts where it begins a block.
    pub(crate) fn push(
        &mut self,
        header: &FrameHeader,
        stamp: i64,
        position: u32,
        frame: &[u8],
    ) -> io::Result<()> {
        if self.begins_block(header) {
            self.close_block()?;
        }
        let open = self.open.get_or_insert_with(|| Open {
            partition: header.partition.0,
            first: header.first,
            last: header.last(),
            stamp,
            raw: Vec::with_capacity(BLOCK + frame.len()),
        });
        open.raw.put_u32(position);
        open.raw.extend_from_slice(frame);
        open.last = header.last();
        Ok(())
    }

    fn close_block(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let packed = match self.level {
            Some(level) => zstd::bulk::compress(&open.raw, level)?,
            None => Vec::new(),
        };
        // What does not shrink is not worth unpacking.
        let smaller = self.level.is_some() && packed.len() < open.raw.len();
        let (codec, stored) = if smaller {
            (Codec::Zstandard, &packed)
        } else {
            (Codec::Plain, &open.raw)
        };
        let position = self.position();
        self.directory.push(BlockEntry {
            partition: open.partition,
            codec: codec as u8,
            first: open.first,
            last: open.last,
            stamp: open.stamp,
            position,
            stored: stored.len() as u32,
            raw: open.raw.len() as u32,
            sum: sum(stored, self.incarnation, self.generation, position),
        });
        self.buffer.extend_from_slice(stored);
        if self.buffer.len() >= WRITE {
            self.flush()?;
        }
        Ok(())
    }

    fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is left, durably; the length of the file.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.close_block()?;
        let position = self.position();
        let directory = self.directory.encode();
        let sum = sum(&directory, self.incarnation, self.generation, position);
        self.buffer.extend_from_slice(&directory);
        self.buffer.put_u64(position);
        self.buffer.put_u64(directory.len() as u64);
        self.buffer.put_u64(self.generation);
        self.buffer.put_u32(sum);
        self.buffer.put_u32(FORMAT);
        self.buffer.extend_from_slice(&MAGIC);
        self.flush()?;
        self.file.set_len(self.written)?;
        self.file.sync()?;
        Ok(self.written)
    }
}
