//! Units on their way into the log.

use everfold_engine::engine::Statement;
use everfold_engine::record::{Dot, Link, Record};
use everfold_engine::time::{HybridTime, Stamp};
use everfold_engine::{EntityKey, Uuid};

use super::serve::Identified;
use super::snapshot::Snapshot;
use super::work::Work;

/// What grows with every record; put back when a batch is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    /// The last dot's counter.
    pub(crate) counter: u64,
    pub(crate) stamp: Stamp,
    pub(crate) hybrid: HybridTime,
    pub(crate) link: Link,
}

/// A piece of work that waits for its batch.
pub(crate) struct Pending {
    pub(crate) work: Box<dyn Work>,
    /// How many records of the batch lie before or in its unit.
    pub(crate) records_end: usize,
    pub(crate) id: Option<Identified>,
    /// Its last event, if somebody wants to know.
    pub(crate) dot: Option<Dot>,
    /// It only looked, and may look again.
    pub(crate) is_read: bool,
    /// The same command again, waiting for the same answer.
    pub(crate) repeats: Vec<Box<dyn Work>>,
}

/// Decided work that is not yet on its way, or the batch that is.
pub(crate) struct Batch {
    /// Counts the batches of this ownership from 1.
    pub(crate) number: u64,
    /// The clock before its first record.
    pub(crate) before: Clock,
    pub(crate) records: Vec<Record>,
    /// Of its only unit.
    pub(crate) statements: Vec<Statement>,
    pub(crate) bytes: usize,
    pub(crate) pending: Vec<Pending>,
    /// Some answer needs a proof of ownership.
    pub(crate) fenced: bool,
    pub(crate) touched: Vec<EntityKey>,
    pub(crate) snapshots: Vec<Snapshot>,
}

impl Pending {
    pub(crate) fn into_work(self) -> impl Iterator<Item = Box<dyn Work>> {
        std::iter::once(self.work).chain(self.repeats)
    }
}

impl Batch {
    pub(crate) fn new(number: u64, before: Clock) -> Self {
        Self {
            number,
            before,
            records: Vec::new(),
            statements: Vec::new(),
            bytes: 0,
            pending: Vec::new(),
            fenced: false,
            touched: Vec::new(),
            snapshots: Vec::new(),
        }
    }

    /// Makes room: the next batch is often as large as the last.
    pub(crate) fn expect_as_many_as(&mut self, last: &Batch) {
        self.records.reserve(last.records.len());
        self.pending.reserve(last.pending.len());
        self.touched.reserve(last.touched.len());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// How much of it may be at fault if it is refused: reads carry nothing.
    pub(crate) fn units(&self) -> usize {
        self.pending.iter().filter(|it| !it.is_read).count()
    }

    /// The pending command with this id.
    pub(crate) fn find(&mut self, id: Uuid) -> Option<&mut Pending> {
        self.pending
            .iter_mut()
            .find(|pending| pending.id.as_ref().is_some_and(|known| known.id == id))
    }

    /// All work of the batch in order, repeats after their originals.
    pub(crate) fn into_work(self) -> impl Iterator<Item = Box<dyn Work>> {
        self.pending.into_iter().flat_map(Pending::into_work)
    }
}
