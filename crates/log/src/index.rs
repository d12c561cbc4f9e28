//! Where records lie: frames by offset, events by entity. Kept in memory, rebuilt when a log is
//! opened.

use everfold_engine::map::{Map, seeded};
use everfold_engine::{EntityKey, Offset};
use std::hash::BuildHasher;

/// Where a frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FramePlace {
    /// The offset of its first record.
    pub(crate) first: Offset,
    /// The segment.
    pub(crate) generation: u32,
    /// Where in the segment.
    pub(crate) position: u32,
    /// Its bytes, header included.
    pub(crate) length: u32,
}

/// The frames of one partition in order.
#[derive(Default)]
pub(crate) struct Frames {
    places: Vec<FramePlace>,
}

impl Frames {
    pub(crate) fn push(&mut self, place: FramePlace) {
        self.places.push(place);
    }

    /// The frame that holds `offset`, and those behind it.
    pub(crate) fn from(&self, offset: Offset) -> &[FramePlace] {
        let behind = self.places.partition_point(|place| place.first <= offset);
        &self.places[behind.saturating_sub(1)..]
    }
}

/// The events of each entity of one partition, by a hash of its key: whoever follows it checks the
/// key.
pub(crate) struct Entities {
    places: Map<u64, Events>,
}

/// The offsets of the events behind one hash.
struct Events {
    /// The version of the first one.
    first_version: u64,
    /// Whether versions grow by one from there, so that one can be found by its number.
    dense: bool,
    offsets: Offsets,
}

/// Most entities of many applications have few events: one takes no allocation.
enum Offsets {
    One(u64),
    Many(Vec<u64>),
}

impl Offsets {
    fn as_slice(&self) -> &[u64] {
        match self {
            Self::One(offset) => std::slice::from_ref(offset),
            Self::Many(offsets) => offsets,
        }
    }

    fn push(&mut self, offset: u64) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, offset]),
            Self::Many(offsets) => offsets.push(offset),
        }
    }
}

impl Entities {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            places: seeded(seed),
        }
    }

    fn hash(&self, entity: &EntityKey) -> u64 {
        self.places.hasher().hash_one(entity)
    }

    pub(crate) fn push(&mut self, entity: &EntityKey, version: u64, offset: Offset) {
        let hash = self.hash(entity);
        let Some(events) = self.places.get_mut(&hash) else {
            let events = Events {
                first_version: version,
                dense: true,
                offsets: Offsets::One(offset.0),
            };
            self.places.insert(hash, events);
            return;
        };
        let next = events.first_version + events.offsets.as_slice().len() as u64;
        events.dense &= version == next;
        events.offsets.push(offset.0);
    }

    /// Takes out the event that was pushed last, of this entity.
    pub(crate) fn pop(&mut self, entity: &EntityKey) {
        let hash = self.hash(entity);
        match self.places.get_mut(&hash).map(|events| &mut events.offsets) {
            Some(Offsets::Many(offsets)) if offsets.len() > 1 => drop(offsets.pop()),
            Some(_) => drop(self.places.remove(&hash)),
            None => {}
        }
    }

    /// Offsets of all events of `entity` with a version above `after`; perhaps of others too.
    pub(crate) fn of(&self, entity: &EntityKey, after: u64) -> &[u64] {
        let Some(events) = self.places.get(&self.hash(entity)) else {
            return &[];
        };
        let offsets = events.offsets.as_slice();
        let skip = match after.checked_sub(events.first_version) {
            Some(before) if events.dense => {
                usize::try_from(before.saturating_add(1)).unwrap_or(usize::MAX)
            }
            _ => 0,
        };
        &offsets[skip.min(offsets.len())..]
    }
}
