//! What is asked of the ledger: drawn from a seed, the same in every run.

use everfold::engine::{Timestamp, Uuid, uuid7};
use everfold_ledger::account::AccountId;
use everfold_ledger::amount::{Amount, Balance};
use everfold_ledger::transfer::Transfer;

use super::Settings;

/// About so many accounts share a branch.
const BRANCH: u64 = 10;
/// There are at most so many branches.
const MOST_BRANCHES: u64 = 4096;
/// Every so many accounts, one is closed before the first transfer.
const CLOSED_EVERY: u64 = 50;
/// In a thousand transfers, so many name an account that does not exist, as payer and as payee.
const UNKNOWN_PAYERS: u64 = 5;
const UNKNOWN_PAYEES: u64 = 10;
/// And so many ask for more than any account could pay.
const TOO_LARGE: u64 = 20;
/// Amounts are at most this otherwise.
const MOST: u64 = 5_000;
/// Overdraft limits lie between these.
const LIMITS: std::ops::Range<u64> = 20_000..100_000;

/// Accounts and transfers.
#[derive(Clone, Debug)]
pub struct Plan {
    settings: Settings,
    branches: u64,
}

/// What a command is about; with its number it is one of the plan.
#[derive(Clone, Copy)]
pub enum Purpose {
    /// An account is opened.
    Open,
    /// It is closed again.
    Close,
}

impl Plan {
    /// The plan of a directory.
    pub fn new(settings: &Settings) -> Self {
        let settings = settings.clone();
        let branches = (settings.accounts / BRANCH).clamp(1, MOST_BRANCHES);
        Self { settings, branches }
    }

    /// How many accounts there are.
    pub fn accounts(&self) -> u64 {
        self.settings.accounts
    }

    /// How many transfers there are.
    pub fn transfers(&self) -> u64 {
        self.settings.transfers
    }

    /// The account of a number, and its overdraft limit.
    pub fn account(&self, number: u64) -> (AccountId, Balance) {
        let width = LIMITS.end - LIMITS.start;
        let limit = LIMITS.start + self.draw("limit", number, 0) % width;
        (self.id(number), Balance::new(limit.into()))
    }

    /// Whether an account is closed before the first transfer.
    pub fn is_closed(&self, number: u64) -> bool {
        number % CLOSED_EVERY == CLOSED_EVERY - 1
    }

    /// When the directory was begun: no transfer was meant before.
    pub fn created(&self) -> Timestamp {
        Timestamp(self.settings.created.saturating_mul(1000))
    }

    /// The transfer of a number.
    pub fn transfer(&self, number: u64) -> Transfer {
        let draw = |index| self.draw("transfer", number, index);
        let branch = draw(0) % self.branches;
        let payer = draw(1) % self.members(branch);
        let (payee_branch, payee) = if self.branches > 1 && draw(5) % 100 < self.settings.cross {
            let other = (branch + 1 + draw(6) % (self.branches - 1)) % self.branches;
            (other, draw(2) % self.members(other))
        } else {
            // Another one of the same branch.
            let members = self.members(branch);
            (
                branch,
                (payer + 1 + draw(2) % (members - 1).max(1)) % members,
            )
        };
        let mut from = self.id(branch + payer * self.branches);
        let mut to = self.id(payee_branch + payee * self.branches);
        let mut minor = 1 + draw(3) % MOST;
        let nobody = |branch| AccountId::from(format!("{{branch-{branch}}}nobody-{number}"));
        let kind = draw(4) % 1000;
        if kind < UNKNOWN_PAYERS {
            from = nobody(branch);
        } else if kind < UNKNOWN_PAYERS + UNKNOWN_PAYEES {
            to = nobody(payee_branch);
        } else if kind < UNKNOWN_PAYERS + UNKNOWN_PAYEES + TOO_LARGE {
            minor *= 1 << 32;
        }
        Transfer {
            transfer: format!("t-{number}").into(),
            from,
            to,
            // At least one, and far below the largest.
            amount: Amount::new(minor.into()).unwrap_or(Amount::MAX),
        }
    }

    /// The id of a command: the same whenever it is asked for again, another one in a directory
    /// that was begun at another time.
    pub fn command(&self, purpose: Purpose, number: u64) -> Uuid {
        let name = match purpose {
            Purpose::Open => "id of open",
            Purpose::Close => "id of close",
        };
        uuid7(
            self.created(),
            self.draw(name, number, 0),
            self.draw(name, number, 1),
        )
    }

    /// How many accounts a branch has.
    fn members(&self, branch: u64) -> u64 {
        (self.settings.accounts - branch).div_ceil(self.branches)
    }

    fn id(&self, number: u64) -> AccountId {
        format!("{{branch-{}}}acct-{number}", number % self.branches).into()
    }

    /// A number that looks like any other, the same for the same arguments and settings.
    fn draw(&self, purpose: &str, number: u64, index: u64) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for part in [self.settings.seed, number, index] {
            hasher.update(&part.to_le_bytes());
        }
        hasher.update(purpose.as_bytes());
        let mut drawn = [0; 8];
        hasher.finalize_xof().fill(&mut drawn);
        u64::from_le_bytes(drawn)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use everfold_ledger::transfer::Way;

    use super::*;

    fn plan(accounts: u64, seed: u64) -> Plan {
        crossing(accounts, seed, 0)
    }

    fn crossing(accounts: u64, seed: u64, cross: u64) -> Plan {
        Plan::new(&Settings {
            accounts,
            transfers: 2000,
            cross,
            seed,
            created: 1_700_000_000_000,
        })
    }

    #[test]
    fn transfers_stay_within_a_branch_and_between_two_accounts() {
        for accounts in [2, 3, 19, 20, 25, 1000] {
            let plan = plan(accounts, 7);
            let known: BTreeSet<AccountId> = (0..accounts).map(|n| plan.account(n).0).collect();
            let mut unknown = 0;
            for number in 0..2000 {
                let transfer = plan.transfer(number);
                let (from, to) = (&transfer.from, &transfer.to);
                assert_eq!(Way::between(from, to), Way::Together, "{transfer:?}");
                assert_ne!(from, to);
                unknown += u64::from(!known.contains(from)) + u64::from(!known.contains(to));
            }
            assert!((1..200).contains(&unknown), "{unknown} of 2000");
        }
    }

    #[test]
    fn as_many_transfers_leave_their_branch_as_are_to() {
        for (accounts, cross, expected) in [
            (1000, 0, 0..=0),
            (1000, 10, 140..=260),
            (1000, 100, 2000..=2000),
            (20, 100, 2000..=2000),
            // One branch: there is no other.
            (19, 100, 0..=0),
        ] {
            let plan = crossing(accounts, 7, cross);
            let transfers = (0..2000).map(|number| plan.transfer(number));
            let crossing = transfers
                .inspect(|transfer| assert_ne!(transfer.from, transfer.to))
                .filter(|it| Way::between(&it.from, &it.to) == Way::InTransit);
            let count = crossing.count();
            assert!(expected.contains(&count), "{accounts} {cross}: {count}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_plan_and_another_one_another() {
        let (one, other) = (plan(100, 1), plan(100, 2));
        assert_eq!(one.transfer(5), plan(100, 1).transfer(5));
        let differ = (0..100).filter(|n| one.transfer(*n) != other.transfer(*n));
        assert!(differ.count() > 90);
    }

    #[test]
    fn every_command_has_an_id_of_its_own() {
        let plan = plan(100, 1);
        let purposes = [Purpose::Open, Purpose::Close];
        let ids = purposes.iter().flat_map(|purpose| {
            (0..1000)
                .map(|number| plan.command(*purpose, number))
                .collect::<Vec<_>>()
        });
        assert_eq!(ids.collect::<BTreeSet<_>>().len(), 2000);
    }
}
