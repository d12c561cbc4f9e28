//! No answer from a node that another one had replaced.

use super::owners::Epochs;
use crate::history::{Operation, Strength, What};
use crate::ledger::Notes;

/// Whoever answers a linearizable read had its ownership proven by the store after the read was
/// asked, and the store proves nothing to whom it has replaced.
///
/// # Errors
/// The first proof that was none, the first answer without one.
pub fn check(operations: &[Operation], notes: &Notes) -> Result<(), String> {
    let epochs = Epochs::of(notes);
    for proof in &notes.proofs {
        let (node, partition, epoch) = (proof.node, proof.partition, proof.epoch);
        if let Some(claim) = epochs.replaced(partition, epoch, proof.asked) {
            return Err(format!(
                "node {node} was told that it owns partition {partition} under epoch {}, though \
                 node {} had epoch {} by then",
                epoch.0, claim.node, claim.epoch.0
            ));
        }
    }
    for operation in operations {
        let What::Read {
            strength: Strength::Linearizable,
            ..
        } = &operation.what
        else {
            continue;
        };
        let Some(answered) = operation.answered else {
            continue;
        };
        let proven = notes.proofs.iter().any(|proof| {
            proof.partition == operation.partition
                && operation.asked < proof.asked
                && proof.given < answered
        });
        if !proven {
            return Err(format!(
                "{operation:?}, though the store proved to nobody meanwhile that it owns the partition"
            ));
        }
    }
    Ok(())
}
