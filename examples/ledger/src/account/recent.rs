//! What an account remembers of what has ended.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{AccountId, HoldId};
use crate::amount::Amount;

/// The latest names with what became of each.
///
/// The runtime recognises repeated commands by their ids; this recognises one that comes again
/// under another id. It need not reach back for ever, and a state that grows with every transfer
/// would be dear.
#[derive(Serialize, Deserialize)]
pub(crate) struct Recent<Name, End>(VecDeque<(Name, End)>);

impl<Name, End> Default for Recent<Name, End> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<Name: PartialEq, End> Recent<Name, End> {
    pub(crate) const LIMIT: usize = 16;

    pub(crate) fn remember(&mut self, name: Name, end: End) {
        if self.0.len() == Self::LIMIT {
            self.0.pop_front();
        }
        self.0.push_back((name, end));
    }

    pub(crate) fn find(&self, name: &Name) -> Option<&End> {
        let mut newest_first = self.0.iter().rev();
        newest_first
            .find(|(remembered, _)| remembered == name)
            .map(|(_, end)| end)
    }
}

/// What a transfer was to an account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Passed {
    /// It left, to an account of the same tag.
    Paid { amount: Amount, to: AccountId },
    /// It left out of a hold.
    Captured {
        hold: HoldId,
        amount: Amount,
        to: AccountId,
    },
    /// It came from another tag.
    Received { amount: Amount, from: AccountId },
    /// It left for another tag, and came there.
    Arrived { amount: Amount, to: AccountId },
    /// It left and came back, or will never leave.
    Returned,
}
