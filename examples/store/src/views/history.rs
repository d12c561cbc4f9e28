//! A customer with all its orders.

use std::collections::BTreeMap;

use everfold::engine::Timestamp;
use everfold::prelude::*;
use serde::{Deserialize, Serialize};

use super::moment;
use crate::customer::{CustomerEvent, CustomerId};
use crate::money::Money;
use crate::order::{OrderEvent, OrderId, OrderState, Reason};

/// Customers with their credit and their orders.
///
/// An order may arrive before its customer, and for a customer that never existed: a row counts as
/// a customer once it is `opened`.
pub fn customer_history() -> View<CustomerId, CustomerRow> {
    View::named("customer-history")
        .version(1)
        .on(
            |_: &CustomerEvent, at| at.entity_id::<CustomerId>(),
            CustomerRow::customer,
        )
        .on(
            |event: &OrderEvent, _| event.customer().clone(),
            CustomerRow::order,
        )
}

/// A customer and its orders.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomerRow {
    /// The customer's name; empty while only orders are known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// How much may be reserved at once.
    pub credit_limit: Money,
    /// How much is reserved.
    pub reserved: Money,
    /// When the customer was opened, in business time.
    #[serde(with = "moment", skip_serializing_if = "Option::is_none")]
    pub opened: Option<Timestamp>,
    /// When the customer was closed, in business time.
    #[serde(with = "moment", skip_serializing_if = "Option::is_none")]
    pub closed: Option<Timestamp>,
    /// The orders by id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub orders: BTreeMap<OrderId, OrderLine>,
    /// The customer's version that this row shows.
    pub version: u64,
}

/// An order as its customer's row shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OrderLine {
    /// Where it stands.
    pub state: OrderState,
    /// What it costs.
    pub total: Money,
    /// Why it was rejected, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Whether it was ever approved, whatever became of it.
    pub approved: bool,
    /// When it was placed, in business time.
    #[serde(with = "moment", skip_serializing_if = "Option::is_none")]
    pub placed: Option<Timestamp>,
    /// When it was paid, in business time.
    #[serde(with = "moment", skip_serializing_if = "Option::is_none")]
    pub paid: Option<Timestamp>,
    /// The order's version that this line shows.
    pub version: u64,
}

impl CustomerRow {
    /// The credit that is left. Below zero after the limit was lowered under what is reserved.
    pub fn available(&self) -> Money {
        self.credit_limit.saturating_sub(self.reserved)
    }

    pub(crate) fn customer(&mut self, event: &CustomerEvent, at: &At) {
        if at.version() <= self.version {
            return;
        }
        self.version = at.version();
        match event {
            CustomerEvent::Opened { name, credit_limit } => {
                self.name.clone_from(name);
                self.credit_limit = *credit_limit;
                self.opened = Some(at.effective());
            }
            CustomerEvent::CreditLimitChanged { credit_limit } => self.credit_limit = *credit_limit,
            CustomerEvent::CreditReserved { total, .. } => {
                self.reserved = self.reserved.saturating_add(*total);
            }
            CustomerEvent::CreditReleased { total, .. } => {
                self.reserved = self.reserved.saturating_sub(*total);
            }
            CustomerEvent::CreditRefused { .. } => {}
            CustomerEvent::Closed => self.closed = Some(at.effective()),
        }
    }

    pub(crate) fn order(&mut self, event: &OrderEvent, at: &At) {
        let line = self.orders.entry(at.entity_id()).or_default();
        // An event that this line has seen must not take it back to what it was then.
        if at.version() <= line.version {
            return;
        }
        line.version = at.version();
        match event {
            OrderEvent::Placed { total, .. } => {
                line.total = *total;
                line.placed = Some(at.effective());
            }
            OrderEvent::Approved { .. } => {
                line.state = OrderState::Approved;
                line.approved = true;
            }
            OrderEvent::Rejected { reason, .. } => {
                line.state = OrderState::Rejected;
                line.reason = Some(*reason);
            }
            OrderEvent::CancelRequested { .. } => line.state = OrderState::CancelPending,
            OrderEvent::Cancelled { .. } => line.state = OrderState::Cancelled,
            OrderEvent::Shipped { .. } => line.state = OrderState::Shipped,
            OrderEvent::Paid { .. } => line.paid = Some(at.effective()),
        }
    }
}

/// Sums over all customers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Customers that were opened, closed ones included.
    pub customers: u64,
    /// Orders that were placed.
    pub orders: u64,
    /// Orders that were ever approved.
    pub approved: u64,
    /// What the ever approved orders cost.
    pub approved_total: Money,
    /// Orders that were rejected.
    pub rejected: u64,
    /// What is reserved now.
    pub reserved: Money,
}

impl Totals {
    /// The sums over these rows.
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a CustomerRow>) -> Self {
        let mut totals = Self::default();
        for row in rows {
            totals.add(row);
        }
        totals
    }

    /// Counts one more row.
    pub fn add(&mut self, row: &CustomerRow) {
        self.customers += u64::from(row.opened.is_some());
        self.reserved = self.reserved.saturating_add(row.reserved);
        for line in row.orders.values() {
            self.orders += 1;
            self.rejected += u64::from(line.state == OrderState::Rejected);
            if line.approved {
                self.approved += 1;
                self.approved_total = self.approved_total.saturating_add(line.total);
            }
        }
    }
}
