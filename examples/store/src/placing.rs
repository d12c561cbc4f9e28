//! The same as [`reactions`](crate::reactions), orchestrated: one saga per order, which can be asked
//! how far it has come.

use std::time::Duration;

use everfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::customer::{Credit, Customer, CustomerId, ReleaseCredit, ReserveCredit};
use crate::money::Money;
use crate::order::{Approve, Order, OrderEvent, OrderId, OrderState, Reason, Reject};
use crate::reactions::DECISION;

#[cfg(test)]
mod tests;

/// What the saga of an order is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placing {
    /// The order.
    pub order: OrderId,
    /// Who has placed it.
    pub customer: CustomerId,
    /// For how much.
    pub total: Money,
    /// Why it is rejected, if it is.
    pub reason: Option<Reason>,
}

impl Placing {
    fn refused(&mut self, reason: Reason) -> everfold::Next {
        self.reason = Some(reason);
        fail(format!("{reason:?}"))
    }
}

/// A placed order gets its credit and is approved, or is rejected; whatever happens, credit is
/// reserved for approved orders only.
pub fn placing() -> Saga<Placing> {
    placing_within(DECISION)
}

pub(crate) fn placing_within(decision: Duration) -> Saga<Placing> {
    let rejected = ask(|it: &Placing| {
        let reason = it.reason.unwrap_or(Reason::InsufficientCredit);
        command::<Order, _>(&it.order, Reject { reason })
    });
    let reserve = ask(|it: &Placing| {
        let (order, total) = (it.order.clone(), it.total);
        command::<Customer, _>(&it.customer, ReserveCredit { order, total })
    });
    let reserve = reserve
        .replied(|it, credit| match credit {
            Credit::Reserved => done(),
            Credit::Refused | Credit::Released => it.refused(Reason::InsufficientCredit),
        })
        .rejected(|it, refused| it.refused(refused.into()));
    let release = ask(|it: &Placing| {
        let order = it.order.clone();
        command::<Customer, _>(&it.customer, ReleaseCredit { order })
    });
    let approve = ask(|it: &Placing| command::<Order, _>(&it.order, Approve));
    // An order that was to be cancelled is so by now: its credit is needed no longer.
    let approve = approve.replied(|_, state| match state {
        OrderState::Cancelled => fail("the order was cancelled"),
        _ => done(),
    });
    Saga::named("placing")
        .begins_on(|event: &OrderEvent, at| match event {
            OrderEvent::Placed {
                customer, total, ..
            } => {
                let order: OrderId = at.entity_id();
                let placing = Placing {
                    order: order.clone(),
                    customer: customer.clone(),
                    total: *total,
                    reason: None,
                };
                Some((order.as_text().to_owned(), placing))
            }
            _ => None,
        })
        .step(Step::already("placed").undo(rejected))
        .step(
            Step::named("reserve credit", reserve)
                .undo(release)
                .within(decision)
                .timed_out(|it| it.refused(Reason::TimedOut)),
        )
        .step(Step::named("approve", approve))
}
