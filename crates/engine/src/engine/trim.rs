//! Letting go of history, on request.

use super::ReadError;
use crate::name::EntityKey;
use crate::position::Offset;
use crate::slot::Partition;

/// Which history is to go. What goes is what a baseline stands for; nothing else ever does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trim {
    /// Records of all partitions up to these offsets, one for each partition in order, as far as
    /// whole segments end there. Every entity with events among them needs a baseline behind them.
    Before(Vec<Offset>),
    /// The events of one entity that its newest baseline stands for, as far as they lie in full
    /// segments.
    Entity {
        /// The entity's partition.
        partition: Partition,
        /// Whose events.
        entity: EntityKey,
        /// Only those up to here.
        until: Offset,
    },
}

/// What went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Records of all kinds.
    pub records: u64,
    /// Bytes on the device that are free again.
    pub bytes: u64,
}

/// History that was not trimmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrimError {
    /// Nothing would stand for the events. Those before them may have gone.
    #[error(
        "{entity} has no baseline for its version {version} behind what is to be trimmed; append one first"
    )]
    NoBaseline {
        /// Whose.
        entity: EntityKey,
        /// The last version that would go.
        version: u64,
    },
    /// Not a place in this log.
    #[error("{0}")]
    Invalid(String),
    /// The store could not read or write what it has to.
    #[error("not trimmed: {0}; the call may be repeated")]
    Unavailable(String),
    /// What is to be trimmed cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// This engine keeps everything.
    #[error("this engine does not trim")]
    Unsupported,
}
