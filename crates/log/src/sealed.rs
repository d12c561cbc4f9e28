//! Sealed segments: the frames of a segment that takes no more, partition by partition, in
//! compressed blocks.
//!
//! Frames keep their bytes, place and checksum, so nothing that was proven about the segment is lost
//! by packing it; only where they lie in the file is new, and the directory says that.

mod directory;
mod file;
mod pack;

pub(crate) use directory::{BlockEntry, Directory};
pub(crate) use file::{SealedFile, Walk, header_of};
pub(crate) use pack::{Codec, Packer, TAIL};

use everfold_engine::record::wire::{Reader, Writer};

use crate::segment::{PartitionStart, SegmentHeader};

/// What a sealed segment begins with.
pub(crate) const MAGIC: [u8; 8] = *b"EVERSEAL";
/// The format that this version writes, and the newest it reads.
pub(crate) const FORMAT: u32 = 1;
const SUFFIX: &str = ".sealed";

/// The file name of a generation.
pub(crate) fn name(generation: u64) -> String {
    format!("{generation:010}{SUFFIX}")
}

/// The generation behind a file name.
pub(crate) fn generation(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let all_digits = digits.len() >= 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().ok()).flatten()
}

/// The first bytes of a sealed segment: what the segment began with, and what it ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedHeader {
    /// The segment's own header.
    pub(crate) segment: SegmentHeader,
    /// Where its frames ended.
    pub(crate) end: u64,
    /// The last flush in it.
    pub(crate) last_flush: u64,
    /// What every partition ended with.
    pub(crate) ends: Vec<PartitionStart>,
}

/// Magic, format, checksum, length.
const PREFIX: usize = 24;

impl SealedHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.put_slice(&self.segment.encode_body());
        body.put_u64(self.end);
        body.put_u64(self.last_flush);
        self.ends.iter().for_each(|end| end.encode(&mut body));
        let mut bytes = Vec::with_capacity(PREFIX + body.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.put_u32(FORMAT);
        bytes.put_u32(crc32fast::hash(&body));
        bytes.put_u64(body.len() as u64);
        bytes.append(&mut body);
        bytes
    }

    /// The header at the front of `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadSealed> {
        if bytes.len() < PREFIX || bytes[..8] != MAGIC {
            return Err(BadSealed::Foreign);
        }
        let mut reader = Reader::new(&bytes[8..]);
        let mut prefix = || Some((reader.u32().ok()?, reader.u32().ok()?, reader.u64().ok()?));
        let (format, sum, length) = prefix().ok_or(BadSealed::Damaged)?;
        if format > FORMAT {
            return Err(BadSealed::Newer(format));
        }
        let body = usize::try_from(length)
            .ok()
            .and_then(|length| bytes[PREFIX..].get(..length))
            .filter(|body| format == FORMAT && crc32fast::hash(body) == sum)
            .ok_or(BadSealed::Damaged)?;
        Self::decode_body(body).ok_or(BadSealed::Damaged)
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let segment = SegmentHeader::decode_body(reader.slice().ok()?)?;
        let (end, last_flush) = (reader.u64().ok()?, reader.u64().ok()?);
        let ends = segment
            .starts
            .iter()
            .map(|_| PartitionStart::decode(&mut reader))
            .collect::<Option<_>>()?;
        reader.is_empty().then_some(Self {
            segment,
            end,
            last_flush,
            ends,
        })
    }
}

/// Why bytes are no sealed segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadSealed {
    /// Something else.
    Foreign,
    /// A format that this version does not know.
    Newer(u32),
    /// One whose header is damaged.
    Damaged,
}

/// The checksum of a block or directory: true in one place of one segment of one log.
pub(crate) fn sum(bytes: &[u8], incarnation: u128, generation: u64, position: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes);
    hasher.update(&incarnation.to_le_bytes());
    hasher.update(&generation.to_le_bytes());
    hasher.update(&position.to_le_bytes());
    hasher.finalize()
}
