//! A frame: one batch of one partition, or a note to the log itself, as bytes of a segment.
//!
//! `docs/format.md` describes every byte.

use crc32fast::Hasher;
use everfold_engine::record::wire::{Reader, Writer};
use everfold_engine::record::{Link, Origin, codec};
use everfold_engine::{Offset, Partition, Stamp};

use crate::segment::COUNTED;

/// What every frame begins with: `EVFR`.
pub(crate) const MAGIC: [u8; 4] = *b"EVFR";
/// The bytes before a frame's body.
pub(crate) const HEADER: usize = 56;
/// Frames begin at multiples of this.
pub(crate) const ALIGNMENT: usize = 8;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Records of a partition.
    Batch = 1,
    /// A raised floor of a partition; no record.
    Floor = 2,
    /// The log was closed in order: everything before was acknowledged.
    Close = 3,
    /// What is left of a batch some of whose records were trimmed; in sealed segments only.
    Reduced = 4,
}

impl FrameKind {
    fn of(code: u8) -> Option<Self> {
        [Self::Batch, Self::Floor, Self::Close, Self::Reduced]
            .into_iter()
            .find(|kind| *kind as u8 == code)
    }
}

/// Set where the body begins with the chain's link before the first record.
const HAS_PREVIOUS_LINK: u8 = 1;

/// Everything in a frame's header but its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Header and body, without padding.
    pub length: u32,
    /// What it is for.
    pub kind: FrameKind,
    /// Whether the body begins with the link before its first record.
    pub has_previous_link: bool,
    /// Whose records.
    pub partition: Partition,
    /// How many records.
    pub count: u32,
    /// Where the flush that wrote the frame began in the segment.
    pub flush_start: u32,
    /// Which flush of the log wrote the frame.
    pub flush: u64,
    /// The owner's epoch.
    pub epoch: u64,
    /// The batch's id.
    pub batch: u64,
    /// The offset of the first record.
    pub first: Offset,
}

/// What makes a checksum true in one place only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The log.
    pub incarnation: u128,
    /// The segment.
    pub generation: u64,
    /// The place in the segment.
    pub position: u64,
}

impl FrameHeader {
    /// How many bytes of the segment the frame takes, padding included.
    pub fn span(&self) -> u64 {
        span(self.length as usize) as u64
    }

    /// The offset of the last record.
    pub fn last(&self) -> Offset {
        Offset(self.first.0 + u64::from(self.count.saturating_sub(1)))
    }

    /// What the codec needs to know about the batch.
    pub(crate) fn codec(&self, origin: &Origin, chained: bool, previous: Link) -> codec::Frame {
        codec::Frame {
            origin: origin.clone(),
            partition: self.partition,
            epoch: self.epoch,
            batch: self.batch,
            first: self.first,
            chained,
            previous_link: previous,
        }
    }
}

pub(crate) fn span(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

/// A frame whose place is not known yet: its body is checksummed where it was encoded, the driver
/// adds the header's share when it knows where the frame goes.
#[derive(Debug)]
pub(crate) struct Loose {
    pub(crate) header: FrameHeader,
    body: Vec<u8>,
    body_sum: Hasher,
}

impl Loose {
    pub(crate) fn new(mut header: FrameHeader, body: Vec<u8>) -> Self {
        header.length = (HEADER + body.len()) as u32;
        let mut body_sum = Hasher::new();
        body_sum.update(&body);
        Self {
            header,
            body,
            body_sum,
        }
    }

    pub(crate) fn span(&self) -> usize {
        span(HEADER + self.body.len())
    }

    /// The frame's bytes at its place, without padding.
    pub(crate) fn bytes(&self, place: Place) -> Vec<u8> {
        let mut bytes = vec![0; HEADER + self.body.len()];
        self.put(
            &mut bytes,
            self.header.flush,
            self.header.flush_start,
            place,
        );
        bytes
    }

    /// Writes the frame to the front of `out`, which is zero up to the frame's span.
    pub(crate) fn put(&self, out: &mut [u8], flush: u64, flush_start: u32, place: Place) {
        let header = FrameHeader {
            flush,
            flush_start,
            ..self.header
        };
        let mut bytes = Vec::with_capacity(HEADER);
        put_header(&mut bytes, &header);
        let sum = sum(self.body_sum.clone(), &bytes[8..], place);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        out[..HEADER].copy_from_slice(&bytes);
        out[HEADER..HEADER + self.body.len()].copy_from_slice(&self.body);
    }
}

fn put_header(out: &mut Vec<u8>, header: &FrameHeader) {
    out.extend_from_slice(&MAGIC);
    out.put_u32(0);
    out.put_u32(header.length);
    out.put_u8(header.kind as u8);
    out.put_u8(if header.has_previous_link {
        HAS_PREVIOUS_LINK
    } else {
        0
    });
    out.extend_from_slice(&header.partition.0.to_le_bytes());
    out.put_u32(header.count);
    out.put_u32(header.flush_start);
    out.put_u64(header.flush);
    out.put_u64(header.epoch);
    out.put_u64(header.batch);
    out.put_u64(header.first.0);
}

/// The checksum covers body, place and header, in this order: the body's share can be computed
/// before the place is known.
fn sum(mut hasher: Hasher, header: &[u8], place: Place) -> u32 {
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(&place.incarnation.to_le_bytes());
    seed[16..24].copy_from_slice(&place.generation.to_le_bytes());
    seed[24..].copy_from_slice(&place.position.to_le_bytes());
    hasher.update(&seed);
    hasher.update(header);
    hasher.finalize()
}

/// The header at the front of `bytes`, checked with its body, or why there is none.
///
/// # Errors
/// What was found instead of a frame.
pub fn parse(bytes: &[u8], place: Place) -> Result<FrameHeader, &'static str> {
    let length = peek(bytes)?.length as usize;
    if bytes.len() < span(length) {
        return Err("a frame longer than the segment");
    }
    let header = check(bytes, place)?;
    if bytes[length..span(length)].iter().any(|byte| *byte != 0) {
        return Err("a frame whose padding is not zero");
    }
    Ok(header)
}

/// The same for a frame without padding.
pub(crate) fn check(bytes: &[u8], place: Place) -> Result<FrameHeader, &'static str> {
    let header = peek(bytes)?;
    let length = header.length as usize;
    if bytes.len() < length {
        return Err("a frame longer than its block");
    }
    let mut hasher = Hasher::new();
    hasher.update(&bytes[HEADER..length]);
    let stored = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    if sum(hasher, &bytes[8..HEADER], place) != stored {
        return Err("a frame whose checksum is wrong");
    }
    Ok(header)
}

/// The header at the front of `bytes`, unchecked.
pub(crate) fn peek(bytes: &[u8]) -> Result<FrameHeader, &'static str> {
    const SHORT: &str = "fewer bytes than a frame has";
    if bytes.len() < HEADER {
        return Err(SHORT);
    }
    if bytes[..4] != MAGIC {
        return Err(if bytes[..HEADER].iter().all(|byte| *byte == 0) {
            "zeros"
        } else {
            "bytes that begin no frame"
        });
    }
    let mut reader = Reader::new(&bytes[8..HEADER]);
    read_header(&mut reader)
        .ok_or("a frame of an unknown kind, or with numbers beyond all counting")
}

fn read_header(reader: &mut Reader<'_>) -> Option<FrameHeader> {
    let length = reader.u32().ok()?;
    let kind = FrameKind::of(reader.u8().ok()?)?;
    let flags = reader.u8().ok()?;
    let partition = [reader.u8().ok()?, reader.u8().ok()?];
    let header = FrameHeader {
        length,
        kind,
        has_previous_link: flags & HAS_PREVIOUS_LINK != 0,
        partition: Partition(u16::from_le_bytes(partition)),
        count: reader.u32().ok()?,
        flush_start: reader.u32().ok()?,
        flush: reader.u64().ok()?,
        epoch: reader.u64().ok()?,
        batch: reader.u64().ok()?,
        first: Offset(reader.u64().ok()?),
    };
    let counts = [header.flush, header.epoch, header.first.0];
    let counted = counts.iter().all(|number| *number < COUNTED);
    (length as usize >= HEADER && flags & !HAS_PREVIOUS_LINK == 0 && counted).then_some(header)
}

/// The body of a floor frame.
pub(crate) fn floor_body(floor: Stamp) -> Vec<u8> {
    (floor.0 as u64).to_le_bytes().to_vec()
}

/// The floor in the body of a floor frame.
pub(crate) fn read_floor(body: &[u8]) -> Option<Stamp> {
    Reader::new(body).u64().ok().map(|bits| Stamp(bits as i64))
}
