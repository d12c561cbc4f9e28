//! What may be asked of an order, and how it decides. Every command answers with the state that
//! the order is in afterwards.

use everfold::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Item, Order, OrderEvent, OrderState, PaymentMethod, Reason};
use crate::customer::CustomerId;
use crate::money::Money;

/// Why an order refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrderRejection {
    /// Never placed.
    #[error("there is no such order")]
    UnknownOrder,
    /// The id is taken.
    #[error("this order was placed before, with other contents")]
    PlacedDifferently,
    /// A total below zero.
    #[error("a total is not negative")]
    NegativeTotal,
    /// The items cost something else.
    #[error("the amounts of the items do not add up to the total")]
    WrongTotal,
    /// The decision came after the order had come to its end, or was paid.
    #[error("the order needs no credit any more: it is {state}")]
    NeedsNoCredit {
        /// Where it stands.
        state: OrderState,
    },
    /// Only approved orders are shipped.
    #[error("only an approved order can be shipped: this one is {state}")]
    NotShippable {
        /// Where it stands.
        state: OrderState,
    },
    /// Only approved and shipped orders are paid.
    #[error("only an approved or shipped order can be paid: this one is {state}")]
    NotPayable {
        /// Where it stands.
        state: OrderState,
    },
    /// An order is paid once, and not cancelled afterwards.
    #[error("the order is already paid")]
    AlreadyPaid,
    /// Too late to call it off.
    #[error("only a pending or approved order can be cancelled: this one is {state}")]
    NotCancellable {
        /// Where it stands.
        state: OrderState,
    },
}

/// Places an order. Asking again with the same contents changes nothing.
#[derive(Command, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Who orders.
    pub customer: CustomerId,
    /// What; if left open, only the total counts.
    pub items: Vec<Item>,
    /// For how much; zero or more.
    pub total: Money,
    /// To which address.
    pub delivery: String,
}

impl Decide<Place> for Order {
    type Reply = OrderState;
    type Rejection = OrderRejection;

    fn decide(&self, command: &Place, _: &Context) -> Decision<Self, Place> {
        let Place {
            customer,
            items,
            total,
            delivery,
        } = command.clone();
        if total.is_negative() {
            return reject(OrderRejection::NegativeTotal);
        }
        let amounts = Money::sum(items.iter().map(|item| item.amount));
        if !items.is_empty() && amounts != Some(total) {
            return reject(OrderRejection::WrongTotal);
        }
        match &self.placed {
            None => emit(OrderEvent::Placed {
                customer,
                items,
                total,
                delivery,
            })
            .reply(OrderState::Pending),
            Some(placed) if placed == command => reply(self.state),
            Some(_) => reject(OrderRejection::PlacedDifferently),
        }
    }
}

/// Credit is reserved for the order.
#[derive(Command, Clone, Debug)]
pub struct Approve;

impl Decide<Approve> for Order {
    type Reply = OrderState;
    type Rejection = OrderRejection;

    fn decide(&self, _: &Approve, _: &Context) -> Decision<Self, Approve> {
        let Some(Place {
            customer, total, ..
        }) = self.placed.clone()
        else {
            return reject(OrderRejection::UnknownOrder);
        };
        match self.state {
            OrderState::Pending => {
                emit(OrderEvent::Approved { customer, total }).reply(OrderState::Approved)
            }
            OrderState::CancelPending => emit(OrderEvent::Cancelled {
                customer,
                reserved: true,
            })
            .reply(OrderState::Cancelled),
            OrderState::Approved | OrderState::Shipped if self.payment.is_none() => {
                reply(self.state)
            }
            // A rejection and no mere reply: whoever reserved the credit has to give it back.
            state => reject(OrderRejection::NeedsNoCredit { state }),
        }
    }
}

/// There is no credit for the order.
#[derive(Command, Clone, Debug)]
pub struct Reject {
    /// Why.
    pub reason: Reason,
}

impl Decide<Reject> for Order {
    type Reply = OrderState;
    type Rejection = OrderRejection;

    fn decide(&self, command: &Reject, _: &Context) -> Decision<Self, Reject> {
        let Some(Place { customer, .. }) = self.placed.clone() else {
            return reject(OrderRejection::UnknownOrder);
        };
        match self.state {
            OrderState::Pending => emit(OrderEvent::Rejected {
                customer,
                reason: command.reason,
            })
            .reply(OrderState::Rejected),
            // The customer was promised a cancellation, and nobody waits for the reason any more.
            OrderState::CancelPending => emit(OrderEvent::Cancelled {
                customer,
                reserved: false,
            })
            .reply(OrderState::Cancelled),
            state => reply(state),
        }
    }
}

/// Sends the order to the customer. Asking again changes nothing.
#[derive(Command, Clone, Debug)]
pub struct Ship;

impl Decide<Ship> for Order {
    type Reply = OrderState;
    type Rejection = OrderRejection;

    fn decide(&self, _: &Ship, _: &Context) -> Decision<Self, Ship> {
        let Some(Place {
            customer, total, ..
        }) = self.placed.clone()
        else {
            return reject(OrderRejection::UnknownOrder);
        };
        match self.state {
            OrderState::Approved => {
                emit(OrderEvent::Shipped { customer, total }).reply(OrderState::Shipped)
            }
            OrderState::Shipped => reply(OrderState::Shipped),
            state => reject(OrderRejection::NotShippable { state }),
        }
    }
}

/// The customer pays.
#[derive(Command, Clone, Debug)]
pub struct Pay {
    /// In which way.
    pub method: PaymentMethod,
}

impl Decide<Pay> for Order {
    type Reply = OrderState;
    type Rejection = OrderRejection;

    fn decide(&self, command: &Pay, _: &Context) -> Decision<Self, Pay> {
        let Some(Place {
            customer, total, ..
        }) = self.placed.clone()
        else {
            return reject(OrderRejection::UnknownOrder);
        };
        match self.state {
            _ if self.payment.is_some() => reject(OrderRejection::AlreadyPaid),
            OrderState::Approved | OrderState::Shipped => emit(OrderEvent::Paid {
                customer,
                total,
                method: command.method,
            })
            .reply(self.state),
            state => reject(OrderRejection::NotPayable { state }),
        }
    }
}

/// Calls the order off: at once, or as soon as the customer's credit has answered.
#[derive(Command, Clone, Debug)]
pub struct Cancel;

impl Decide<Cancel> for Order {
    type Reply = OrderState;
    type Rejection = OrderRejection;

    fn decide(&self, _: &Cancel, _: &Context) -> Decision<Self, Cancel> {
        let Some(Place { customer, .. }) = self.placed.clone() else {
            return reject(OrderRejection::UnknownOrder);
        };
        match self.state {
            OrderState::Pending => {
                emit(OrderEvent::CancelRequested { customer }).reply(OrderState::CancelPending)
            }
            OrderState::CancelPending => reply(OrderState::CancelPending),
            OrderState::Approved if self.payment.is_some() => reject(OrderRejection::AlreadyPaid),
            OrderState::Approved => emit(OrderEvent::Cancelled {
                customer,
                reserved: true,
            })
            .reply(OrderState::Cancelled),
            state => reject(OrderRejection::NotCancellable { state }),
        }
    }
}
