//! The index of a segment in memory.

use everfold_engine::map::{Map, seeded};
use everfold_engine::{Offset, Record};

use super::{Subject, Subjects};

/// Where a frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FramePlace {
    /// The offset of its first record.
    pub(crate) first: Offset,
    /// The stamp of its first record.
    pub(crate) stamp: i64,
    /// The segment.
    pub(crate) generation: u32,
    /// Where in the segment.
    pub(crate) position: u32,
    /// Its bytes, header included.
    pub(crate) length: u32,
}

/// What one partition has in one segment.
pub(crate) struct Fresh {
    frames: Vec<FramePlace>,
    subjects: Map<Subject, Places>,
    seed: u64,
}

/// The offsets behind one subject, growing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// The entity's version at the first one; 0 for other subjects.
    pub(crate) first_version: u64,
    /// Whether versions grow by one from there, so that one can be found by its number.
    pub(crate) dense: bool,
    offsets: Offsets,
}

/// Most entities of many applications have few events: one takes no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Offsets {
    One(u64),
    Many(Vec<u64>),
}

impl Places {
    pub(crate) fn new(first_version: u64, dense: bool, offsets: Vec<u64>) -> Self {
        Self {
            first_version,
            dense,
            offsets: Offsets::Many(offsets),
        }
    }

    pub(crate) fn offsets(&self) -> &[u64] {
        match &self.offsets {
            Offsets::One(offset) => std::slice::from_ref(offset),
            Offsets::Many(offsets) => offsets,
        }
    }

    /// The offsets of versions above `after`; of all, where they cannot be told apart.
    pub(crate) fn after_version(&self, after: u64) -> &[u64] {
        let offsets = self.offsets();
        let skip = match after.checked_sub(self.first_version) {
            Some(before) if self.dense => {
                usize::try_from(before.saturating_add(1)).unwrap_or(usize::MAX)
            }
            _ => 0,
        };
        &offsets[skip.min(offsets.len())..]
    }

    /// Whether all versions above `after` that these segments hold are behind the first offset.
    pub(crate) fn reaches_back_to(&self, after: u64) -> bool {
        self.dense && self.first_version <= after.saturating_add(1)
    }

    fn push(&mut self, version: u64, offset: u64) {
        let next = self.first_version + self.offsets().len() as u64;
        self.dense &= version == next;
        match &mut self.offsets {
            Offsets::One(first) => self.offsets = Offsets::Many(vec![*first, offset]),
            Offsets::Many(offsets) => offsets.push(offset),
        }
    }
}

impl Fresh {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            frames: Vec::new(),
            subjects: seeded(seed),
            seed,
        }
    }

    /// An empty one of the same seed.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.seed)
    }

    pub(crate) fn push_frame(&mut self, place: FramePlace) {
        self.frames.push(place);
    }

    /// Notes what a record can be found by.
    pub(crate) fn push(&mut self, record: &Record, subjects: Subjects) {
        let offset = record.local.offset.0;
        subjects.for_each(record, |subject, version| {
            if let Some(places) = self.subjects.get_mut(&subject) {
                places.push(version, offset);
            } else {
                let places = Places {
                    first_version: version,
                    dense: version > 0,
                    offsets: Offsets::One(offset),
                };
                self.subjects.insert(subject, places);
            }
        });
    }

    /// Takes out the record that was pushed last.
    pub(crate) fn pop(&mut self, record: &Record, subjects: Subjects) {
        subjects.for_each(record, |subject, _| {
            match self
                .subjects
                .get_mut(&subject)
                .map(|places| &mut places.offsets)
            {
                Some(Offsets::Many(offsets)) if offsets.len() > 1 => drop(offsets.pop()),
                Some(_) => drop(self.subjects.remove(&subject)),
                None => {}
            }
        });
    }

    pub(crate) fn frames(&self) -> &[FramePlace] {
        &self.frames
    }

    /// The frame that holds `offset`, and those behind it; none if it lies before all of them.
    pub(crate) fn frames_from(&self, offset: Offset) -> &[FramePlace] {
        let behind = self.frames.partition_point(|place| place.first <= offset);
        &self.frames[behind.saturating_sub(1)..]
    }

    pub(crate) fn places(&self, subject: Subject) -> Option<&Places> {
        self.subjects.get(&subject)
    }

    pub(crate) fn subjects(&self) -> impl Iterator<Item = (Subject, &Places)> {
        self.subjects
            .iter()
            .map(|(subject, places)| (*subject, places))
    }
}
