//! The stored bytes of a partition's state. Integers are little-endian; every value begins with the
//! XXH3-64 of the rest and a format number. They can be made again from the log, so a reader that
//! does not know them ignores them.

use everfold_engine::position::Incarnation;
use everfold_engine::record::Link;
use everfold_engine::slot::Partition;
use everfold_engine::time::{HybridTime, Stamp};
use everfold_engine::{Bytes, Offset, Text, Uuid};
use xxhash_rust::xxh3::xxh3_64;

use super::{Fresh, PartitionState, Settled, SourceId, raise};
use crate::owner::batch::Clock;
use crate::owner::known::{Entry, Known, Shelf, bucket_of};

const FORMAT: u8 = 1;

/// Bytes of an id and its entry.
const ENTRY: usize = 32;

/// The key of what all pages belong to.
pub(super) const HEAD: &[u8] = b"state";

/// The key of a page.
pub(super) fn page_key(number: u64) -> Bytes {
    Bytes::from(format!("ids/{number:016x}"))
}

/// What the head says.
pub(super) struct Head {
    pub(super) incarnation: Incarnation,
    pub(super) offset: Offset,
    pub(super) stamp: Stamp,
    pub(super) clock: Clock,
    pub(super) forgotten: i64,
    pub(super) next: u64,
    pub(super) pages: u64,
    pub(super) settled: Settled,
}

fn sealed(mut value: Vec<u8>) -> Bytes {
    let checksum = xxh3_64(&value[8..]);
    value[..8].copy_from_slice(&checksum.to_le_bytes());
    value.into()
}

fn begun(capacity: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(capacity);
    value.extend_from_slice(&[0; 8]);
    value.push(FORMAT);
    value
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(&(name.len() as u32).to_le_bytes());
    out.extend_from_slice(name.as_bytes());
}

fn put_entry(out: &mut Vec<u8>, id: Uuid, entry: Entry) {
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(&entry.digest.to_le_bytes());
    out.extend_from_slice(&entry.offset.0.to_le_bytes());
}

pub(super) fn put_issued(out: &mut Vec<u8>, id: Uuid, entry: Entry) {
    put_entry(out, id, entry);
}

pub(super) fn put_opaque(out: &mut Vec<u8>, bucket: i64, id: Uuid, entry: Entry) {
    out.extend_from_slice(&bucket.to_le_bytes());
    put_entry(out, id, entry);
}

pub(super) fn head(state: &PartitionState, incarnation: Incarnation, forgotten: i64) -> Bytes {
    let mut out = begun(256);
    let clock = &state.clock;
    out.extend_from_slice(&incarnation.0.to_le_bytes());
    out.extend_from_slice(&state.offset.0.to_le_bytes());
    out.extend_from_slice(&state.stamp.0.to_le_bytes());
    out.extend_from_slice(&clock.counter.to_le_bytes());
    out.extend_from_slice(&clock.stamp.0.to_le_bytes());
    out.extend_from_slice(&clock.hybrid.0.to_le_bytes());
    out.extend_from_slice(&clock.link.0);
    out.extend_from_slice(&forgotten.to_le_bytes());
    out.extend_from_slice(&state.next.to_le_bytes());
    out.extend_from_slice(&(state.pages.len() as u64).to_le_bytes());
    out.extend_from_slice(&(state.settled.len() as u64).to_le_bytes());
    for ((handler, partition), offset) in &state.settled {
        put_name(&mut out, handler);
        out.extend_from_slice(&partition.0.to_le_bytes());
        out.extend_from_slice(&offset.0.to_le_bytes());
    }
    sealed(out)
}

pub(super) fn read_head(value: &[u8]) -> Option<Head> {
    let mut from = Reader::open(value)?;
    let head = Head {
        incarnation: Incarnation(u128::from_le_bytes(from.array()?)),
        offset: Offset(from.number()?),
        stamp: Stamp(from.number()? as i64),
        clock: Clock {
            counter: from.number()?,
            stamp: Stamp(from.number()? as i64),
            hybrid: HybridTime(from.number()?),
            link: Link(from.array()?),
        },
        forgotten: from.number()? as i64,
        next: from.number()?,
        pages: from.number()?,
        settled: {
            let mut settled = Settled::new();
            for _ in 0..from.number()? {
                let (handler, partition) = (from.name()?, from.partition()?);
                raise(&mut settled, &handler, partition, Offset(from.number()?));
            }
            settled
        },
    };
    from.rest.is_empty().then_some(head)
}

/// A page: its number, how many ids of each sort, and the ids.
pub(super) fn page(number: u64, fresh: &Fresh) -> Bytes {
    let sources: usize = fresh.sources.iter().map(|s| s.handler.len() + 48).sum();
    let mut out = begun(64 + fresh.issued.len() + fresh.opaque.len() + sources);
    out.extend_from_slice(&number.to_le_bytes());
    for part in [&fresh.issued, &fresh.opaque] {
        out.extend_from_slice(&(part.len() as u64).to_le_bytes());
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&(fresh.sources.len() as u64).to_le_bytes());
    for source in &fresh.sources {
        let SourceId {
            handler,
            partition,
            offset,
            id,
            entry,
        } = source;
        put_name(&mut out, handler);
        out.extend_from_slice(&partition.0.to_le_bytes());
        out.extend_from_slice(&offset.0.to_le_bytes());
        put_entry(&mut out, *id, *entry);
    }
    sealed(out)
}

/// Reads a page into the table, without ids of buckets before `oldest` and settled ones.
pub(super) fn read_page(value: &[u8], known: &mut Known, oldest: i64) -> Option<super::Page> {
    let mut from = Reader::open(value)?;
    let mut page = super::Page {
        number: from.number()?,
        newest: None,
        sources: Settled::new(),
    };
    let (issued, rest) = from.part()?.rest.as_chunks::<ENTRY>();
    if !rest.is_empty() {
        return None;
    }
    // Ids come nearly in order of time, so most of a bucket is found at once.
    for run in
        issued.chunk_by(|a, b| read_entry(a).and_then(bucket) == read_entry(b).and_then(bucket))
    {
        let bucket = run.first().and_then(read_entry).and_then(bucket)?;
        page.newest = page.newest.max(Some(bucket));
        if bucket >= oldest {
            known.insert_issued(bucket, run.iter().filter_map(read_entry));
        }
    }
    let mut opaque = from.part()?;
    while !opaque.rest.is_empty() {
        let bucket = opaque.number()? as i64;
        let (id, entry) = opaque.entry()?;
        page.newest = page.newest.max(Some(bucket));
        if bucket >= oldest {
            known.insert(&Shelf::Opaque(bucket), id, entry);
        }
    }
    for _ in 0..from.number()? {
        let (handler, partition) = (from.name()?, from.partition()?);
        let offset = Offset(from.number()?);
        let (id, entry) = from.entry()?;
        raise(&mut page.sources, &handler, partition, offset);
        let shelf = Shelf::Source(handler, partition, offset);
        if !known.is_forgotten(&shelf, None) {
            known.insert(&shelf, id, entry);
        }
    }
    from.rest.is_empty().then_some(page)
}

fn read_entry(bytes: &[u8; ENTRY]) -> Option<(Uuid, Entry)> {
    let mut from = Reader { rest: bytes };
    let id = Uuid::from_bytes(from.array()?);
    let entry = Entry {
        digest: from.number()?,
        offset: Offset(from.number()?),
    };
    Some((id, entry))
}

fn bucket((id, _): (Uuid, Entry)) -> Option<i64> {
    bucket_of(id)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks checksum and format.
    fn open(value: &'a [u8]) -> Option<Self> {
        let (checksum, body) = value.split_first_chunk::<8>()?;
        let (format, rest) = body.split_first()?;
        let sound = u64::from_le_bytes(*checksum) == xxh3_64(body) && *format == FORMAT;
        sound.then_some(Self { rest })
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*array)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.array()?))
    }

    fn partition(&mut self) -> Option<Partition> {
        Some(Partition(u16::from_le_bytes(self.array()?)))
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }

    fn part(&mut self) -> Option<Self> {
        let bytes = usize::try_from(self.number()?).ok()?;
        Some(Self {
            rest: self.take(bytes)?,
        })
    }

    fn name(&mut self) -> Option<Text> {
        let bytes = u32::from_le_bytes(self.array()?) as usize;
        let name = std::str::from_utf8(self.take(bytes)?).ok()?;
        Some(name.into())
    }

    fn entry(&mut self) -> Option<(Uuid, Entry)> {
        let entry: [u8; ENTRY] = self.array()?;
        read_entry(&entry)
    }
}
