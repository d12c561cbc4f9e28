//! Customers whose credit runs low.

use everfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::customer::{CustomerEvent, CustomerId};
use crate::money::Money;

/// The credit of each customer, in rows small enough to go through all of them.
pub fn low_credit() -> View<CustomerId, LowCreditRow> {
    View::named("low-credit").version(1).on(
        |_: &CustomerEvent, at| at.entity_id::<CustomerId>(),
        LowCreditRow::customer,
    )
}

/// A customer's credit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LowCreditRow {
    /// How much may be reserved at once.
    pub credit_limit: Money,
    /// How much of it is left. Below zero after the limit was lowered under what is reserved.
    pub available: Money,
    /// Whether the customer was closed.
    pub closed: bool,
    /// The customer's version that this row shows.
    pub version: u64,
}

impl LowCreditRow {
    /// Whether an open customer has less than this left.
    pub fn is_below(&self, amount: Money) -> bool {
        !self.closed && self.available < amount
    }

    fn customer(&mut self, event: &CustomerEvent, at: &At) {
        if at.version() <= self.version {
            return;
        }
        self.version = at.version();
        match event {
            CustomerEvent::Opened { credit_limit, .. }
            | CustomerEvent::CreditLimitChanged { credit_limit } => {
                let reserved = self.credit_limit.saturating_sub(self.available);
                self.credit_limit = *credit_limit;
                self.available = credit_limit.saturating_sub(reserved);
            }
            CustomerEvent::CreditReserved { total, .. } => {
                self.available = self.available.saturating_sub(*total);
            }
            CustomerEvent::CreditReleased { total, .. } => {
                self.available = self.available.saturating_add(*total);
            }
            CustomerEvent::CreditRefused { .. } => {}
            CustomerEvent::Closed => self.closed = true,
        }
    }
}
