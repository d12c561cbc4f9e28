//! What an audit may find.

use everfold::engine::engine::ReadError;

use crate::amount::Balance;

/// A broken promise, and where in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A stored event that is none of the ledger's, or not as it writes them.
    #[error("{place}: it cannot be read: {reason}")]
    Unreadable {
        /// The record.
        place: String,
        /// Why.
        reason: String,
    },
    /// A unit without its beginning or end.
    #[error("{place}: part of a unit is missing; read whole units, from the beginning")]
    CutUnit {
        /// The record.
        place: String,
    },
    /// History is gone, so it cannot be checked.
    #[error("{place}: the history before it was trimmed; audit a backup that still has it")]
    Trimmed {
        /// The record.
        place: String,
    },
    /// A unit that makes or loses money.
    #[error("{place}: the unit debits {debits} and credits {credits}")]
    Unbalanced {
        /// The unit's last record.
        place: String,
        /// What it debits.
        debits: Balance,
        /// What it credits.
        credits: Balance,
    },
    /// An account beyond its overdraft limit, or with more held than there is.
    #[error("{place}: after it {account} is past its limit: {available} available")]
    PastLimit {
        /// The unit's last record.
        place: String,
        /// The account.
        account: String,
        /// Below zero.
        available: Balance,
    },
    /// An account that is used without being open, or opened a second time.
    #[error("{place}: {account} is not open, or was opened before")]
    NotOpen {
        /// The record.
        place: String,
        /// The account.
        account: String,
    },
    /// A hold that ends without being in place, or that was placed twice.
    #[error("{place}: hold {hold} is not as the event says")]
    Hold {
        /// The record.
        place: String,
        /// The hold.
        hold: String,
    },
    /// A payer's transfer that left, came or came back twice, or came as another one than had left.
    /// So is one whose id the payer has used again long after.
    #[error("{place}: transfer {transfer} moves money twice, or other money than before")]
    Twice {
        /// The record.
        place: String,
        /// The transfer.
        transfer: String,
    },
    /// A transfer that came without having left, or both came and came back.
    #[error("transfer {transfer} came without having left, or came and came back too")]
    Unfounded {
        /// The transfer.
        transfer: String,
    },
}

/// An audit without a good end.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A broken promise.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}
