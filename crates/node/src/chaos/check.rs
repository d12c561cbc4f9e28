//! What must hold of a history, and of the log at its end. Pure.

pub mod ledger;
pub mod register;
pub mod store;

use serde::Serialize;

/// What does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The sort of it.
    pub kind: ViolationKind,
    /// Where: a key, an account, an order.
    pub key: String,
    /// What was seen, for people.
    pub what: String,
}

/// Sorts of violations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViolationKind {
    /// No order of the operations explains what was answered.
    NotLinearizable,
    /// The search for such an order was given up: it is not known whether there is one.
    Undecided,
    /// What was acknowledged is not in the log.
    Lost,
    /// What happened once at most is in the log more than once.
    Twice,
    /// What was refused is in the log all the same.
    Resurrected,
    /// A sum is another one.
    Unbalanced,
    /// Events follow each other as they must not.
    Disorder,
    /// A view shows something else than its events.
    View,
    /// The history cannot be judged.
    Unreadable,
    /// The cluster did not come back when all faults had ended.
    NotWhole,
}

impl Violation {
    /// A violation.
    pub fn new(kind: ViolationKind, key: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            kind,
            key: key.into(),
            what: what.into(),
        }
    }
}
