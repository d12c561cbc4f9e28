//! What may be asked of a customer, and how it decides.

use everfold::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Customer, CustomerEvent, Opening};
use crate::money::Money;
use crate::order::{OrderId, Reason};

/// Why a customer refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CustomerRejection {
    /// Never opened.
    #[error("there is no such customer")]
    UnknownCustomer,
    /// Opened once, closed since.
    #[error("the customer was closed, and its id is not used again")]
    Closed,
    /// A name without a letter in it.
    #[error("a customer has a name")]
    EmptyName,
    /// A limit below zero.
    #[error("a credit limit is not negative")]
    NegativeLimit,
    /// The id is taken.
    #[error("this customer was opened before, with another name or limit")]
    OpenedDifferently,
    /// Orders still count on the customer.
    #[error(
        "credit is reserved for orders, {orders} in number: cancel them or wait until they are paid"
    )]
    CreditReserved {
        /// How many.
        orders: usize,
    },
}

/// Opens a customer. Asking again with the same data changes nothing.
#[derive(Command, Clone, Debug)]
pub struct Open {
    /// The customer's name.
    pub name: String,
    /// How much may be reserved at once; zero or more.
    pub credit_limit: Money,
}

impl Decide<Open> for Customer {
    type Reply = ();
    type Rejection = CustomerRejection;

    fn decide(&self, command: &Open, _: &Context) -> Decision<Self, Open> {
        let Open { name, credit_limit } = command.clone();
        if name.trim().is_empty() {
            return reject(CustomerRejection::EmptyName);
        }
        if credit_limit.is_negative() {
            return reject(CustomerRejection::NegativeLimit);
        }
        match &self.opening {
            None => emit(CustomerEvent::Opened { name, credit_limit }).reply(()),
            Some(_) if self.closed => reject(CustomerRejection::Closed),
            Some(opening) if *opening == Opening { name, credit_limit } => reply(()),
            Some(_) => reject(CustomerRejection::OpenedDifferently),
        }
    }
}

/// Sets another credit limit. It may lie below what is reserved: then nothing more is reserved
/// until enough has been released.
#[derive(Command, Clone, Debug)]
pub struct ChangeCreditLimit {
    /// How much may be reserved at once; zero or more.
    pub credit_limit: Money,
}

impl Decide<ChangeCreditLimit> for Customer {
    type Reply = ();
    type Rejection = CustomerRejection;

    fn decide(
        &self,
        command: &ChangeCreditLimit,
        _: &Context,
    ) -> Decision<Self, ChangeCreditLimit> {
        let credit_limit = command.credit_limit;
        if credit_limit.is_negative() {
            reject(CustomerRejection::NegativeLimit)
        } else if let Err(rejection) = self.open() {
            reject(rejection)
        } else if credit_limit == self.credit_limit {
            reply(())
        } else {
            emit(CustomerEvent::CreditLimitChanged { credit_limit }).reply(())
        }
    }
}

/// Sets credit aside for an order. Asking again for the same order gets the same answer.
#[derive(Command, Clone, Debug)]
pub struct ReserveCredit {
    /// The order.
    pub order: OrderId,
    /// How much; zero or more.
    pub total: Money,
}

/// How credit for an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Credit {
    /// It is reserved.
    Reserved,
    /// It would have exceeded the limit.
    Refused,
    /// It was reserved once, and released since.
    Released,
}

/// Why the question for credit has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NoCredit {
    /// Never opened.
    #[error("there is no such customer")]
    UnknownCustomer,
    /// Opened once, closed since.
    #[error("the customer was closed")]
    CustomerClosed,
    /// A total below zero.
    #[error("a total is not negative")]
    NegativeTotal,
}

impl From<NoCredit> for Reason {
    fn from(refused: NoCredit) -> Self {
        match refused {
            NoCredit::UnknownCustomer => Reason::UnknownCustomer,
            NoCredit::CustomerClosed => Reason::CustomerClosed,
            NoCredit::NegativeTotal => Reason::NegativeTotal,
        }
    }
}

impl Decide<ReserveCredit> for Customer {
    type Reply = Credit;
    type Rejection = NoCredit;

    fn decide(&self, command: &ReserveCredit, _: &Context) -> Decision<Self, ReserveCredit> {
        let ReserveCredit { order, total } = command.clone();
        if total.is_negative() {
            reject(NoCredit::NegativeTotal)
        } else if self.opening.is_none() {
            reject(NoCredit::UnknownCustomer)
        } else if let Some(answer) = self.answer_for(&order) {
            reply(answer)
        } else if self.closed {
            reject(NoCredit::CustomerClosed)
        } else if self.can_reserve(total) {
            emit(CustomerEvent::CreditReserved { order, total }).reply(Credit::Reserved)
        } else {
            emit(CustomerEvent::CreditRefused { order, total }).reply(Credit::Refused)
        }
    }
}

/// Gives back what is reserved for an order.
#[derive(Command, Clone, Debug)]
pub struct ReleaseCredit {
    /// The order.
    pub order: OrderId,
}

/// What a release led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Release {
    /// The credit is free again.
    Released,
    /// There was nothing to release. No error, or it would hold up whatever comes behind it; but
    /// worth a look unless the request was repeated.
    NothingReserved,
}

impl Decide<ReleaseCredit> for Customer {
    type Reply = Release;
    type Rejection = Never;

    fn decide(&self, command: &ReleaseCredit, _: &Context) -> Decision<Self, ReleaseCredit> {
        let order = command.order.clone();
        match self.reserved.get(&order) {
            Some(&total) => {
                emit(CustomerEvent::CreditReleased { order, total }).reply(Release::Released)
            }
            None => reply(Release::NothingReserved),
        }
    }
}

/// Closes a customer for good. Asking again changes nothing.
#[derive(Command, Clone, Debug)]
pub struct Close;

impl Decide<Close> for Customer {
    type Reply = ();
    type Rejection = CustomerRejection;

    fn decide(&self, _: &Close, _: &Context) -> Decision<Self, Close> {
        if self.opening.is_none() {
            reject(CustomerRejection::UnknownCustomer)
        } else if self.closed {
            reply(())
        } else {
            let tied = |total: &&Money| **total != Money::ZERO;
            match self.reserved.values().filter(tied).count() {
                0 => emit(CustomerEvent::Closed).reply(()),
                orders => reject(CustomerRejection::CreditReserved { orders }),
            }
        }
    }
}
