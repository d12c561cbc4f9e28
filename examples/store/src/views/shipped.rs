//! What was shipped to whom.

use std::collections::BTreeMap;

use everfold::engine::Timestamp;
use everfold::prelude::*;
use serde::{Deserialize, Serialize};

use super::moment;
use crate::customer::{CustomerEvent, CustomerId};
use crate::money::Money;
use crate::order::{OrderEvent, OrderId};

/// Customers with their shipped orders: which orders above an amount went to new customers?
pub fn shipped_orders() -> View<CustomerId, ShippedRow> {
    let shipped_to = |event: &OrderEvent, _: &At| match event {
        OrderEvent::Shipped { customer, .. } => Some(customer.clone()),
        _ => None,
    };
    let opened = |event: &CustomerEvent, at: &At| match event {
        CustomerEvent::Opened { .. } => Some(at.entity_id::<CustomerId>()),
        _ => None,
    };
    View::named("shipped-orders")
        .version(1)
        .on(opened, ShippedRow::opened)
        .on(shipped_to, ShippedRow::shipped)
}

/// A customer and its shipped orders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShippedRow {
    /// When the customer was opened, in business time.
    #[serde(with = "moment", skip_serializing_if = "Option::is_none")]
    pub opened: Option<Timestamp>,
    /// What each shipped order cost.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub orders: BTreeMap<OrderId, Money>,
}

impl ShippedRow {
    /// The orders that cost more than `total`, if the customer was opened after `day`.
    pub fn above(&self, total: Money, day: Timestamp) -> impl Iterator<Item = (&OrderId, Money)> {
        let is_new = self.opened.is_some_and(|opened| opened > day);
        let orders = self.orders.iter().map(|(order, cost)| (order, *cost));
        orders.filter(move |&(_, cost)| is_new && cost > total)
    }

    fn opened(&mut self, _: &CustomerEvent, at: &At) {
        self.opened = Some(at.effective());
    }

    fn shipped(&mut self, event: &OrderEvent, at: &At) {
        if let OrderEvent::Shipped { total, .. } = event {
            self.orders.insert(at.entity_id(), *total);
        }
    }
}
