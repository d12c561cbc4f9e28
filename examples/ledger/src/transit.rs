//! In-transit accounts: one per tag, through which money passes on its way to another tag.
//!
//! They are clearing accounts. Each may stand anywhere; together they stand at what is on its way,
//! and at zero when nothing is.

use everfold::prelude::*;

use crate::account::{AccountId, TransferId};
use crate::amount::{Amount, Balance};

/// Identifies the in-transit account of a tag.
#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransitId(String);

impl TransitId {
    /// The one that is kept beside an account.
    pub fn beside(account: &AccountId) -> Self {
        Self(format!("{{{}}}in-transit", account.place()))
    }
}

/// What can happen to an in-transit account.
#[derive(Event, Clone, Debug, PartialEq)]
pub enum TransitEvent {
    /// Money came from a payer of this tag.
    TakenIn {
        /// The transfer.
        transfer: TransferId,
        /// How much.
        amount: Amount,
        /// Whose it was.
        from: AccountId,
    },
    /// Money went to a payee of this tag.
    PaidOut {
        /// The transfer.
        transfer: TransferId,
        /// How much.
        amount: Amount,
        /// Whose it was.
        from: AccountId,
        /// Who has it now.
        to: AccountId,
    },
    /// Money went back to its payer.
    GivenBack {
        /// The transfer.
        transfer: TransferId,
        /// How much.
        amount: Amount,
        /// Who has it again.
        to: AccountId,
    },
}

/// An in-transit account.
#[derive(Entity, Default)]
#[entity(name = "transit", id = TransitId, event = TransitEvent)]
pub struct Transit {
    balance: Balance,
}

impl Transit {
    /// What has come in, less what has gone out; below zero where more is received than sent.
    pub fn balance(&self) -> Balance {
        self.balance
    }
}

impl Evolve for Transit {
    fn evolve(&mut self, event: &TransitEvent) {
        self.balance = match event {
            TransitEvent::TakenIn { amount, .. } => self.balance.plus(*amount),
            TransitEvent::PaidOut { amount, .. } | TransitEvent::GivenBack { amount, .. } => {
                self.balance.minus(*amount)
            }
        };
    }
}
