//! Customers: each has a credit limit, part of which is reserved for orders.

use std::collections::{BTreeMap, VecDeque};

use everfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::money::Money;
use crate::order::OrderId;

mod commands;
#[cfg(test)]
mod tests;

pub use commands::{
    ChangeCreditLimit, Close, Credit, CustomerRejection, NoCredit, Open, Release, ReleaseCredit,
    ReserveCredit,
};

/// Identifies a customer.
#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CustomerId(String);

/// What can happen to a customer.
#[derive(Event, Clone, Debug, PartialEq)]
pub enum CustomerEvent {
    /// The customer exists from now on.
    Opened {
        /// The customer's name.
        #[personal]
        name: String,
        /// How much may be reserved at once.
        credit_limit: Money,
    },
    /// Another limit holds from now on.
    CreditLimitChanged {
        /// How much may be reserved at once.
        credit_limit: Money,
    },
    /// Part of the limit is set aside for an order.
    CreditReserved {
        /// The order.
        order: OrderId,
        /// How much.
        total: Money,
    },
    /// An order would have exceeded the limit.
    CreditRefused {
        /// The order.
        order: OrderId,
        /// How much was asked for.
        total: Money,
    },
    /// What was set aside for an order is free again.
    CreditReleased {
        /// The order.
        order: OrderId,
        /// How much.
        total: Money,
    },
    /// The customer is gone; the id is not used again.
    Closed,
}

/// A customer and the reservations on its credit.
#[derive(Entity, Default)]
#[entity(
    name = "customer",
    id = CustomerId,
    event = CustomerEvent,
    commands(Open, ChangeCreditLimit, ReserveCredit, ReleaseCredit, Close)
)]
pub struct Customer {
    opening: Option<Opening>,
    closed: bool,
    credit_limit: Money,
    reserved: BTreeMap<OrderId, Money>,
    settled: Settled,
}

/// What a customer was opened with, to tell a repeated request from another one.
#[derive(PartialEq, Serialize, Deserialize)]
struct Opening {
    name: String,
    credit_limit: Money,
}

impl Customer {
    /// The credit that is left. Below zero after the limit was lowered under what is reserved.
    pub fn available(&self) -> Money {
        let reserved = self.reserved.values().copied();
        reserved.fold(self.credit_limit, Money::saturating_sub)
    }

    /// Whether the limit holds with this reservation as well. A sum too large to be an amount
    /// exceeds every limit.
    fn can_reserve(&self, total: Money) -> bool {
        let reserved = self.reserved.values().copied();
        Money::sum(reserved.chain([total])).is_some_and(|sum| sum <= self.credit_limit)
    }

    /// What was answered for this order before.
    fn answer_for(&self, order: &OrderId) -> Option<Credit> {
        if self.reserved.contains_key(order) {
            Some(Credit::Reserved)
        } else {
            self.settled.answer_for(order)
        }
    }

    /// An open customer, or why it is none.
    fn open(&self) -> Result<(), CustomerRejection> {
        match (&self.opening, self.closed) {
            (None, _) => Err(CustomerRejection::UnknownCustomer),
            (Some(_), true) => Err(CustomerRejection::Closed),
            (Some(_), false) => Ok(()),
        }
    }
}

impl Evolve for Customer {
    fn evolve(&mut self, event: &CustomerEvent) {
        match event.clone() {
            CustomerEvent::Opened { name, credit_limit } => {
                self.credit_limit = credit_limit;
                self.opening = Some(Opening { name, credit_limit });
            }
            CustomerEvent::CreditLimitChanged { credit_limit } => self.credit_limit = credit_limit,
            CustomerEvent::CreditReserved { order, total } => {
                self.reserved.insert(order, total);
            }
            CustomerEvent::CreditRefused { order, .. } => {
                self.settled.remember(order, Credit::Refused);
            }
            CustomerEvent::CreditReleased { order, .. } => {
                self.reserved.remove(&order);
                self.settled.remember(order, Credit::Released);
            }
            CustomerEvent::Closed => self.closed = true,
        }
    }
}

/// The latest orders that need no credit any more, with what was answered for them.
///
/// A request that is delivered late must not reserve for them anew. The runtime recognises repeated
/// commands by itself, so this is a second line: it need not reach back for ever, and a state that
/// grows with every order would be dear. Should a request be later still, the order itself refuses
/// the approval, and the credit comes back.
#[derive(Default, Serialize, Deserialize)]
struct Settled(VecDeque<(OrderId, Credit)>);

impl Settled {
    const LIMIT: usize = 100;

    fn remember(&mut self, order: OrderId, answer: Credit) {
        if self.0.len() == Self::LIMIT {
            self.0.pop_front();
        }
        self.0.push_back((order, answer));
    }

    fn answer_for(&self, order: &OrderId) -> Option<Credit> {
        self.0
            .iter()
            .rev()
            .find(|(settled, _)| settled == order)
            .map(|(_, answer)| *answer)
    }
}
