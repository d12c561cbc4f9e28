//! A block of an index: entries in order of their keys, checked as a whole.

use bytes::Bytes;
use everfold_engine::record::wire::{Reader, Writer};

use super::Key;

/// Blocks are begun anew when they have grown this large.
pub(crate) const FULL: usize = 4096;
const HEADER: usize = 8;

/// Where a block lies in its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockPlace {
    pub(crate) position: u64,
    pub(crate) length: u32,
}

impl BlockPlace {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(12);
        bytes.put_varint(self.position);
        bytes.put_varint(u64::from(self.length));
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        Some(Self {
            position: reader.varint().ok()?,
            length: u32::try_from(reader.varint().ok()?).ok()?,
        })
    }
}

/// A block while it is filled.
pub(crate) struct BlockWriter {
    bytes: Vec<u8>,
    first: Option<Key>,
    last: [u8; Key::BYTES],
}

impl BlockWriter {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; HEADER],
            first: None,
            last: [0; Key::BYTES],
        }
    }

    pub(crate) fn first(&self) -> Option<Key> {
        self.first
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= FULL
    }

    pub(crate) fn push(&mut self, key: Key, value: &[u8]) {
        let bytes = key.bytes();
        let shared = match self.first {
            Some(_) => bytes
                .iter()
                .zip(&self.last)
                .take_while(|(a, b)| a == b)
                .count(),
            None => 0,
        };
        self.bytes.put_u8(shared as u8);
        self.bytes.extend_from_slice(&bytes[shared..]);
        self.bytes.put_slice(value);
        self.first.get_or_insert(key);
        self.last = bytes;
    }

    /// The block's bytes, true at `position` of the file of this incarnation only.
    pub(crate) fn finish(mut self, incarnation: u128, position: u64) -> Vec<u8> {
        let length = (self.bytes.len() - HEADER) as u32;
        self.bytes[4..HEADER].copy_from_slice(&length.to_le_bytes());
        let sum = sum(&self.bytes[4..], incarnation, position);
        self.bytes[..4].copy_from_slice(&sum.to_le_bytes());
        self.bytes
    }
}

/// The checksum of bytes that lie at a place.
pub(crate) fn sum(bytes: &[u8], incarnation: u128, position: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes);
    hasher.update(&incarnation.to_le_bytes());
    hasher.update(&position.to_le_bytes());
    hasher.finalize()
}

/// A block that was read.
pub(crate) struct Block {
    bytes: Bytes,
    keys: Vec<Key>,
    /// Where each value begins and ends.
    values: Vec<(u32, u32)>,
}

impl Block {
    /// Checks and reads a block.
    pub(crate) fn read(bytes: Bytes, incarnation: u128, position: u64) -> Result<Self, String> {
        let (head, _) = bytes.split_first_chunk::<HEADER>().ok_or("a cut block")?;
        let stored = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        if sum(&bytes[4..], incarnation, position) != stored {
            return Err("a block whose checksum is wrong".into());
        }
        Self::parse(bytes).ok_or_else(|| "a block that cannot be read".into())
    }

    fn parse(bytes: Bytes) -> Option<Self> {
        let mut reader = Reader::new(&bytes);
        reader.u32().ok()?;
        let length = reader.u32().ok()? as usize;
        if length != bytes.len() - HEADER {
            return None;
        }
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let mut key = [0; Key::BYTES];
        while !reader.is_empty() {
            let shared = usize::from(reader.u8().ok()?);
            let rest = reader.take(Key::BYTES.checked_sub(shared)?).ok()?;
            key[shared..].copy_from_slice(rest);
            let value = reader.slice().ok()?.len();
            let end = reader.taken();
            keys.push(Key::of(&key));
            values.push(((end - value) as u32, end as u32));
        }
        let sorted = keys.is_sorted_by(|a, b| a < b);
        (sorted && !keys.is_empty()).then_some(Self {
            bytes,
            keys,
            values,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn key(&self, index: usize) -> Key {
        self.keys[index]
    }

    pub(crate) fn value(&self, index: usize) -> Bytes {
        let (begin, end) = self.values[index];
        self.bytes.slice(begin as usize..end as usize)
    }

    /// The last entry at or before `key`, if there is one.
    pub(crate) fn at_or_before(&self, key: Key) -> Option<usize> {
        self.keys
            .partition_point(|found| *found <= key)
            .checked_sub(1)
    }

    /// About how much memory it takes.
    pub(crate) fn footprint(&self) -> usize {
        self.bytes.len() + self.keys.len() * (size_of::<Key>() + 8) + 64
    }
}
