//! The record: what the log keeps for ever.
//!
//! A record has a *portable part*, identical on every site, and a *local part* that says how this
//! log holds it. See `docs/format.md` for the bytes.

mod canonical;
pub mod codec;
#[cfg(test)]
mod tests;
pub mod wire;

use bytes::Bytes;
use uuid::Uuid;

use crate::Text;
use crate::name::EntityKey;
use crate::position::{Incarnation, Offset};
use crate::slot::Partition;
use crate::time::{HybridTime, Stamp, Timestamp};

pub use canonical::{Digest, Link};

/// What a record stands for. The numbers are those of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Something that happened.
    Event = 1,
    /// A decided command without events; remembered so that its answer can be repeated.
    Outcome = 2,
    /// An owner's epoch.
    Claim = 3,
    /// A floor, or a change of layout.
    Mark = 4,
    /// State that stands for trimmed history.
    Baseline = 5,
    /// The shadow of a filtered event.
    Stub = 6,
}

impl Kind {
    /// The kind with this number in the format.
    pub fn of(code: u8) -> Option<Self> {
        [
            Self::Event,
            Self::Outcome,
            Self::Claim,
            Self::Mark,
            Self::Baseline,
            Self::Stub,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == code)
    }
}

/// Where an event was first recorded: a site's copy of the log under one layout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Origin {
    /// The site's name.
    pub site: Text,
    /// The incarnation of that site's log.
    pub incarnation: Incarnation,
    /// The layout number at that time.
    pub layout: u32,
}

/// An event's identity across sites. Counters have no gaps per origin and partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Dot {
    /// Where it was first recorded.
    pub origin: Origin,
    /// In which partition.
    pub partition: Partition,
    /// As which event of that partition, from 1.
    pub counter: u64,
}

/// A set of seen dots, as one counter per origin: everything up to it was seen.
pub type Context = Vec<(Origin, u64)>;

/// A record's place within its command: a batch may carry many units, readers never see part of
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// 0-based place of this record in the unit.
    pub index: u32,
    /// How many records the unit has.
    pub count: u32,
}

impl Unit {
    /// A unit of one record.
    pub const SINGLE: Unit = Unit { index: 0, count: 1 };

    /// Whether this record ends its unit.
    pub fn is_last(self) -> bool {
        self.index + 1 >= self.count
    }
}

/// The part of a record that is the same on every site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portable {
    /// Any UUID, ours of version 7; uniqueness is not assumed.
    pub event_id: Uuid,
    /// Identity across sites; only events, and what stands for them, have one.
    pub dot: Option<Dot>,
    /// What the writer had seen in this partition, apart from the dot's own predecessors.
    pub context: Context,
    /// Dots in other partitions that this event depends on.
    pub causes: Vec<Dot>,
    /// Which entity it belongs to, tenant included.
    pub entity: EntityKey,
    /// The name of the event's type.
    pub event_type: Text,
    /// The version of the event's schema, from 1.
    pub schema_version: u32,
    /// Business time.
    pub effective: Timestamp,
    /// Hybrid logical time at the origin.
    pub hybrid: HybridTime,
    /// The event or command that directly caused this.
    pub causation: Option<Uuid>,
    /// Shared by everything that follows from one outside command.
    pub correlation: Option<Uuid>,
    /// The command that was decided.
    pub command: Option<Uuid>,
    /// The place within that command.
    pub unit: Unit,
    /// How many reactions lie between an outside command and this.
    pub hops: u32,
    /// Who asked for it.
    pub principal: Text,
    /// W3C trace context, `traceparent` form; empty if none.
    pub trace: Text,
    /// Names and values to find the event by. Never encrypted, so never personal data.
    pub labels: Vec<(Text, Text)>,
    /// The key that encrypts the personal data of a subject; empty if none.
    pub subject_key: Text,
    /// Media type of the payload.
    pub content_type: Text,
    /// Opaque bytes beside the payload: foreign metadata and headers.
    pub metadata: Bytes,
    /// Opaque bytes that come back bit for bit.
    pub payload: Bytes,
}

/// JSON, the default content type.
pub const JSON: &str = "application/json";

impl Portable {
    /// A record of `entity` with nothing but a type, JSON `{}`, and ids of zero.
    pub fn new(entity: EntityKey, event_type: impl Into<Text>) -> Self {
        Self {
            event_id: Uuid::nil(),
            dot: None,
            context: Context::new(),
            causes: Vec::new(),
            entity,
            event_type: event_type.into(),
            schema_version: 1,
            effective: Timestamp::default(),
            hybrid: HybridTime::default(),
            causation: None,
            correlation: None,
            command: None,
            unit: Unit::SINGLE,
            hops: 0,
            principal: Text::new(),
            trace: Text::new(),
            labels: Vec::new(),
            subject_key: Text::new(),
            content_type: Text::from_static(JSON),
            metadata: Bytes::new(),
            payload: Bytes::from_static(b"{}"),
        }
    }
}

/// Which handler sent a command, and how far that handler will never go back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Source {
    /// The handler's name, without its version.
    pub handler: Text,
    /// The partition it read the event from.
    pub partition: Partition,
    /// The event it answered.
    pub offset: Offset,
    /// The lower of the handler's checkpoint and its oldest parked event: commands for events up to
    /// here are never sent again.
    pub settled: Offset,
}

/// The first 128 bits of a command's digest. Bytes, so that records need no stricter alignment than
/// allocators give for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CommandDigest([u8; 16]);

impl CommandDigest {
    /// The digest as a number.
    pub fn number(self) -> u128 {
        u128::from_le_bytes(self.0)
    }
}

impl From<u128> for CommandDigest {
    fn from(number: u128) -> Self {
        Self(number.to_le_bytes())
    }
}

/// What a command was answered, kept in the last record of its unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Which command it was: the same id with another digest is an error.
    pub command_digest: CommandDigest,
    /// Whether the command was rejected.
    pub rejected: bool,
    /// The encoded reply or rejection.
    pub body: Bytes,
    /// For a handler's command: where it came from.
    pub source: Option<Source>,
}

/// The part of a record that says how this log holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Given by the log.
    pub offset: Offset,
    /// The entity's version after this event, from 1; 0 for records that are no events.
    pub version: u64,
    /// The owner's fencing number.
    pub epoch: u64,
    /// Which batch brought it.
    pub batch: u64,
    /// Local order over all partitions.
    pub stamp: Stamp,
    /// The answer to the command; in the last record of its unit.
    pub reply: Option<Reply>,
    /// The hash chain up to here; all zero in a log without the chain, and where it was not asked
    /// for: see [`crate::Engine::read_chained`].
    pub link: Link,
}

/// One entry of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it stands for.
    pub kind: Kind,
    /// The same on every site.
    pub portable: Portable,
    /// How this log holds it.
    pub local: Local,
}

impl Record {
    /// When the record was appended here, to the millisecond.
    pub fn recorded(&self) -> Timestamp {
        self.local.stamp.time()
    }

    /// The digest that travels with the event.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.portable)
    }

    /// The chain's link for this record, after `previous`.
    pub fn link_after(&self, previous: Link) -> Link {
        previous.next(self.kind, self.local.version, self.digest())
    }
}
