//! What can be looked up, and the keys that an index is sorted by.

use everfold_engine::EntityKey;
use everfold_engine::position::Incarnation;
use everfold_engine::record::{Kind, Record};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

/// The hash of an entity, a type or a label. Whoever follows it checks the record.
pub(crate) type Subject = u128;

/// Stands for the frames themselves.
const FRAMES: Subject = 0;

/// Computes subjects, seeded by the log's incarnation: who does not know that cannot make two meet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subjects {
    seed: u64,
}

#[derive(Clone, Copy)]
enum Class {
    Entity = 1,
    EntityType = 2,
    EventType = 3,
    Label = 4,
    Baseline = 5,
}

impl Subjects {
    pub(crate) fn of(incarnation: Incarnation) -> Self {
        Self {
            seed: incarnation.0 as u64 ^ (incarnation.0 >> 64) as u64,
        }
    }

    pub(crate) fn entity(self, entity: &EntityKey) -> Subject {
        self.hash(Class::Entity, &[&entity.tenant, &entity.kind, &entity.id])
    }

    /// The baselines of an entity, which are no part of its events.
    pub(crate) fn baselines(self, entity: &EntityKey) -> Subject {
        self.hash(Class::Baseline, &[&entity.tenant, &entity.kind, &entity.id])
    }

    pub(crate) fn entity_type(self, entity_type: &str) -> Subject {
        self.hash(Class::EntityType, &[entity_type])
    }

    pub(crate) fn event_type(self, event_type: &str) -> Subject {
        self.hash(Class::EventType, &[event_type])
    }

    pub(crate) fn label(self, name: &str, value: &str) -> Subject {
        self.hash(Class::Label, &[name, value])
    }

    /// Everything that a record can be found by besides its offset.
    pub(crate) fn for_each(self, record: &Record, mut found: impl FnMut(Subject, u64)) {
        let (portable, version) = (&record.portable, record.local.version);
        match record.kind {
            Kind::Event => {}
            Kind::Baseline => return found(self.baselines(&portable.entity), 0),
            _ => return,
        }
        found(self.entity(&portable.entity), version);
        found(self.entity_type(&portable.entity.kind), 0);
        found(self.event_type(&portable.event_type), 0);
        for (name, value) in &portable.labels {
            found(self.label(name, value), 0);
        }
    }

    /// Each part's hash seeds the next one's, so that no part can run into its neighbour.
    fn hash(self, class: Class, parts: &[&str]) -> Subject {
        let mut seed = self.seed.wrapping_add(class as u64);
        let Some((last, front)) = parts.split_last() else {
            return FRAMES;
        };
        for part in front {
            seed = xxh3_64_with_seed(part.as_bytes(), seed);
        }
        match xxh3_128_with_seed(last.as_bytes(), seed) {
            FRAMES => 1,
            subject => subject,
        }
    }
}

/// What entries of an index are sorted by: a subject's offsets, in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) partition: u16,
    pub(crate) subject: Subject,
    /// The first offset of the piece.
    pub(crate) first: u64,
}

impl Key {
    /// The bytes of a key, in whose order keys are.
    pub(crate) const BYTES: usize = 26;

    pub(crate) fn frame(partition: u16, first: u64) -> Self {
        Self {
            partition,
            subject: FRAMES,
            first,
        }
    }

    pub(crate) fn is_frame(self) -> bool {
        self.subject == FRAMES
    }

    /// Whether both are of the same subject in the same partition.
    pub(crate) fn is_with(self, other: Self) -> bool {
        (self.partition, self.subject) == (other.partition, other.subject)
    }

    pub(crate) fn bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..2].copy_from_slice(&self.partition.to_be_bytes());
        bytes[2..18].copy_from_slice(&self.subject.to_be_bytes());
        bytes[18..].copy_from_slice(&self.first.to_be_bytes());
        bytes
    }

    pub(crate) fn of(bytes: &[u8; Self::BYTES]) -> Self {
        let number = |range: std::ops::Range<usize>| {
            bytes[range]
                .iter()
                .fold(0, |number, byte| number << 8 | u128::from(*byte))
        };
        Self {
            partition: number(0..2) as u16,
            subject: number(2..18),
            first: number(18..26) as u64,
        }
    }
}
