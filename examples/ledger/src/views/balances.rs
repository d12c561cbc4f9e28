//! Where each account stands.

use everfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::account::{AccountEvent, AccountId};
use crate::amount::Balance;

/// One row per account.
pub fn balances() -> View<AccountId, BalanceRow> {
    View::named("balances").version(1).on(
        |_: &AccountEvent, at| at.entity_id::<AccountId>(),
        BalanceRow::fold,
    )
}

/// Where an account stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalanceRow {
    /// What has come in, less what has gone out.
    pub balance: Balance,
    /// What holds set aside.
    pub held: Balance,
    /// How far below zero it may go.
    pub overdraft: Balance,
    /// Whether it was opened: until then it is none.
    pub opened: bool,
    /// Whether it was closed.
    pub closed: bool,
    /// How often money has come, what came back included.
    pub credits: u64,
    /// How often money has left.
    pub debits: u64,
    /// Holds in place.
    pub holds: u64,
    /// The account's version that this row shows.
    pub version: u64,
}

impl BalanceRow {
    /// What may leave.
    pub fn available(&self) -> Balance {
        self.balance.plus(self.overdraft).minus(self.held)
    }

    fn fold(&mut self, event: &AccountEvent, at: &At) {
        // A late duplicate.
        if at.version() <= self.version {
            return;
        }
        self.version = at.version();
        match event {
            AccountEvent::Opened { overdraft } => {
                self.opened = true;
                self.overdraft = *overdraft;
            }
            AccountEvent::OverdraftChanged { overdraft } => self.overdraft = *overdraft,
            AccountEvent::Debited { amount, .. } | AccountEvent::Dispatched { amount, .. } => {
                self.balance = self.balance.minus(*amount);
                self.debits += 1;
            }
            AccountEvent::Credited { amount, .. }
            | AccountEvent::Received { amount, .. }
            | AccountEvent::Returned { amount, .. } => {
                self.balance = self.balance.plus(*amount);
                self.credits += 1;
            }
            AccountEvent::Arrived { .. } | AccountEvent::Forgone { .. } => {}
            AccountEvent::HoldPlaced { amount, .. } => {
                self.held = self.held.plus(*amount);
                self.holds += 1;
            }
            AccountEvent::HoldCaptured { held, amount, .. } => {
                self.balance = self.balance.minus(*amount);
                self.debits += 1;
                self.held = self.held.minus(*held);
                self.holds = self.holds.saturating_sub(1);
            }
            AccountEvent::HoldReleased { held, .. } | AccountEvent::HoldExpired { held, .. } => {
                self.held = self.held.minus(*held);
                self.holds = self.holds.saturating_sub(1);
            }
            AccountEvent::Closed => self.closed = true,
        }
    }
}
