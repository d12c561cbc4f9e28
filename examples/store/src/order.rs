//! Orders: placed by customers, approved when there is credit, then shipped and paid.
//!
//! ```text
//!            Reject                       Ship
//! PENDING ----------> REJECTED   APPROVED ----> SHIPPED     paid once, as APPROVED or SHIPPED
//!    |  \____Approve____________^   |
//!    | Cancel                       | Cancel, unless paid
//!    v         Approve or Reject    v
//! CANCEL_PENDING -------------> CANCELLED
//! ```

use std::fmt;

use everfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::customer::CustomerId;
use crate::money::Money;

mod commands;
#[cfg(test)]
mod tests;

pub use commands::{Approve, Cancel, OrderRejection, Pay, Place, Reject, Ship};

/// Identifies an order.
#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderId(String);

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What is ordered.
    pub name: String,
    /// How many of it.
    pub quantity: u32,
    /// What the line costs, all of them together; a discount is below zero.
    pub amount: Money,
}

/// How an order is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PaymentMethod {
    /// By card.
    Card,
    /// By transfer to an account.
    Transfer,
    /// In cash, at the door.
    Cash,
}

/// Where an order stands. Whether it is paid is another matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrderState {
    /// Placed; the customer's credit has not been asked for, or has not answered.
    #[default]
    Pending,
    /// To be cancelled as soon as the customer's credit has answered.
    CancelPending,
    /// Credit is reserved for it.
    Approved,
    /// On its way to the customer.
    Shipped,
    /// There was no credit for it.
    Rejected,
    /// Called off.
    Cancelled,
}

impl fmt::Display for OrderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "PENDING",
            Self::CancelPending => "CANCEL_PENDING",
            Self::Approved => "APPROVED",
            Self::Shipped => "SHIPPED",
            Self::Rejected => "REJECTED",
            Self::Cancelled => "CANCELLED",
        })
    }
}

/// Why an order was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    /// It would have exceeded the customer's credit limit.
    InsufficientCredit,
    /// There is no such customer.
    UnknownCustomer,
    /// The customer was closed.
    CustomerClosed,
    /// Its total is below zero.
    NegativeTotal,
    /// Nobody has decided on its credit in time.
    TimedOut,
}

/// What can happen to an order. Every event names the customer, for views by customer.
#[derive(Event, Clone, Debug, PartialEq)]
pub enum OrderEvent {
    /// A customer wants these things.
    Placed {
        /// Who.
        #[label]
        customer: CustomerId,
        /// What; may be left open.
        items: Vec<Item>,
        /// For how much.
        total: Money,
        /// To which address.
        #[personal]
        delivery: String,
    },
    /// Credit is reserved for it.
    Approved {
        /// Whose credit.
        customer: CustomerId,
        /// How much.
        total: Money,
    },
    /// There is no credit for it.
    Rejected {
        /// Whose order.
        customer: CustomerId,
        /// Why.
        reason: Reason,
    },
    /// It will be cancelled once the customer's credit has answered.
    CancelRequested {
        /// Whose order.
        customer: CustomerId,
    },
    /// It was called off.
    Cancelled {
        /// Whose order.
        customer: CustomerId,
        /// Whether credit is reserved for it, which is to be released.
        reserved: bool,
    },
    /// It is on its way.
    Shipped {
        /// To whom.
        customer: CustomerId,
        /// Worth how much.
        total: Money,
    },
    /// The money is here: the credit reserved for it is to be released.
    Paid {
        /// By whom.
        customer: CustomerId,
        /// How much.
        total: Money,
        /// In which way.
        method: PaymentMethod,
    },
}

impl OrderEvent {
    /// Whose order it is about.
    pub fn customer(&self) -> &CustomerId {
        match self {
            Self::Placed { customer, .. }
            | Self::Approved { customer, .. }
            | Self::Rejected { customer, .. }
            | Self::CancelRequested { customer }
            | Self::Cancelled { customer, .. }
            | Self::Shipped { customer, .. }
            | Self::Paid { customer, .. } => customer,
        }
    }
}

/// An order.
#[derive(Entity, Default)]
#[entity(
    name = "order",
    id = OrderId,
    event = OrderEvent,
    commands(Place, Approve, Reject, Ship, Pay, Cancel)
)]
pub struct Order {
    placed: Option<Place>,
    state: OrderState,
    reason: Option<Reason>,
    payment: Option<PaymentMethod>,
}

impl Order {
    /// What was asked for; none if the order was never placed.
    pub fn placed(&self) -> Option<&Place> {
        self.placed.as_ref()
    }

    /// Where the order stands, once it is placed.
    pub fn state(&self) -> OrderState {
        self.state
    }

    /// Why it was rejected, if it was.
    pub fn reason(&self) -> Option<Reason> {
        self.reason
    }

    /// How it was paid, if it was.
    pub fn payment(&self) -> Option<PaymentMethod> {
        self.payment
    }
}

impl Evolve for Order {
    fn evolve(&mut self, event: &OrderEvent) {
        match event.clone() {
            OrderEvent::Placed {
                customer,
                items,
                total,
                delivery,
            } => {
                self.placed = Some(Place {
                    customer,
                    items,
                    total,
                    delivery,
                });
            }
            OrderEvent::Approved { .. } => self.state = OrderState::Approved,
            OrderEvent::Rejected { reason, .. } => {
                self.state = OrderState::Rejected;
                self.reason = Some(reason);
            }
            OrderEvent::CancelRequested { .. } => self.state = OrderState::CancelPending,
            OrderEvent::Cancelled { .. } => self.state = OrderState::Cancelled,
            OrderEvent::Shipped { .. } => self.state = OrderState::Shipped,
            OrderEvent::Paid { method, .. } => self.payment = Some(method),
        }
    }
}
