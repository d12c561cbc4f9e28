//! What an account remembers of what has ended.

use std::collections::VecDeque;

use everfold::Key;
use serde::{Deserialize, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64;

use super::{AccountId, HoldId};
use crate::amount::Amount;

/// The latest names with what became of each.
///
/// The runtime recognises repeated commands by their ids; this recognises one that comes again
/// under another id. It need not reach back for ever, and a state that grows with every transfer
/// would be dear.
#[derive(Deserialize)]
#[serde(
    from = "Vec<(Name, End)>",
    bound = "Name: Key + Deserialize<'de>, End: Deserialize<'de>"
)]
pub(crate) struct Recent<Name, End>(VecDeque<Remembered<Name, End>>);

/// Names lie all over the memory: with a hash of each side by side, hardly more than the one that is
/// asked for is ever looked at.
struct Remembered<Name, End> {
    hash: u64,
    name: Name,
    end: End,
}

fn hash(name: &impl Key) -> u64 {
    xxh3_64(name.as_text().as_bytes())
}

impl<Name: Key, End> From<Vec<(Name, End)>> for Recent<Name, End> {
    fn from(all: Vec<(Name, End)>) -> Self {
        let mut recent = Self::default();
        all.into_iter()
            .for_each(|(name, end)| recent.remember(name, end));
        recent
    }
}

impl<Name: Serialize, End: Serialize> Serialize for Recent<Name, End> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|it| (&it.name, &it.end)))
    }
}

impl<Name, End> Default for Recent<Name, End> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<Name: Key, End> Recent<Name, End> {
    pub(crate) const LIMIT: usize = 16;

    pub(crate) fn remember(&mut self, name: Name, end: End) {
        if self.0.len() == Self::LIMIT {
            self.0.pop_front();
        }
        let hash = hash(&name);
        self.0.push_back(Remembered { hash, name, end });
    }

    pub(crate) fn find(&self, name: &Name) -> Option<&End> {
        self.find_one(name, |_| true)
    }

    /// The latest of this name that is the one.
    pub(crate) fn find_one(&self, name: &Name, is: impl Fn(&End) -> bool) -> Option<&End> {
        let hash = hash(name);
        let mut newest_first = self.0.iter().rev();
        newest_first
            .find(|it| it.hash == hash && it.name == *name && is(&it.end))
            .map(|it| &it.end)
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
    /// It left for another tag, and came there.
    Arrived { amount: Amount, to: AccountId },
    /// It left and came back, or will never leave.
    Returned,
}

/// A transfer that came from another tag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Received {
    pub(crate) amount: Amount,
    pub(crate) from: AccountId,
}
