//! A segment's name and its header block.

use everfold_engine::engine::{Epoch, Identity};
use everfold_engine::position::Incarnation;
use everfold_engine::record::Link;
use everfold_engine::record::wire::{Reader, WireError, Writer};
use everfold_engine::slot::Layout;
use everfold_engine::{Offset, Stamp, Text};

use crate::disk::BLOCK;

/// What a segment begins with.
const MAGIC: [u8; 8] = *b"EVERFOLD";
/// The format that this version writes, and the newest it reads.
pub const FORMAT: u32 = 1;
/// Above every number that a log counts to: offsets, epochs, flushes, generations.
pub(crate) const COUNTED: u64 = 1 << 62;
/// Magic, format, checksum, length: the same in every format.
const PREFIX: usize = 24;

/// The file name of a generation.
pub(crate) fn name(generation: u64) -> String {
    format!("{generation:010}.log")
}

/// The generation behind a file name.
pub(crate) fn generation(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let all_digits = digits.len() >= 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().ok()).flatten()
}

/// What is known about a partition at some place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionStart {
    /// The last offset before.
    pub last: Offset,
    /// The last epoch before.
    pub epoch: Epoch,
    /// Every later stamp is above.
    pub floor: Stamp,
    /// The last link of the chain before.
    pub link: Link,
}

impl PartitionStart {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.last.0);
        out.put_u64(self.epoch.0);
        out.put_u64(self.floor.0 as u64);
        out.extend_from_slice(&self.link.0);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            last: Offset(reader.u64().ok()?),
            epoch: Epoch(reader.u64().ok()?),
            floor: Stamp(reader.u64().ok()? as i64),
            link: Link(reader.take(32).ok()?.try_into().ok()?),
        })
    }
}

/// The first block, or blocks, of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Which log.
    pub identity: Identity,
    /// Which segment of it, from 1.
    pub generation: u64,
    /// How far the segment reaches; larger flushes may go beyond.
    pub capacity: u64,
    /// Where the frames of the segment before end; 0 in the first.
    pub previous_end: u64,
    /// The last flush of the segment before.
    pub last_flush: u64,
    /// One for each partition.
    pub starts: Vec<PartitionStart>,
}

/// Why bytes are no header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// Nothing was ever written.
    Zero,
    /// Something else than a segment.
    Foreign,
    /// A format that this version does not know.
    Newer(u32),
    /// A segment whose header is damaged.
    Damaged,
}

/// How many bytes the header takes with so many partitions.
pub fn header_bytes(partitions: u16) -> u64 {
    // Two names of 512 bytes at most, 56 bytes a partition, and what is fixed.
    (1280 + 56 * usize::from(partitions)).next_multiple_of(BLOCK) as u64
}

/// The longest name a log or a site may have.
pub(crate) const NAME_LIMIT: usize = 512;

impl SegmentHeader {
    /// Where the first frame begins.
    pub fn first_frame(&self) -> u64 {
        header_bytes(self.identity.layout.partitions)
    }

    /// The header's bytes, padded to whole blocks.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = self.encode_body();
        let mut bytes = Vec::with_capacity(self.first_frame() as usize);
        bytes.extend_from_slice(&MAGIC);
        bytes.put_u32(FORMAT);
        bytes.put_u32(crc32fast::hash(&body));
        bytes.put_u64(body.len() as u64);
        bytes.append(&mut body);
        bytes.resize(self.first_frame() as usize, 0);
        bytes
    }

    /// The header's own bytes, without what frames them.
    pub(crate) fn encode_body(&self) -> Vec<u8> {
        let identity = &self.identity;
        let mut body = Vec::with_capacity(self.first_frame() as usize);
        body.put_u128(identity.incarnation.0);
        body.put_u64(self.generation);
        body.put_u64(self.capacity);
        body.put_u64(self.previous_end);
        body.put_u64(self.last_flush);
        body.put_u32(identity.layout.number);
        body.put_u32(u32::from(identity.layout.partitions));
        body.put_u8(u8::from(identity.chained));
        body.put_text(&identity.log);
        body.put_text(&identity.site);
        self.starts.iter().for_each(|start| start.encode(&mut body));
        body
    }

    /// Reads what [`SegmentHeader::encode_body`] wrote.
    pub(crate) fn decode_body(body: &[u8]) -> Option<Self> {
        read_body(&mut Reader::new(body))
    }

    /// Reads a header from the front of a segment.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let first = &bytes[..bytes.len().min(BLOCK)];
        if first.len() < PREFIX || first[..8] != MAGIC {
            let zero = first.iter().all(|byte| *byte == 0);
            return Err(if zero {
                BadHeader::Zero
            } else {
                BadHeader::Foreign
            });
        }
        let mut reader = Reader::new(&bytes[8..]);
        let read = |reader: &mut Reader<'_>| Ok((reader.u32()?, reader.u32()?, reader.u64()?));
        let (format, sum, length) = read(&mut reader).map_err(|_: WireError| BadHeader::Damaged)?;
        if format > FORMAT {
            return Err(BadHeader::Newer(format));
        }
        let body = usize::try_from(length)
            .ok()
            .and_then(|length| reader.take(length).ok())
            .filter(|body| format == FORMAT && crc32fast::hash(body) == sum)
            .ok_or(BadHeader::Damaged)?;
        let header = Self::decode_body(body).ok_or(BadHeader::Damaged)?;
        let end = usize::try_from(header.first_frame()).map_err(|_| BadHeader::Damaged)?;
        let padding = bytes.get(PREFIX + body.len()..end);
        match padding {
            Some(padding) if padding.iter().all(|byte| *byte == 0) => Ok(header),
            _ => Err(BadHeader::Damaged),
        }
    }
}

fn read_body(reader: &mut Reader<'_>) -> Option<SegmentHeader> {
    let incarnation = Incarnation(reader.u128().ok()?);
    let generation = reader.u64().ok()?;
    let capacity = reader.u64().ok()?;
    let previous_end = reader.u64().ok()?;
    let last_flush = reader.u64().ok()?;
    let layout = Layout {
        number: reader.u32().ok()?,
        partitions: u16::try_from(reader.u32().ok()?).ok()?,
    };
    Layout::first(layout.partitions).ok()?;
    let chained = reader.u8().ok()? == 1;
    let mut text = || {
        let bytes = reader.slice().ok()?;
        Some(Text::from(std::str::from_utf8(bytes).ok()?))
    };
    let (log, site) = (text()?, text()?);
    let mut starts = Vec::new();
    for _ in layout.all() {
        starts.push(PartitionStart::decode(reader)?);
    }
    let identity = Identity {
        log,
        site,
        incarnation,
        layout,
        chained,
    };
    // No log counts so far, and what counts on from here does not run over.
    let counted = starts
        .iter()
        .flat_map(|start| [start.last.0, start.epoch.0]);
    let mut counted = counted.chain([generation, last_flush]);
    let all_counted = counted.all(|number| number < COUNTED);
    (reader.is_empty() && all_counted).then_some(SegmentHeader {
        identity,
        generation,
        capacity,
        previous_end,
        last_flush,
        starts,
    })
}
