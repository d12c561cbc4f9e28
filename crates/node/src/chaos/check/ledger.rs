//! A ledger's promises, seen from outside: what was acknowledged is in the log once, what was refused
//! is not, and whoever reads all accounts of a branch sees them as they were at one moment, no
//! earlier than what was acknowledged before.
//!
//! Accounts of a branch lie in one partition, so the log has an order of their transfers. A read has
//! to fit into it between what had ended before it began and what began after it had ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Violation, ViolationKind};
use crate::chaos::history::{Operation, Outcome};

/// A transfer, as it is asked for and as the log has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Its id; never used for another one.
    pub transfer: String,
    /// Who pays.
    pub from: String,
    /// Who is paid.
    pub to: String,
    /// How much.
    pub amount: i64,
}

/// What the accounts of a branch stand at.
pub type Balances = BTreeMap<String, i64>;

/// What the log says at the end.
#[derive(Clone, Debug, Default)]
pub struct Logged {
    /// Transfers by branch, in the order of the log.
    pub moved: BTreeMap<String, Vec<Moved>>,
    /// What an audit of all records found, if it found a fault.
    pub fault: Option<String>,
}

/// Operations of the history: `transfer` with a [`Moved`], `balance` with [`Balances`]; their keys
/// are branches.
pub fn check(operations: &[Operation], logged: &Logged) -> Vec<Violation> {
    let mut found = Vec::new();
    if let Some(fault) = &logged.fault {
        found.push(Violation::new(ViolationKind::Unbalanced, "log", fault));
    }
    let mut by_branch: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        by_branch.entry(&operation.key).or_default().push(operation);
    }
    for branch in logged.moved.keys() {
        by_branch.entry(branch).or_default();
    }
    for (branch, operations) in by_branch {
        let moved = logged.moved.get(branch).map_or(&[][..], Vec::as_slice);
        Branch::new(branch, moved, &mut found).check(&operations);
    }
    found
}

struct Branch<'a> {
    name: &'a str,
    moved: &'a [Moved],
    /// Where each transfer stands in the log.
    places: BTreeMap<&'a str, usize>,
    /// What the accounts stand at after so many transfers.
    prefixes: Vec<Balances>,
    found: &'a mut Vec<Violation>,
}

impl<'a> Branch<'a> {
    fn new(name: &'a str, moved: &'a [Moved], found: &'a mut Vec<Violation>) -> Self {
        let mut places = BTreeMap::new();
        let mut prefixes = vec![Balances::new()];
        let mut balances = Balances::new();
        for (place, it) in moved.iter().enumerate() {
            if places.insert(&*it.transfer, place).is_some() {
                let what = "a transfer has moved money twice";
                found.push(Violation::new(ViolationKind::Twice, &it.transfer, what));
            }
            *balances.entry(it.from.clone()).or_default() -= it.amount;
            *balances.entry(it.to.clone()).or_default() += it.amount;
            prefixes.push(balances.clone());
        }
        Self {
            name,
            moved,
            places,
            prefixes,
            found,
        }
    }

    fn say(&mut self, kind: ViolationKind, key: &str, what: String) {
        self.found.push(Violation::new(kind, key, what));
    }

    fn check(&mut self, operations: &[&Operation]) {
        let mut asked = BTreeMap::new();
        // Beginnings and ends of what has a place: what began when, and what had ended by when.
        let (mut began, mut ended) = (Vec::new(), Vec::new());
        for operation in operations.iter().filter(|it| it.f == "transfer") {
            let meant: Moved = match serde_json::from_value(operation.asked.clone()) {
                Ok(meant) => meant,
                Err(error) => {
                    let what = format!("{}: {error}", operation.shown());
                    self.say(ViolationKind::Unreadable, self.name, what);
                    continue;
                }
            };
            let place = self.places.get(&*meant.transfer).copied();
            self.transfer(operation, &meant, place);
            if let Some(place) = place {
                began.push((operation.begun, place));
                let acknowledged = matches!(operation.outcome, Outcome::Done(_));
                if let Some(end) = operation.ended.filter(|_| acknowledged) {
                    ended.push((end, place + 1));
                }
            }
            asked.insert(meant.transfer.clone(), ());
        }
        for it in self.moved {
            if !asked.contains_key(&it.transfer) {
                let what = format!("nobody has asked for {it:?}");
                self.say(ViolationKind::Disorder, &it.transfer, what);
            }
        }
        self.reads(operations, began, ended);
    }

    fn transfer(&mut self, operation: &Operation, meant: &Moved, place: Option<usize>) {
        let key = &*meant.transfer;
        match (&operation.outcome, place) {
            (Outcome::Done(_), None) => {
                let what = format!("acknowledged and not in the log: {}", operation.shown());
                self.say(ViolationKind::Lost, key, what);
            }
            (Outcome::Refused, Some(_)) => {
                let what = format!("refused and in the log: {}", operation.shown());
                self.say(ViolationKind::Resurrected, key, what);
            }
            _ => {}
        }
        if let Some(place) = place
            && self.moved[place] != *meant
        {
            let what = format!("{:?} is in the log for {meant:?}", self.moved[place]);
            self.say(ViolationKind::Disorder, key, what);
        }
    }

    /// Each read takes the first place that it fits into, so that later ones have all the room there is.
    fn reads(
        &mut self,
        operations: &[&Operation],
        mut began: Vec<(usize, usize)>,
        mut ended: Vec<(usize, usize)>,
    ) {
        // From a moment on, the least place of what begins then or later.
        began.sort_unstable();
        let mut least = usize::MAX;
        for (_, place) in began.iter_mut().rev() {
            least = least.min(*place);
            *place = least;
        }
        ended.sort_unstable();
        let mut floor_of_ended = Vec::new();
        let mut most = 0;
        for (moment, place) in ended {
            most = most.max(place);
            floor_of_ended.push((moment, most));
        }
        let mut reads: Vec<(usize, usize)> = Vec::new();
        for operation in operations.iter().filter(|it| it.f == "balance") {
            let (Outcome::Done(value), Some(end)) = (&operation.outcome, operation.ended) else {
                continue;
            };
            let Some(seen) = balances(value) else {
                let what = operation.shown();
                self.say(ViolationKind::Unreadable, self.name, what);
                continue;
            };
            let sum: i64 = seen.values().sum();
            if sum != 0 {
                let what = format!("the sum is {sum}: {}", operation.shown());
                self.say(ViolationKind::Unbalanced, self.name, what);
                continue;
            }
            let before = floor_of_ended.partition_point(|(moment, _)| *moment < operation.begun);
            let mut floor = before.checked_sub(1).map_or(0, |at| floor_of_ended[at].1);
            let earlier = reads.iter().filter(|(end, _)| *end < operation.begun);
            floor = earlier.fold(floor, |floor, (_, place)| floor.max(*place));
            let after = began.partition_point(|(moment, _)| *moment < end);
            let ceiling = began
                .get(after)
                .map_or(self.moved.len(), |(_, place)| *place);
            let fits = |at: &usize| agrees(&self.prefixes[*at], &seen);
            match (floor..=ceiling.min(self.moved.len())).find(fits) {
                Some(place) => reads.push((end, place)),
                None => {
                    let what = format!(
                        "fits nowhere between transfers {floor} and {ceiling} of the branch: {}",
                        operation.shown()
                    );
                    self.say(ViolationKind::NotLinearizable, self.name, what);
                }
            }
        }
    }
}

fn balances(value: &Value) -> Option<Balances> {
    serde_json::from_value(value.clone()).ok()
}

/// Accounts that nothing has moved stand at zero.
fn agrees(prefix: &Balances, seen: &Balances) -> bool {
    let at = |account: &str| prefix.get(account).copied().unwrap_or(0);
    seen.iter()
        .all(|(account, balance)| at(account) == *balance)
        && prefix.keys().all(|account| seen.contains_key(account))
}

#[cfg(test)]
mod tests;
