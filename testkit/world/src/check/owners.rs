//! One owner per epoch, and nothing of an epoch after the next one was granted.

use std::collections::BTreeMap;

use everfold::engine::Partition;
use everfold::engine::engine::Epoch;
use everfold::engine::record::Kind;

use super::Log;
use crate::ledger::{Claimed, Notes};

/// Who was granted what, and when.
pub(super) struct Epochs<'a>(&'a [Claimed]);

impl<'a> Epochs<'a> {
    pub(super) fn of(notes: &'a Notes) -> Self {
        Self(&notes.claims)
    }

    /// The claim that had ended an epoch by then.
    pub(super) fn replaced(
        &self,
        partition: Partition,
        epoch: Epoch,
        by: u64,
    ) -> Option<&'a Claimed> {
        self.0
            .iter()
            .find(|claim| claim.partition == partition && claim.epoch > epoch && claim.granted < by)
    }
}

/// Compares who claimed and who appended, as the store noted it, with the log.
///
/// # Errors
/// An epoch with two owners, an epoch that does not grow, a record of nobody's epoch, an append
/// that succeeded after its epoch was over.
pub fn check(log: &Log, notes: &Notes) -> Result<(), String> {
    let mut granted = BTreeMap::new();
    for claim in &notes.claims {
        let (partition, epoch) = (claim.partition, claim.epoch);
        if granted.insert((partition, epoch), claim).is_some() {
            return Err(format!(
                "epoch {} of partition {partition} was granted twice",
                epoch.0
            ));
        }
        for earlier in notes.claims.iter().filter(|c| c.partition == partition) {
            if earlier.granted < claim.asked && earlier.epoch >= epoch {
                return Err(format!(
                    "partition {partition} was given epoch {} after {}",
                    epoch.0, earlier.epoch.0
                ));
            }
        }
    }
    for append in &notes.appends {
        let (partition, epoch) = (append.partition, append.epoch);
        match granted.get(&(partition, epoch)) {
            Some(claim) if claim.node == append.node => {}
            _ => {
                return Err(format!(
                    "node {} appended to partition {partition} under epoch {}, which is not its own",
                    append.node, epoch.0
                ));
            }
        }
        let over = notes.claims.iter().find(|claim| {
            claim.partition == partition && claim.epoch > epoch && append.last > claim.safe_head
        });
        if let Some(claim) = over {
            return Err(format!(
                "node {} appended offset {} to partition {partition} under epoch {} after node {} had been given epoch {}",
                append.node, append.last, epoch.0, claim.node, claim.epoch.0
            ));
        }
    }
    for (index, records) in log.iter().enumerate() {
        let partition = Partition(index as u16);
        let mut last = 0;
        for record in records {
            let epoch = record.local.epoch;
            if epoch < last {
                return Err(format!(
                    "partition {partition}: epoch {epoch} follows {last} at offset {}",
                    record.local.offset
                ));
            }
            last = epoch;
            let known = granted.keys().any(|(p, e)| *p == partition && e.0 == epoch);
            // A claim whose answer got lost has left its record, and nothing else.
            if !known && record.kind != Kind::Claim {
                return Err(format!(
                    "partition {partition}: nobody was given epoch {epoch} of offset {}",
                    record.local.offset
                ));
            }
        }
    }
    Ok(())
}
