//! Accounts: a balance, an overdraft limit, and holds on what is available.

use std::collections::BTreeMap;

use everfold::engine::Text;
use everfold::engine::slot::tag;
use everfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::amount::{Amount, Balance};

mod commands;
mod event;
mod expiry;
mod holds;
mod recent;
#[cfg(test)]
mod tests;

pub use commands::{AccountRejection, ChangeOverdraft, Close, Open};
pub use event::AccountEvent;
pub use expiry::expire_holds;
pub use holds::{Expire, HoldEnd, HoldRejection, HoldState, PlaceHold, Release};
use recent::Recent;
pub(crate) use recent::{Passed, Received};

/// Identifies an account, `{branch-7}acct-42` for example.
///
/// The text between the braces is its *tag*: accounts that share one live side by side, so that a
/// transfer between them is one atomic change. An id without braces is a tag of its own.
#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(Text);

impl AccountId {
    /// No longer than this, so that what is kept beside an account can have a name too.
    pub(crate) const MOST_BYTES: usize = 200;

    /// The tag between the braces, if there is one.
    pub fn tag(&self) -> Option<&str> {
        tag(&self.0)
    }

    /// What the account is kept with: its tag, or itself.
    pub(crate) fn place(&self) -> &str {
        self.tag().unwrap_or(&self.0)
    }

    /// Braces name a tag, once, or are absent: anything else would be kept where nobody looks.
    pub(crate) fn is_well_formed(&self) -> bool {
        let braces = self.0.matches(['{', '}']).count();
        let fits = (1..=Self::MOST_BYTES).contains(&self.0.len());
        fits && (braces == 0 || braces == 2 && self.tag().is_some())
    }
}

/// Identifies a transfer: chosen by whoever asks for it, never used for another one.
#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(Text);

/// Identifies a hold within its account.
#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HoldId(String);

/// An account.
#[derive(Entity, Default)]
#[entity(
    name = "account",
    id = AccountId,
    event = AccountEvent,
    commands(
        Open,
        ChangeOverdraft,
        Close,
        PlaceHold,
        Release,
        Expire,
        crate::transfer::Settle
    )
)]
pub struct Account {
    opening: Option<Opening>,
    closed: bool,
    balance: Balance,
    overdraft: Balance,
    holds: BTreeMap<HoldId, Amount>,
    settled_holds: Recent<HoldId, HoldEnd>,
    /// Transfers on their way to another tag. Kept until they have ended, however many pass in
    /// between: whether money has left must be known when it is asked back.
    in_transit: BTreeMap<TransferId, Sent>,
    passed: Recent<TransferId, Passed>,
    /// What came from other tags, apart: there others choose the names, each payer's tag its own.
    received: Recent<TransferId, Received>,
}

/// What an account was opened with, to tell a repeated request from another one.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Opening {
    overdraft: Balance,
}

/// Money on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) amount: Amount,
    pub(crate) to: AccountId,
}

/// Why an account cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotOpen {
    Unknown,
    Closed,
}

impl Account {
    /// What has come in, less what has gone out.
    pub fn balance(&self) -> Balance {
        self.balance
    }

    /// How far below zero it may go.
    pub fn overdraft(&self) -> Balance {
        self.overdraft
    }

    /// What holds set aside.
    pub fn held(&self) -> Balance {
        let held = self.holds.values();
        held.fold(Balance::ZERO, |sum, amount| sum.plus(*amount))
    }

    /// What may leave: balance and overdraft, less what is held.
    pub fn available(&self) -> Balance {
        self.balance.plus(self.overdraft).minus(self.held())
    }

    /// What is on its way to accounts of other tags.
    pub fn in_transit(&self) -> Balance {
        let sent = self.in_transit.values();
        sent.fold(Balance::ZERO, |sum, sent| sum.plus(sent.amount))
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn open(&self) -> Result<(), NotOpen> {
        match (self.opening, self.closed) {
            (None, _) => Err(NotOpen::Unknown),
            (Some(_), true) => Err(NotOpen::Closed),
            (Some(_), false) => Ok(()),
        }
    }

    /// Whether so much more fits, should all that is in transit come back as well.
    pub(crate) fn has_room(&self, amount: Amount) -> bool {
        let most = self.balance.plus(self.in_transit()).plus(amount);
        most <= Balance::ACCOUNT_MAX
    }

    pub(crate) fn hold(&self, hold: &HoldId) -> Option<Amount> {
        self.holds.get(hold).copied()
    }

    pub(crate) fn ended(&self, hold: &HoldId) -> Option<&HoldEnd> {
        self.settled_holds.find(hold)
    }

    pub(crate) fn sent(&self, transfer: &TransferId) -> Option<&Sent> {
        self.in_transit.get(transfer)
    }

    /// What became of a transfer here, if that is not long ago.
    pub(crate) fn passed(&self, transfer: &TransferId) -> Option<&Passed> {
        self.passed.find(transfer)
    }

    /// What came from a tag under a name, if that is not long ago.
    pub(crate) fn received(&self, transfer: &TransferId, from: &AccountId) -> Option<&Received> {
        let same_place = |it: &Received| it.from.place() == from.place();
        self.received.find_one(transfer, same_place)
    }

    fn end_hold(&mut self, hold: HoldId, end: HoldEnd) {
        self.holds.remove(&hold);
        self.settled_holds.remember(hold, end);
    }
}

impl Evolve for Account {
    fn evolve(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Opened { overdraft } => {
                let overdraft = *overdraft;
                self.opening = Some(Opening { overdraft });
                self.overdraft = overdraft;
            }
            AccountEvent::OverdraftChanged { overdraft } => self.overdraft = *overdraft,
            AccountEvent::Debited {
                transfer,
                amount,
                to,
            } => {
                self.balance = self.balance.minus(*amount);
                let (amount, to) = (*amount, to.clone());
                self.passed
                    .remember(transfer.clone(), Passed::Paid { amount, to });
            }
            // The payer remembers the transfer, and is asked whenever it comes again.
            AccountEvent::Credited { amount, .. } => self.balance = self.balance.plus(*amount),
            AccountEvent::Received {
                transfer,
                amount,
                from,
            } => {
                self.balance = self.balance.plus(*amount);
                let (amount, from) = (*amount, from.clone());
                self.received
                    .remember(transfer.clone(), Received { amount, from });
            }
            AccountEvent::Dispatched {
                transfer,
                amount,
                to,
            } => {
                self.balance = self.balance.minus(*amount);
                let (amount, to) = (*amount, to.clone());
                self.in_transit
                    .insert(transfer.clone(), Sent { amount, to });
            }
            AccountEvent::Arrived { transfer } => {
                if let Some(Sent { amount, to }) = self.in_transit.remove(transfer) {
                    self.passed
                        .remember(transfer.clone(), Passed::Arrived { amount, to });
                }
            }
            AccountEvent::Returned { transfer, amount } => {
                self.balance = self.balance.plus(*amount);
                self.in_transit.remove(transfer);
                self.passed.remember(transfer.clone(), Passed::Returned);
            }
            AccountEvent::Forgone { transfer } => {
                self.passed.remember(transfer.clone(), Passed::Returned);
            }
            AccountEvent::HoldPlaced { hold, amount, .. } => {
                self.holds.insert(hold.clone(), *amount);
            }
            AccountEvent::HoldCaptured {
                hold,
                transfer,
                amount,
                to,
                ..
            } => {
                self.balance = self.balance.minus(*amount);
                let by = transfer.clone();
                self.end_hold(hold.clone(), HoldEnd::Captured { by });
                let passed = Passed::Captured {
                    hold: hold.clone(),
                    amount: *amount,
                    to: to.clone(),
                };
                self.passed.remember(transfer.clone(), passed);
            }
            AccountEvent::HoldReleased { hold, .. } => {
                self.end_hold(hold.clone(), HoldEnd::Released);
            }
            AccountEvent::HoldExpired { hold, .. } => {
                self.end_hold(hold.clone(), HoldEnd::Expired);
            }
            AccountEvent::Closed => self.closed = true,
        }
    }
}
