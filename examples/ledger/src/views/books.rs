//! The books over all accounts: what was debited, what was credited, what is on its way.

use everfold::engine::Text;
use everfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::account::AccountEvent;
use crate::amount::Balance;
use crate::transit::TransitEvent;

/// The key of the one row there is.
pub fn the_books() -> Text {
    Text::from_static("all")
}

/// One row over all accounts. Debits equal credits whenever somebody looks: a view shows whole units
/// only, and each unit balances by itself.
pub fn books() -> View<Text, BooksRow> {
    View::named("books")
        .version(2)
        .on(|_: &AccountEvent, _| the_books(), BooksRow::account)
        .on(|_: &TransitEvent, _| the_books(), BooksRow::transit)
}

/// Sums over all accounts, in-transit accounts included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BooksRow {
    /// All that was ever debited.
    pub debits: Balance,
    /// All that was ever credited.
    pub credits: Balance,
    /// What the in-transit accounts stand at together: what has left payers and is not with payees
    /// yet. Below zero only in a view that has read of an arrival before it read of the departure.
    pub in_transit: Balance,
    /// Transfers that have come to their payee.
    pub transfers: u64,
    /// Those of them that went from one tag to another.
    pub between_tags: u64,
    /// Accounts that were opened.
    pub accounts: u64,
    /// Those of them that were closed.
    pub closed: u64,
}

impl BooksRow {
    /// Whether debits equal credits.
    pub fn balance(&self) -> bool {
        self.debits == self.credits
    }

    fn account(&mut self, event: &AccountEvent, _: &At) {
        match event {
            AccountEvent::Opened { .. } => self.accounts += 1,
            AccountEvent::Closed => self.closed += 1,
            AccountEvent::Debited { amount, .. }
            | AccountEvent::Dispatched { amount, .. }
            | AccountEvent::HoldCaptured { amount, .. } => {
                self.debits = self.debits.plus(*amount);
            }
            AccountEvent::Credited { amount, .. } | AccountEvent::Received { amount, .. } => {
                self.credits = self.credits.plus(*amount);
                self.transfers += 1;
                let between_tags = matches!(event, AccountEvent::Received { .. });
                self.between_tags += u64::from(between_tags);
            }
            AccountEvent::Returned { amount, .. } => {
                self.credits = self.credits.plus(*amount);
            }
            AccountEvent::OverdraftChanged { .. }
            | AccountEvent::Arrived { .. }
            | AccountEvent::Forgone { .. }
            | AccountEvent::HoldPlaced { .. }
            | AccountEvent::HoldReleased { .. }
            | AccountEvent::HoldExpired { .. } => {}
        }
    }

    fn transit(&mut self, event: &TransitEvent, _: &At) {
        match event {
            TransitEvent::TakenIn { amount, .. } => {
                self.credits = self.credits.plus(*amount);
                self.in_transit = self.in_transit.plus(*amount);
            }
            TransitEvent::PaidOut { amount, .. } | TransitEvent::GivenBack { amount, .. } => {
                self.debits = self.debits.plus(*amount);
                self.in_transit = self.in_transit.minus(*amount);
            }
        }
    }
}
