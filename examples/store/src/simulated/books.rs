//! Credit and orders, as the log has them: an account that shares nothing with the code which
//! decides.

use std::collections::BTreeMap;

use everfold::engine::Record;
use everfold::prelude::*;

use crate::customer::CustomerEvent;
use crate::money::Money;
use crate::order::{OrderEvent, OrderId, OrderState};

/// Credit is reserved within the limit, orders are decided once, and on reserved credit only.
#[derive(Default)]
pub(super) struct Books {
    limits: BTreeMap<String, Money>,
    reserved: BTreeMap<(String, OrderId), Money>,
    orders: BTreeMap<OrderId, Placed>,
}

/// What was placed, and where it stands.
pub(super) struct Placed {
    customer: String,
    total: Money,
    pub(super) state: OrderState,
    paid: bool,
}

impl Placed {
    fn needs_credit(&self) -> bool {
        !self.paid && matches!(self.state, OrderState::Approved | OrderState::Shipped)
    }
}

impl Books {
    pub(super) fn record(&mut self, record: &Record) -> Result<(), String> {
        let portable = &record.portable;
        let (kind, bytes) = (&portable.event_type, &portable.payload);
        let (id, version) = (portable.entity.id.to_string(), portable.schema_version);
        match &*portable.entity.kind {
            "customer" => {
                let event = CustomerEvent::decode(kind, version, bytes);
                self.customer(id, event.map_err(|error| error.to_string())?)
            }
            "order" => {
                let event = OrderEvent::decode(kind, version, bytes);
                self.order(id.into(), &event.map_err(|error| error.to_string())?)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn orders(&self) -> impl Iterator<Item = (&OrderId, &Placed)> {
        self.orders.iter()
    }

    pub(super) fn reserved_by(&self, customer: &str) -> Money {
        let of = self.reserved.iter();
        let of = of.filter(|((owner, _), _)| owner == customer);
        of.fold(Money::ZERO, |sum, (_, total)| sum.saturating_add(*total))
    }

    fn customer(&mut self, id: String, event: CustomerEvent) -> Result<(), String> {
        match event {
            CustomerEvent::Opened { credit_limit, .. }
            | CustomerEvent::CreditLimitChanged { credit_limit } => {
                self.limits.insert(id, credit_limit);
            }
            CustomerEvent::CreditReserved { order, total } => {
                if self.reserved.insert((id.clone(), order), total).is_some() {
                    return Err(format!("{id} reserved twice for one order"));
                }
                let (sum, limit) = (self.reserved_by(&id), self.limits.get(&id));
                if limit.is_none_or(|limit| sum > *limit) {
                    return Err(format!("{id} has {sum:?} reserved, the limit is {limit:?}"));
                }
            }
            CustomerEvent::CreditReleased { order, .. } => {
                if self.reserved.remove(&(id.clone(), order.clone())).is_none() {
                    return Err(format!("{id} released what was not reserved"));
                }
                if self.orders.get(&order).is_some_and(Placed::needs_credit) {
                    return Err(format!(
                        "{id} released what {} still needs",
                        order.as_text()
                    ));
                }
            }
            CustomerEvent::Closed => {
                let (reserved, limit) = (self.reserved_by(&id), self.limits.remove(&id));
                if reserved != Money::ZERO || limit.is_none() {
                    return Err(format!("{id} was closed with {reserved:?} reserved"));
                }
            }
            CustomerEvent::CreditRefused { .. } => {}
        }
        Ok(())
    }

    fn order(&mut self, id: OrderId, event: &OrderEvent) -> Result<(), String> {
        if let OrderEvent::Placed {
            customer, total, ..
        } = event
        {
            let placed = Placed {
                customer: customer.as_text().to_owned(),
                total: *total,
                state: OrderState::Pending,
                paid: false,
            };
            return match self.orders.insert(id.clone(), placed) {
                None => Ok(()),
                Some(_) => Err(format!("{} was placed twice", id.as_text())),
            };
        }
        let Some(order) = self.orders.get_mut(&id) else {
            return Err(format!("{} was never placed: {event:?}", id.as_text()));
        };
        let holder = (order.customer.clone(), id.clone());
        let reserved = self.reserved.get(&holder) == Some(&order.total);
        use OrderState::{Approved, CancelPending, Cancelled, Pending, Rejected, Shipped};
        let (before, paid) = (order.state, order.paid);
        let (after, allowed) = match event {
            OrderEvent::Placed { .. } => (before, false),
            OrderEvent::Approved { .. } => (Approved, before == Pending && reserved),
            OrderEvent::Rejected { .. } => (Rejected, before == Pending),
            OrderEvent::CancelRequested { .. } => (CancelPending, before == Pending),
            OrderEvent::Cancelled { reserved: true, .. } => {
                let may = before == CancelPending || before == Approved && !paid;
                (Cancelled, may && reserved)
            }
            OrderEvent::Cancelled { .. } => (Cancelled, before == CancelPending),
            OrderEvent::Shipped { .. } => (Shipped, before == Approved),
            OrderEvent::Paid { .. } => {
                order.paid = true;
                (before, !paid && matches!(before, Approved | Shipped))
            }
        };
        order.state = after;
        match allowed {
            true => Ok(()),
            false => Err(format!(
                "{} was {before} (paid: {paid}, credit reserved: {reserved}): {event:?}",
                id.as_text()
            )),
        }
    }

    /// When all is over: each order is decided, and credit is reserved for exactly those that need
    /// it.
    pub(super) fn check_end(&self) -> Result<(), String> {
        for (id, order) in &self.orders {
            if matches!(order.state, OrderState::Pending | OrderState::CancelPending) {
                return Err(format!("{} stays {} for ever", id.as_text(), order.state));
            }
        }
        let due = self.orders.iter().filter(|(_, order)| order.needs_credit());
        let due = due.map(|(id, order)| ((order.customer.clone(), id.clone()), order.total));
        let due: BTreeMap<_, _> = due.collect();
        match due == self.reserved {
            true => Ok(()),
            false => Err(format!("{:?} is reserved for {due:?}", self.reserved)),
        }
    }
}
