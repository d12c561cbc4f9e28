//! A file of an index: which offsets a subject has in some neighbouring segments.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use everfold_engine::Offset;
use everfold_engine::position::Incarnation;
use everfold_engine::record::wire::{Reader, Writer};

use super::block::{self, Block, BlockPlace};
use super::build::{FORMAT, MAGIC, PAGE, TAIL, Tail, may_hold, page_of};
use super::{FramePlace, Key, Places, Subject};
use crate::cache::{Cached, ReadCache};
use crate::disk::{Access, Disk, File};
use crate::error::Damage;

/// How many offsets one entry holds at most.
pub(crate) const PIECE: usize = 256;

/// Whether a run is what its segments say, as far as anybody noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Trust {
    Full,
    /// Damage was found: it is to be made again.
    Lost,
    /// That was tried, and is tried again with what else there is to do.
    Tried,
    /// It cannot be made again: its segments cannot be read.
    GivenUp,
}

pub(crate) struct Run {
    pub(crate) name: String,
    trust: AtomicU8,
    file: Arc<dyn File>,
    /// Where the blocks and the filter end.
    end: u64,
    cache: Arc<ReadCache>,
    number: u64,
    incarnation: Incarnation,
    tail: Tail,
}

impl Run {
    /// Opens a run. Its blocks are checked when they are read.
    ///
    /// # Errors
    /// Why it cannot be used; it can be made again from its segments.
    pub(crate) fn open(
        disk: &dyn Disk,
        name: &str,
        incarnation: Incarnation,
        cache: &Arc<ReadCache>,
    ) -> Result<Self, Damage> {
        let damage = |at, expected: &str, found: String| Damage {
            passing: false,
            file: name.to_owned(),
            at,
            expected: expected.to_owned(),
            found,
        };
        let read = || {
            let file = disk.open(name, Access::Read)?;
            let length = file.len()?;
            let mut bytes = vec![0; TAIL.min(length as usize)];
            file.read_at(length - bytes.len() as u64, &mut bytes)?;
            Ok((file, length, bytes))
        };
        let (file, length, bytes) =
            read().map_err(|error: std::io::Error| damage(0, "an index", error.to_string()))?;
        let at = length.saturating_sub(TAIL as u64);
        let tail = decode_tail(&bytes, incarnation)
            .map_err(|(expected, found)| damage(at, expected, found))?;
        if !tail.fits(at) {
            return Err(damage(
                at,
                "places within the index",
                "some outside of it".into(),
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            trust: AtomicU8::new(Trust::Full as u8),
            file,
            end: at,
            cache: Arc::clone(cache),
            number: cache.file(),
            incarnation,
            tail,
        })
    }

    pub(crate) fn generations(&self) -> (u64, u64) {
        (self.tail.first_generation, self.tail.last_generation)
    }

    /// Entries that are no frames, at least as many as subjects.
    pub(crate) fn subjects(&self) -> u64 {
        self.tail.subjects
    }

    pub(crate) fn trust(&self) -> Trust {
        let known = [Trust::Full, Trust::Lost, Trust::Tried, Trust::GivenUp];
        let trust = self.trust.load(Ordering::Acquire);
        known
            .into_iter()
            .find(|one| *one as u8 == trust)
            .unwrap_or(Trust::Full)
    }

    pub(crate) fn set_trust(&self, trust: Trust) {
        self.trust.store(trust as u8, Ordering::Release);
    }

    /// The run is not what its segments say.
    pub(crate) fn distrust(&self) {
        let (full, lost) = (Trust::Full as u8, Trust::Lost as u8);
        let _ = self
            .trust
            .compare_exchange(full, lost, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Notes that the run is damaged, and says how.
    pub(super) fn damage(&self, at: u64, found: String) -> Damage {
        self.distrust();
        Damage {
            passing: false,
            file: self.name.clone(),
            at,
            expected: "a block of the index".into(),
            found,
        }
    }

    fn bytes(&self, position: u64, length: usize) -> Result<Bytes, Damage> {
        if position
            .checked_add(length as u64)
            .is_none_or(|end| end > self.end)
        {
            return Err(self.damage(position, "a place outside of the index".into()));
        }
        let mut bytes = vec![0; length];
        self.file
            .read_at(position, &mut bytes)
            .map_err(|error| Damage {
                passing: true,
                ..self.damage(position, error.to_string())
            })?;
        Ok(bytes.into())
    }

    fn block(&self, place: BlockPlace) -> Result<Arc<Block>, Damage> {
        if let Some(Cached::Block(block)) = self.cache.get(self.number, place.position) {
            return Ok(block);
        }
        let block = Arc::new(self.read_block(place)?);
        let cached = Cached::Block(Arc::clone(&block));
        self.cache.insert(self.number, place.position, cached);
        Ok(block)
    }

    fn read_block(&self, place: BlockPlace) -> Result<Block, Damage> {
        let bytes = self.bytes(place.position, place.length as usize)?;
        Block::read(bytes, self.incarnation.0, place.position)
            .map_err(|found| self.damage(place.position, found))
    }

    fn filter_page(&self, number: u64) -> Result<Bytes, Damage> {
        let position = self.tail.filter + number * PAGE as u64;
        if let Some(Cached::Bytes(page)) = self.cache.get(self.number, position) {
            return Ok(page);
        }
        let page = self.read_page(number)?;
        self.cache
            .insert(self.number, position, Cached::Bytes(page.clone()));
        Ok(page)
    }

    /// Reads the whole run from the device.
    pub(crate) fn check(&self) -> Result<(), Damage> {
        self.check_filter()?;
        let mut cursor = self.from(Key::frame(0, 0), false)?;
        while cursor.next()?.is_some() {}
        Ok(())
    }

    /// Checks the pages of the filter, from the device.
    pub(crate) fn check_filter(&self) -> Result<(), Damage> {
        (0..self.tail.pages).try_for_each(|number| self.read_page(number).map(drop))
    }

    fn read_page(&self, number: u64) -> Result<Bytes, Damage> {
        let position = self.tail.filter + number * PAGE as u64;
        let page = self.bytes(position, PAGE)?;
        let sum = block::sum(&page[4..], self.incarnation.0, position);
        if page[..4] != sum.to_le_bytes() {
            return Err(self.damage(position, "a page whose checksum is wrong".into()));
        }
        Ok(page)
    }

    /// Whether the run may hold a subject; mostly no if it does not.
    pub(crate) fn may_hold(&self, partition: u16, subject: Subject) -> Result<bool, Damage> {
        if self.tail.pages == 0 {
            return Ok(true);
        }
        let page = self.filter_page(page_of(partition, subject, self.tail.pages))?;
        Ok(may_hold(&page, partition, subject))
    }

    /// Whether it is known without reading that the run does not hold a subject.
    pub(crate) fn is_known_not_to_hold(&self, partition: u16, subject: Subject) -> bool {
        if self.tail.pages == 0 {
            return false;
        }
        let number = page_of(partition, subject, self.tail.pages);
        let position = self.tail.filter + number * PAGE as u64;
        match self.cache.get(self.number, position) {
            Some(Cached::Bytes(page)) => !may_hold(&page, partition, subject),
            _ => false,
        }
    }

    /// Entries from the last one at or before `key` on. Read through the cache, unless everything is
    /// wanted once.
    pub(crate) fn from(&self, key: Key, cached: bool) -> Result<Cursor<'_>, Damage> {
        let mut cursor = Cursor {
            run: self,
            path: Vec::with_capacity(4),
            cached,
        };
        if self.tail.entries > 0 {
            cursor.descend(self.tail.root, Some(key))?;
        }
        Ok(cursor)
    }

    /// The offsets of a subject from the piece on that may hold `from`, in pieces.
    pub(crate) fn postings(
        &self,
        partition: u16,
        subject: Subject,
        from: u64,
    ) -> Result<impl Iterator<Item = Result<Places, Damage>> + '_, Damage> {
        let key = Key {
            partition,
            subject,
            first: from,
        };
        self.entries(key, decode_postings, "offsets that cannot be read")
    }

    /// Frames from the one on that holds `offset`.
    pub(crate) fn frames(
        &self,
        partition: u16,
        offset: Offset,
    ) -> Result<impl Iterator<Item = Result<FramePlace, Damage>> + '_, Damage> {
        let key = Key::frame(partition, offset.0);
        self.entries(key, decode_frame, "a frame's place that cannot be read")
    }

    /// The entries of a key's subject, from the last one at or before the key on.
    fn entries<T: 'static>(
        &self,
        key: Key,
        decode: fn(Key, &[u8]) -> Option<T>,
        unreadable: &'static str,
    ) -> Result<impl Iterator<Item = Result<T, Damage>> + '_, Damage> {
        let mut cursor = self.from(key, true)?;
        let mut ended = false;
        Ok(std::iter::from_fn(move || {
            while !ended {
                match cursor.next() {
                    Ok(Some((found, value))) if found.is_with(key) => {
                        let entry = decode(found, &value);
                        return Some(entry.ok_or_else(|| self.damage(0, unreadable.into())));
                    }
                    Ok(Some((found, _))) if found < key => {}
                    Ok(_) => ended = true,
                    Err(damage) => {
                        ended = true;
                        return Some(Err(damage));
                    }
                }
            }
            None
        }))
    }
}

fn decode_tail(bytes: &[u8], incarnation: Incarnation) -> Result<Tail, (&'static str, String)> {
    let mut reader = Reader::new(bytes);
    let magic = reader.take(MAGIC.len()).unwrap_or_default();
    if magic != MAGIC {
        return Err(("the end of an index", "something else".into()));
    }
    let parsed = |reader: &mut Reader<'_>| Some((reader.u32().ok()?, reader.u32().ok()?));
    let (format, sum) = parsed(&mut reader).unwrap_or_default();
    if format != FORMAT {
        return Err((
            "an index of this version's format",
            format!("format {format}"),
        ));
    }
    if bytes.len() != TAIL || crc32fast::hash(&bytes[16..]) != sum {
        return Err(("the end of an index", "a checksum that is wrong".into()));
    }
    let mut body = || {
        let found = reader.u128().ok()?;
        let tail = Tail {
            first_generation: reader.u64().ok()?,
            last_generation: reader.u64().ok()?,
            root: BlockPlace {
                position: reader.u64().ok()?,
                length: reader.u32().ok()?,
            },
            height: reader.u32().ok()?,
            entries: reader.u64().ok()?,
            subjects: reader.u64().ok()?,
            filter: reader.u64().ok()?,
            pages: reader.u64().ok()?,
        };
        Some((found, tail))
    };
    match body() {
        Some((found, tail)) if found == incarnation.0 => Ok(tail),
        Some((found, _)) => Err((
            "an index of this log",
            format!("one of incarnation {}", Incarnation(found)),
        )),
        None => Err(("the end of an index", "fewer bytes".into())),
    }
}

/// A walk through the entries of a run.
pub(crate) struct Cursor<'a> {
    run: &'a Run,
    /// A block of each level, the entry that is next, and where the block lies.
    path: Vec<(Arc<Block>, usize, u64)>,
    cached: bool,
}

impl Cursor<'_> {
    /// Goes down to the entries, along `key` or else along the first ones.
    fn descend(&mut self, place: BlockPlace, key: Option<Key>) -> Result<(), Damage> {
        let mut place = place;
        loop {
            let block = if self.cached {
                self.run.block(place)?
            } else {
                Arc::new(self.run.read_block(place)?)
            };
            let index = key.and_then(|key| block.at_or_before(key)).unwrap_or(0);
            let is_leaf = self.path.len() as u32 == self.run.tail.height;
            if is_leaf {
                self.path.push((block, index, place.position));
                return Ok(());
            }
            let below = self.below(place.position, &block.value(index))?;
            self.path.push((block, index + 1, place.position));
            place = below;
        }
    }

    /// The place that an entry of the block at `position` names: blocks follow what they name, so
    /// that no walk goes in circles.
    fn below(&self, position: u64, value: &[u8]) -> Result<BlockPlace, Damage> {
        BlockPlace::decode(value)
            .filter(|place| {
                let end = place.position.checked_add(u64::from(place.length));
                end.is_some_and(|end| end <= position)
            })
            .ok_or_else(|| {
                let found = "an entry that names no block before it";
                self.run.damage(position, found.into())
            })
    }

    pub(crate) fn next(&mut self) -> Result<Option<(Key, Bytes)>, Damage> {
        loop {
            let depth = self.path.len();
            let Some((block, index, position)) = self.path.last_mut() else {
                return Ok(None);
            };
            if *index >= block.len() {
                self.path.pop();
                continue;
            }
            let entry = (block.key(*index), block.value(*index));
            *index += 1;
            if depth as u32 == self.run.tail.height + 1 {
                return Ok(Some(entry));
            }
            let position = *position;
            let place = self.below(position, &entry.1)?;
            self.descend(place, None)?;
        }
    }
}

/// The value of a piece of a subject's offsets.
pub(crate) fn encode_postings(first_version: u64, dense: bool, offsets: &[u64]) -> Vec<u8> {
    let mut value = Vec::with_capacity(8 + offsets.len() * 2);
    value.put_varint(first_version << 1 | u64::from(dense));
    for pair in offsets.windows(2) {
        value.put_varint(pair[1] - pair[0]);
    }
    value
}

pub(crate) fn decode_postings(key: Key, value: &[u8]) -> Option<Places> {
    let mut reader = Reader::new(value);
    let version = reader.varint().ok()?;
    let mut offsets = vec![key.first];
    let mut last = key.first;
    while !reader.is_empty() {
        last = last.checked_add(reader.varint().ok()?)?;
        offsets.push(last);
    }
    Some(Places::new(version >> 1, version & 1 == 1, offsets))
}

pub(crate) fn encode_frame(place: &FramePlace) -> Vec<u8> {
    let mut value = Vec::with_capacity(20);
    value.put_varint(u64::from(place.generation));
    value.put_varint(u64::from(place.position));
    value.put_varint(u64::from(place.length));
    value.put_u64(place.stamp as u64);
    value
}

pub(crate) fn decode_frame(key: Key, value: &[u8]) -> Option<FramePlace> {
    let mut reader = Reader::new(value);
    let mut number = || u32::try_from(reader.varint().ok()?).ok();
    let (generation, position, length) = (number()?, number()?, number()?);
    Some(FramePlace {
        first: Offset(key.first),
        stamp: reader.u64().ok()? as i64,
        generation,
        position,
        length,
    })
}

/// The segment of a frame's entry.
pub(crate) fn generation_of_frame(value: &[u8]) -> Option<u32> {
    u32::try_from(Reader::new(value).varint().ok()?).ok()
}
