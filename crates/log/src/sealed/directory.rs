//! Where a sealed segment has its blocks.

use everfold_engine::Offset;
use everfold_engine::record::wire::{Reader, Writer};

/// One block: frames of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockEntry {
    pub(crate) partition: u16,
    /// How the block is stored.
    pub(crate) codec: u8,
    /// The offset of the first record.
    pub(crate) first: Offset,
    /// The offset of the last record.
    pub(crate) last: Offset,
    /// The stamp of the first record.
    pub(crate) stamp: i64,
    /// Where in the file.
    pub(crate) position: u64,
    /// Its bytes in the file.
    pub(crate) stored: u32,
    /// Its bytes when unpacked.
    pub(crate) raw: u32,
    /// The checksum of the bytes in the file.
    pub(crate) sum: u32,
}

impl BlockEntry {
    /// The bytes of an entry.
    pub(crate) const BYTES: usize = 51;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.partition.to_le_bytes());
        out.put_u8(self.codec);
        out.put_u64(self.first.0);
        out.put_u64(self.last.0);
        out.put_u64(self.stamp as u64);
        out.put_u64(self.position);
        out.put_u32(self.stored);
        out.put_u32(self.raw);
        out.put_u32(self.sum);
        out.put_u32(0);
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let entry = Self {
            partition: u16::from_le_bytes([reader.u8().ok()?, reader.u8().ok()?]),
            codec: reader.u8().ok()?,
            first: Offset(reader.u64().ok()?),
            last: Offset(reader.u64().ok()?),
            stamp: reader.u64().ok()? as i64,
            position: reader.u64().ok()?,
            stored: reader.u32().ok()?,
            raw: reader.u32().ok()?,
            sum: reader.u32().ok()?,
        };
        (reader.u32().ok()? == 0).then_some(entry)
    }
}

/// All blocks, by partition and offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directory {
    entries: Vec<BlockEntry>,
}

impl Directory {
    pub(crate) fn push(&mut self, entry: BlockEntry) {
        self.entries.push(entry);
    }

    pub(crate) fn entries(&self) -> &[BlockEntry] {
        &self.entries
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len() * BlockEntry::BYTES);
        self.entries
            .iter()
            .for_each(|entry| entry.encode(&mut bytes));
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let mut entries = Vec::with_capacity(bytes.len() / BlockEntry::BYTES);
        while !reader.is_empty() {
            entries.push(BlockEntry::decode(&mut reader)?);
        }
        let order = |entry: &BlockEntry| (entry.partition, entry.first);
        let sorted = entries.is_sorted_by(|a, b| order(a) <= order(b));
        sorted.then_some(Self { entries })
    }

    /// The blocks of a partition from the one on that holds `offset`.
    pub(crate) fn from(&self, partition: u16, offset: Offset) -> &[BlockEntry] {
        let begin = self
            .entries
            .partition_point(|entry| (entry.partition, entry.last) < (partition, offset));
        let rest = &self.entries[begin..];
        let end = rest.partition_point(|entry| entry.partition == partition);
        &rest[..end]
    }

    pub(crate) fn footprint(&self) -> usize {
        self.entries.len() * size_of::<BlockEntry>() + 64
    }
}
