//! How a node runs: what may wait, what stays in memory, what is stored beside the log and when.

use std::time::Duration;

use crate::owner::Allowed;
use crate::timers::TimerClock;

/// How a node runs.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Commands and reads that may wait per partition before new ones are refused with
    /// [`CommandError::Overloaded`](crate::CommandError::Overloaded), those included that have been sent
    /// on to another node. As many again may wait for their entity to change (`EntityRef::until`).
    pub waiting_commands: usize,
    /// Bytes of commands that may wait per partition; the first 64 commands are not counted.
    pub waiting_bytes: usize,
    /// A command that would wait for longer than this, as far as the last batches, or the last answers of
    /// another owner tell, is refused at once: its caller would be gone when its turn came. It is taken in any case
    /// while what waits goes into one batch (1,024 commands).
    pub waiting_time: Duration,
    /// What owners keep in memory and what they store beside the log.
    pub state: StateOptions,
    /// What timers are measured by.
    pub timers: TimerClock,
}

impl Default for NodeOptions {
    /// 16,384 waiting commands per partition, of 16 MiB and two seconds, the defaults of [`StateOptions`], and timers by the
    /// world's clock.
    fn default() -> Self {
        Self {
            waiting_commands: 16_384,
            waiting_bytes: 16 << 20,
            waiting_time: Duration::from_secs(2),
            state: StateOptions::default(),
            timers: TimerClock::default(),
        }
    }
}

impl NodeOptions {
    pub(crate) fn allowed(&self) -> Allowed {
        Allowed {
            commands: self.waiting_commands.max(1),
            bytes: self.waiting_bytes,
            time: self.waiting_time,
        }
    }
}

/// Where the state of entities and partitions is kept. Whatever is chosen, the log alone decides:
/// everything here can be made again from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateOptions {
    /// Where state is kept beside the log.
    pub store: StateStore,
    /// Bytes of entities in memory, of all partitions of the node together; each gets an equal share.
    /// Entities beyond it leave memory, those not used for longest first.
    ///
    /// An entity is estimated at 256 bytes, its name, and its state as JSON: measured whenever the
    /// state is written down or is thought to have doubled, and in between raised by a part of each
    /// event's bytes, learned from what the events of its type added so far. The memory that a state really takes may be some
    /// multiple of its JSON.
    ///
    /// Entities that are changed by a batch not yet durable, or that somebody waits for
    /// (`EntityRef::until`), stay however many they are.
    pub memory_bytes: usize,
    /// An entity that leaves memory with more events than this since its last snapshot is stored
    /// first; to read so few again costs no more than to fetch a state.
    pub replay_on_return: u64,
    /// When an entity's state is stored though it stays in memory.
    pub snapshots: SnapshotPolicy,
    /// When a partition's own state is stored.
    pub partitions: PartitionPolicy,
}

impl Default for StateOptions {
    /// On disk, 256 MiB of entities in memory, up to 16 events read again.
    fn default() -> Self {
        Self {
            store: StateStore::Disk,
            memory_bytes: 256 << 20,
            replay_on_return: 16,
            snapshots: SnapshotPolicy::default(),
            partitions: PartitionPolicy::default(),
        }
    }
}

/// Where state is kept beside the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateStore {
    /// In the engine's areas: entities come back by one fetch, and a start reads only what the log
    /// has gained since.
    #[default]
    Disk,
    /// Nowhere: entities that left memory, and partitions at a start, are folded from the log.
    /// Nothing that was stored before is looked at.
    Memory,
}

/// When a snapshot of an entity is stored; any threshold is enough. A snapshot counts only once
/// everything in it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// Events since the last one; `u64::MAX` for never.
    pub events: u64,
    /// Bytes of events since the last one: payload, metadata and labels; `u64::MAX` for never.
    pub bytes: u64,
    /// Time from the first change since the last one to a later change, to the millisecond;
    /// `Duration::MAX` for never. An entity that rests is not looked at.
    pub age: Duration,
    /// How long it took to read and fold the entity's events when it came into memory, if they were
    /// more than [`StateOptions::replay_on_return`]; `Duration::MAX` for never.
    pub replay: Duration,
}

impl Default for SnapshotPolicy {
    /// 256 events, 1 MiB, an hour, or 20 ms to replay.
    fn default() -> Self {
        Self {
            events: 256,
            bytes: 1 << 20,
            age: Duration::from_secs(3600),
            replay: Duration::from_millis(20),
        }
    }
}

/// When a partition's own state (its clock and its table of command ids) is stored, beside every
/// orderly close. A start reads what the log has gained since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionPolicy {
    /// Records since the last time; `u64::MAX` for never.
    pub records: u64,
    /// Bytes of events and answers since the last time; `u64::MAX` for never.
    pub bytes: u64,
}

impl Default for PartitionPolicy {
    /// 16,384 records or 16 MiB.
    fn default() -> Self {
        Self {
            records: 16_384,
            bytes: 16 << 20,
        }
    }
}
