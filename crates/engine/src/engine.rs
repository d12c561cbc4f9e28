//! The engine contract: what the runtime asks of a store, and nothing more.
//!
//! Per partition an engine takes ordered batches from one owner at a time and gives them back. The
//! crate `everfold-contract` holds the suite that every engine passes.

mod query;
pub mod rules;
mod statement;
mod trim;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::Text;
use crate::coordination::Coordinator;
use crate::name::EntityKey;
use crate::position::{Incarnation, Offset, Position};
use crate::record::{Origin, Record};
use crate::slot::{Layout, Partition};
use crate::time::{Stamp, Timestamp};

pub use query::{Query, scan};
pub use statement::{Parameter, Statement};
pub use trim::{Trim, TrimError, Trimmed};

/// A future that may be held by a trait object and sent to another thread.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Which log an engine holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The log's name.
    pub log: Text,
    /// The site's name.
    pub site: Text,
    /// Drawn when the log was created.
    pub incarnation: Incarnation,
    /// How slots are cut into partitions.
    pub layout: Layout,
    /// Whether every record carries a link of the hash chain.
    pub chained: bool,
}

impl Identity {
    /// The origin of events first recorded here.
    pub fn origin(&self) -> Origin {
        Origin {
            site: self.site.clone(),
            incarnation: self.incarnation,
            layout: self.layout.number,
        }
    }

    /// The position before everything.
    pub fn start(&self) -> Position {
        Position::new(self.log.clone(), self.incarnation, self.layout.number)
    }
}

/// The fencing number of an ownership; grows strictly with every claim of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// What a claim found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The new owner's number.
    pub epoch: Epoch,
    /// No append of this or any later epoch may carry a stamp at or below it.
    pub floor: Stamp,
    /// Everything below is settled; the owner reads up to here before it serves.
    pub safe_head: Offset,
    /// The engine's clock.
    pub time: Timestamp,
}

/// What an engine accepts in one call. Checked by the owner before it changes any state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one event: payload, metadata, labels, principal and trace.
    pub event_bytes: usize,
    /// Bytes of the events of one unit and of its answer.
    pub unit_bytes: usize,
    /// Bytes of all units of one batch.
    pub batch_bytes: usize,
    /// Records of one batch.
    pub batch_records: usize,
}

impl Default for Limits {
    /// 1 MiB an event, 4 MiB a unit, 8 MiB or 4,096 records a batch.
    fn default() -> Self {
        Self {
            event_bytes: 1 << 20,
            unit_bytes: 4 << 20,
            batch_bytes: 8 << 20,
            batch_records: 4096,
        }
    }
}

/// Whole units to append, in order. Offset, epoch and batch number of the records are filled in by
/// the engine.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Distinguishes the batches of one epoch.
    pub id: u64,
    /// The records, complete but for what the engine fills in.
    pub records: Vec<Record>,
    /// Changes of tables beside the log, in the same transaction; for a batch of one unit. Only where
    /// [`Engine::runs_statements`].
    pub statements: Vec<Statement>,
}

impl Batch {
    /// A batch without statements.
    pub fn new(id: u64, records: Vec<Record>) -> Self {
        Self {
            id,
            records,
            statements: Vec::new(),
        }
    }
}

/// Where a batch was put. Its records have consecutive offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub first: Offset,
    /// The offset of its last record.
    pub last: Offset,
}

/// How much to read at once; at least one unit is returned where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimit {
    /// Stop after about this many records.
    pub records: usize,
    /// Stop after about this many bytes of payload.
    pub bytes: usize,
}

impl Default for ReadLimit {
    /// 1,024 records or 1 MiB.
    fn default() -> Self {
        Self {
            records: 1024,
            bytes: 1 << 20,
        }
    }
}

/// Part of a partition, whole units only.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// In order of offset. Every kind of record is here.
    pub records: Vec<Arc<Record>>,
    /// Continue after this offset, which may lie past the last record.
    pub next: Offset,
    /// Everything up to here was settled when the read was made.
    pub safe_head: Offset,
}

/// A stored value's place: a named area, in a partition.
///
/// Areas keep what can be made again from the log: snapshots, rows of views, checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Area {
    /// What the area is for, `view/customers/1` for example.
    pub name: Text,
    /// Whose owner may write it.
    pub partition: Partition,
}

/// How often an area was written; 0 before the first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// A change of an area: all of it, or nothing.
#[derive(Clone, Debug)]
pub struct Put {
    /// Where.
    pub area: Area,
    /// The owner of the partition.
    pub epoch: Epoch,
    /// The log that the values were made from.
    pub incarnation: Incarnation,
    /// The revision that is replaced.
    pub previous: Revision,
    /// Empty the area first.
    pub clear: bool,
    /// New values by key; `None` removes.
    pub changes: Vec<(Bytes, Option<Bytes>)>,
}

/// Keys and values of an area, ascending by key.
pub type Entries = Vec<(Bytes, Bytes)>;

/// What an acknowledgement means on an engine as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// What was found.
    pub value: String,
    /// Whether an acknowledged event could be lost because of it; production refuses that.
    pub loses_data: bool,
}

/// A store of partitions.
///
/// # Contract
/// - Only the last claim's epoch may append; the check is part of the append itself.
/// - An append that returned is durable; one that was refused left nothing.
/// - One append per partition is in flight at a time; a second one waits or is refused.
/// - Reads end below the safe head: no record appears later at an offset that a read has passed.
pub trait Engine: Send + Sync + 'static {
    /// Which log this is.
    fn identity(&self) -> &Identity;

    /// What one call may carry.
    fn limits(&self) -> Limits;

    /// Takes a partition over. Every earlier epoch is fenced when this returns.
    fn claim(&self, partition: Partition) -> BoxFuture<'_, Result<Claim, OwnerError>>;

    /// Keeps an ownership alive and raises the floor.
    fn renew(
        &self,
        partition: Partition,
        epoch: Epoch,
        floor: Stamp,
    ) -> BoxFuture<'_, Result<(), OwnerError>>;

    /// Gives a partition up.
    fn release(&self, partition: Partition, epoch: Epoch) -> BoxFuture<'_, Result<(), OwnerError>>;

    /// Succeeds only if the epoch was valid at some moment after the call began.
    fn confirm(&self, partition: Partition, epoch: Epoch) -> BoxFuture<'_, Result<(), OwnerError>>;

    /// Whether a batch may carry [`Statement`]s.
    fn runs_statements(&self) -> bool {
        false
    }

    /// Appends a batch: all of it, durable and in order, or none.
    fn append(
        &self,
        partition: Partition,
        epoch: Epoch,
        batch: Batch,
    ) -> BoxFuture<'_, Result<Appended, AppendError>>;

    /// Reads records after an offset, below the safe head. Links of the hash chain may be missing
    /// but in the last record of a batch, where to find them costs more than reading.
    fn read(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Chunk, ReadError>>;

    /// As [`Engine::read`], with the link of every record.
    fn read_chained(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Chunk, ReadError>> {
        self.read(partition, after, limit)
    }

    /// The last settled offset of a partition; 0 if it is empty.
    fn safe_head(&self, partition: Partition) -> BoxFuture<'_, Result<Offset, ReadError>>;

    /// Resolves with the safe head once it is past `after`.
    fn wait(&self, partition: Partition, after: Offset)
    -> BoxFuture<'_, Result<Offset, ReadError>>;

    /// Whether [`Engine::read_entity`] is served by an index. Engines without one are wrapped in
    /// [`crate::indexed::Indexed`].
    fn indexes_entities(&self) -> bool {
        false
    }

    /// Events of one entity with a version above `after`, ascending, at most `limit`; fewer than
    /// `limit` means that there are no more. Where the first of them were trimmed, the baseline that
    /// stands for them comes first.
    ///
    /// # Errors
    /// [`ReadError::Unsupported`] where [`Engine::indexes_entities`] is false.
    fn read_entity<'a>(
        &'a self,
        partition: Partition,
        entity: &'a EntityKey,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Arc<Record>>, ReadError>> {
        let _ = (partition, entity, after, limit);
        Box::pin(async { Err(ReadError::Unsupported("reading one entity")) })
    }

    /// Events after an offset that match a query, ascending, at most `limit`. Fewer, even none, may
    /// come back although there are more: `next` says where to go on, up to `safe_head`. Units are
    /// not kept whole.
    ///
    /// Engines without an index look at every record.
    fn find<'a>(
        &'a self,
        partition: Partition,
        query: &'a Query,
        after: Offset,
        limit: usize,
    ) -> BoxFuture<'a, Result<Chunk, ReadError>> {
        Box::pin(scan(self, partition, query, after, limit))
    }

    /// Lets go of history. Reads begin behind it from then on, and an entity's with its baseline.
    fn trim(&self, trim: Trim) -> BoxFuture<'_, Result<Trimmed, TrimError>> {
        let _ = trim;
        Box::pin(async { Err(TrimError::Unsupported) })
    }

    /// Changes an area if epoch, incarnation and revision are as stated.
    fn put(&self, put: Put) -> BoxFuture<'_, Result<Revision, PutError>>;

    /// The revision of an area.
    fn revision<'a>(&'a self, area: &'a Area) -> BoxFuture<'a, Result<Revision, ReadError>>;

    /// One value of an area.
    fn get<'a>(
        &'a self,
        area: &'a Area,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, ReadError>>;

    /// Values of an area with keys above `after` (all if `None`), ascending, at most `limit`.
    fn scan<'a>(
        &'a self,
        area: &'a Area,
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Entries, ReadError>>;

    /// What keeps the roster of the nodes that share the log; `None` where only one process can open
    /// it. Every call gives the same one.
    fn coordinator(&self) -> Option<Arc<dyn Coordinator>> {
        None
    }

    /// What an acknowledgement means here.
    fn doctor(&self) -> Vec<Finding>;

    /// One line for people: what an acknowledged append survives.
    fn durability(&self) -> String;

    /// Finishes what is in flight and lets go of the store.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A claim, renewal, release or confirmation that did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OwnerError {
    /// A later claim exists.
    #[error(
        "partition {partition} has a newer owner (epoch {current:?}): this node no longer owns it; claim again or send the command there"
    )]
    Fenced {
        /// The partition.
        partition: Partition,
        /// The valid epoch, if the store told it.
        current: Option<Epoch>,
    },
    /// The log has fewer partitions.
    #[error("there is no partition {0}: the log was created with fewer; check the layout")]
    NoPartition(Partition),
    /// The store cannot be asked now; nothing changed as far as is known.
    #[error("the store cannot be reached: {0}; the call may be repeated")]
    Unavailable(String),
    /// The store was opened to be read.
    #[error("the log cannot be written: {0}; open it for writing, or only read")]
    ReadOnly(String),
    /// The store stopped for good.
    #[error("the log has stopped: {0}; restart the process, recovery decides what was kept")]
    Stopped(String),
}

/// An append that is not known to have happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Nothing of the batch exists; the ownership goes on.
    #[error("not appended: {0}")]
    Refused(#[from] Refusal),
    /// Nothing of the batch exists; this ownership has ended.
    #[error("not appended: partition {0} has a newer owner")]
    Fenced(Partition),
    /// The batch may or may not exist; this ownership has ended. Claim again and look for the batch.
    #[error("it is not known whether the batch was appended: {0}")]
    Unknown(String),
}

/// Why a batch was not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Over a limit of the engine.
    #[error("{bytes} bytes are more than the {limit} that this log takes at once; send less")]
    TooLarge {
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
    /// No space left; appends resume when there is.
    #[error("no space left on the log's device ({0}); free some, appends resume by themselves")]
    Full(String),
    /// The store takes no writes now.
    #[error("the store takes no writes: {0}")]
    ReadOnly(String),
    /// The batch breaks a rule of the contract.
    #[error("the batch breaks the contract: {0}")]
    Invalid(String),
    /// A statement that the batch carries failed, so nothing of the batch was done.
    #[error(
        "a statement beside the log failed: {0}; nothing was changed, correct the statement or its data"
    )]
    Statement(String),
}

impl Refusal {
    /// Whether the cause lies in the store, not in the batch: a smaller batch would fare no better.
    pub fn is_of_store(&self) -> bool {
        matches!(self, Self::Full(_) | Self::ReadOnly(_))
    }
}

/// A read that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The log has fewer partitions.
    #[error("there is no partition {0}: the log was created with fewer; check the layout")]
    NoPartition(Partition),
    /// Stored bytes are not what was written.
    #[error("damaged: {0}; run `everfold verify` and restore from a backup")]
    Damaged(String),
    /// The store cannot be asked now.
    #[error("the store cannot be reached: {0}; the call may be repeated")]
    Unavailable(String),
    /// This engine cannot do it.
    #[error("{0} is not offered by this engine; wrap it in `Indexed`")]
    Unsupported(&'static str),
}

/// A put that did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// A later claim exists.
    #[error("partition {0} has a newer owner: what was to be stored is out of date")]
    Fenced(Partition),
    /// Another log than the values were made from.
    #[error("the log was replaced (incarnation {0}): read it again from the start")]
    Foreign(Incarnation),
    /// The area has changed since it was read.
    #[error("the area is at revision {0:?}: read it again")]
    Changed(Revision),
    /// The store cannot take it now.
    #[error("not stored: {0}; the call may be repeated")]
    Unavailable(String),
}
