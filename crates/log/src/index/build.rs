//! Writes a run: sorted entries in blocks, a tree of blocks above them, a filter of subjects.

use std::io;
use std::sync::Arc;

use everfold_engine::position::Incarnation;
use everfold_engine::record::wire::Writer;

use super::block::{self, BlockPlace, BlockWriter};
use super::{Key, Subject};
use crate::disk::File;

pub(crate) const MAGIC: [u8; 8] = *b"EVERINDX";
/// The format of runs that this version writes, and the only one it reads: others are made anew.
pub(crate) const FORMAT: u32 = 1;
/// The bytes behind everything else.
pub(crate) const TAIL: usize = 128;
/// A page of the filter; its checksum comes first.
pub(crate) const PAGE: usize = 4096;
const PAGE_BITS: u64 = ((PAGE - 4) * 8) as u64;
/// Bits of the filter for each subject, so that about one question in a hundred reads in vain.
const BITS: u64 = 10;
const PROBES: u32 = 7;
/// The filter of a very long run grows no further; more questions read in vain.
const MOST_PAGES: u64 = 4096;
/// How much is gathered before it is written.
const WRITE: usize = 1 << 20;

/// What a run's last bytes say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) first_generation: u64,
    pub(crate) last_generation: u64,
    pub(crate) root: BlockPlace,
    /// Levels of blocks above the entries.
    pub(crate) height: u32,
    pub(crate) entries: u64,
    /// Entries that are no frames, at least as many as subjects.
    pub(crate) subjects: u64,
    pub(crate) filter: u64,
    pub(crate) pages: u64,
}

/// No index has as many levels: each of them holds dozens of times the one above.
const MOST_LEVELS: u32 = 16;

impl Tail {
    /// Whether everything that is named lies where it can, in a file whose tail begins at `end`.
    pub(crate) fn fits(&self, end: u64) -> bool {
        let ends = |position: u64, length: u64| position.checked_add(length);
        let root = ends(self.root.position, u64::from(self.root.length));
        let pages = self.pages.checked_mul(PAGE as u64);
        let filter = pages.and_then(|bytes| ends(self.filter, bytes));
        self.height <= MOST_LEVELS
            && root.is_some_and(|root| root <= self.filter)
            && filter.is_some_and(|filter| filter <= end)
    }

    pub(crate) fn encode(&self, incarnation: Incarnation) -> Vec<u8> {
        let mut body = Vec::with_capacity(TAIL);
        body.put_u128(incarnation.0);
        body.put_u64(self.first_generation);
        body.put_u64(self.last_generation);
        body.put_u64(self.root.position);
        body.put_u32(self.root.length);
        body.put_u32(self.height);
        body.put_u64(self.entries);
        body.put_u64(self.subjects);
        body.put_u64(self.filter);
        body.put_u64(self.pages);
        body.resize(TAIL - 16, 0);
        let mut bytes = Vec::with_capacity(TAIL);
        bytes.extend_from_slice(&MAGIC);
        bytes.put_u32(FORMAT);
        bytes.put_u32(crc32fast::hash(&body));
        bytes.append(&mut body);
        bytes
    }
}

/// Takes entries in order of their keys and writes them to an empty file.
pub(crate) struct Builder {
    file: Arc<dyn File>,
    incarnation: Incarnation,
    buffer: Vec<u8>,
    written: u64,
    /// Blocks that are being filled: entries first, then the levels above.
    levels: Vec<BlockWriter>,
    filter: Filter,
    tail: Tail,
    last_subject: Option<(u16, Subject)>,
}

impl Builder {
    /// `subjects` is how many entries are expected that are no frames.
    pub(crate) fn new(
        file: Arc<dyn File>,
        incarnation: Incarnation,
        generations: (u64, u64),
        subjects: u64,
    ) -> Self {
        let mut buffer = Vec::with_capacity(WRITE + 2 * block::FULL);
        buffer.extend_from_slice(&MAGIC);
        buffer.put_u32(FORMAT);
        buffer.put_u32(0);
        Self {
            file,
            incarnation,
            buffer,
            written: 0,
            levels: vec![BlockWriter::new()],
            filter: Filter::new(subjects),
            tail: Tail {
                first_generation: generations.0,
                last_generation: generations.1,
                ..Tail::default()
            },
            last_subject: None,
        }
    }

    pub(crate) fn push(&mut self, key: Key, value: &[u8]) -> io::Result<()> {
        self.tail.entries += 1;
        if !key.is_frame() {
            self.tail.subjects += 1;
            let subject = (key.partition, key.subject);
            if self.last_subject != Some(subject) {
                self.filter.insert(subject.0, subject.1);
                self.last_subject = Some(subject);
            }
        }
        self.put(0, key, value)
    }

    fn put(&mut self, level: usize, key: Key, value: &[u8]) -> io::Result<()> {
        if self.levels.len() == level {
            self.levels.push(BlockWriter::new());
        }
        self.levels[level].push(key, value);
        if self.levels[level].is_full() {
            let full = std::mem::replace(&mut self.levels[level], BlockWriter::new());
            if let Some((first, place)) = self.block(full)? {
                self.put(level + 1, first, &place.encode())?;
            }
        }
        Ok(())
    }

    /// Writes a block unless it is empty.
    fn block(&mut self, block: BlockWriter) -> io::Result<Option<(Key, BlockPlace)>> {
        let Some(first) = block.first() else {
            return Ok(None);
        };
        let position = self.written + self.buffer.len() as u64;
        let bytes = block.finish(self.incarnation.0, position);
        self.buffer.extend_from_slice(&bytes);
        if self.buffer.len() >= WRITE {
            self.flush()?;
        }
        let length = bytes.len() as u32;
        Ok(Some((first, BlockPlace { position, length })))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is left, durably.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let mut level = 0;
        while level < self.levels.len() {
            let rest = std::mem::replace(&mut self.levels[level], BlockWriter::new());
            let is_top = level + 1 == self.levels.len();
            if let Some((first, place)) = self.block(rest)? {
                if is_top {
                    self.tail.root = place;
                    self.tail.height = level as u32;
                } else {
                    self.put(level + 1, first, &place.encode())?;
                }
            }
            level += 1;
        }
        self.tail.filter = self.written + self.buffer.len() as u64;
        self.tail.pages = self.filter.pages.len() as u64;
        let position = self.tail.filter;
        for (number, page) in std::mem::take(&mut self.filter.pages)
            .into_iter()
            .enumerate()
        {
            let at = position + (number * PAGE) as u64;
            let sum = block::sum(&page[4..], self.incarnation.0, at);
            self.buffer.put_u32(sum);
            self.buffer.extend_from_slice(&page[4..]);
        }
        let tail = self.tail.encode(self.incarnation);
        self.buffer.extend_from_slice(&tail);
        self.flush()?;
        self.file.set_len(self.written)?;
        self.file.sync()
    }
}

/// Says of most subjects that a run does not hold that it does not.
struct Filter {
    pages: Vec<Box<[u8; PAGE]>>,
}

impl Filter {
    fn new(subjects: u64) -> Self {
        let pages = (subjects * BITS).div_ceil(PAGE_BITS).clamp(1, MOST_PAGES);
        Self {
            pages: (0..pages).map(|_| Box::new([0; PAGE])).collect(),
        }
    }

    fn insert(&mut self, partition: u16, subject: Subject) {
        let page = page_of(partition, subject, self.pages.len() as u64);
        let page = &mut self.pages[page as usize];
        probes(partition, subject).for_each(|(byte, bit)| page[byte] |= bit);
    }
}

/// The only page of the filter that knows of a subject.
pub(crate) fn page_of(partition: u16, subject: Subject, pages: u64) -> u64 {
    let hash = (subject >> 64) as u64 ^ u64::from(partition).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((u128::from(hash) * u128::from(pages)) >> 64) as u64
}

/// Which bits of the page are set for a subject: bytes and masks.
fn probes(partition: u16, subject: Subject) -> impl Iterator<Item = (usize, u8)> {
    let hash = (subject as u64).wrapping_add(u64::from(partition));
    let step = hash.rotate_left(32) | 1;
    (0..u64::from(PROBES)).map(move |n| {
        let bit = hash.wrapping_add(n.wrapping_mul(step)) % PAGE_BITS;
        (4 + (bit / 8) as usize, 1 << (bit % 8))
    })
}

/// Whether a page of a filter may know of a subject.
pub(crate) fn may_hold(page: &[u8], partition: u16, subject: Subject) -> bool {
    probes(partition, subject).all(|(byte, bit)| page.get(byte).is_some_and(|b| b & bit != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tail_names_lies_within_the_file() {
        let good = Tail {
            root: BlockPlace {
                position: 16,
                length: 100,
            },
            height: 1,
            filter: 116,
            pages: 2,
            ..Tail::default()
        };
        let end = 116 + 2 * PAGE as u64;
        assert!(good.fits(end));
        assert!(!good.fits(end - 1));
        let bad: [fn(&mut Tail); 6] = [
            |tail| tail.root.length = u32::MAX,
            |tail| tail.root.position = u64::MAX,
            |tail| tail.height = u32::MAX,
            |tail| tail.filter = u64::MAX,
            |tail| tail.pages = u64::MAX,
            |tail| tail.pages = 3,
        ];
        for (number, change) in bad.iter().enumerate() {
            let mut tail = good;
            change(&mut tail);
            assert!(!tail.fits(end), "change {number}");
        }
    }
}
