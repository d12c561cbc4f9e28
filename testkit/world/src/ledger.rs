//! What the store was asked and answered, noted beside it: who claimed which epoch, and what was
//! acknowledged to whom.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everfold::engine::engine::{Appended, Claim, Epoch};
use everfold::engine::{Offset, Partition};

/// A claim that was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// By which node.
    pub node: u32,
    /// What.
    pub partition: Partition,
    /// The number it got.
    pub epoch: Epoch,
    /// Everything of earlier epochs lies at or below.
    pub safe_head: Offset,
    /// When it was asked for, in the order of all notes.
    pub asked: u64,
    /// When it was granted.
    pub granted: u64,
}

/// An append that the store said had happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// To which node.
    pub node: u32,
    /// Where.
    pub partition: Partition,
    /// Under which number.
    pub epoch: Epoch,
    /// The batch's number within the epoch.
    pub batch: u64,
    /// The first record.
    pub first: Offset,
    /// The last record.
    pub last: Offset,
}

/// A proof of ownership that the store gave, by an append or by saying so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// To which node.
    pub node: u32,
    /// Of what.
    pub partition: Partition,
    /// Under which number.
    pub epoch: Epoch,
    /// When it was asked for, in the order of all notes and of what clients ask and are answered.
    pub asked: u64,
    /// When it was given.
    pub given: u64,
}

/// All notes of a run.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Claims in the order in which they were granted.
    pub claims: Vec<Claimed>,
    /// Appends in the order in which they were answered.
    pub appends: Vec<Acknowledged>,
    /// Proofs in the order in which they were given.
    pub proofs: Vec<Proof>,
}

/// Numbers everything that is noted in a run, by whomever.
#[derive(Clone, Default)]
pub(crate) struct Ticks(Arc<AtomicU64>);

impl Ticks {
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

pub(crate) struct Ledger {
    notes: Mutex<Notes>,
    ticks: Ticks,
}

impl Ledger {
    pub(crate) fn new(ticks: Ticks) -> Self {
        Self {
            notes: Mutex::default(),
            ticks,
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn asked(&self) -> u64 {
        self.ticks.next()
    }

    pub(crate) fn claimed(&self, node: u32, partition: Partition, asked: u64, claim: &Claim) {
        let granted = self.ticks.next();
        self.notes().claims.push(Claimed {
            node,
            partition,
            epoch: claim.epoch,
            safe_head: claim.safe_head,
            asked,
            granted,
        });
    }

    pub(crate) fn appended(
        &self,
        node: u32,
        partition: Partition,
        (epoch, batch): (Epoch, u64),
        appended: Appended,
    ) {
        self.notes().appends.push(Acknowledged {
            node,
            partition,
            epoch,
            batch,
            first: appended.first,
            last: appended.last,
        });
    }

    pub(crate) fn proven(&self, node: u32, partition: Partition, epoch: Epoch, asked: u64) {
        let given = self.ticks.next();
        self.notes().proofs.push(Proof {
            node,
            partition,
            epoch,
            asked,
            given,
        });
    }

    pub(crate) fn taken(&self) -> Notes {
        self.notes().clone()
    }
}
