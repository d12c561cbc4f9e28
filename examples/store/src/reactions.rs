//! What follows from events: customers and orders know nothing of each other but this.

use std::time::Duration;

use everfold::prelude::*;

use crate::customer::{
    Customer, CustomerEvent, CustomerId, NoCredit, ReleaseCredit, ReserveCredit,
};
use crate::order::{Approve, Order, OrderEvent, OrderId, OrderRejection, Reason, Reject};

#[cfg(test)]
mod tests;

/// How long an order waits for its credit to be decided.
pub const DECISION: Duration = Duration::from_secs(60);

/// An order whose credit is not decided in time is rejected. What is reserved for it later is given
/// back by [`decide_order`].
pub fn time_out() -> Reactor {
    time_out_after(DECISION)
}

pub(crate) fn time_out_after(decision: Duration) -> Reactor {
    Reactor::named("time-out").on(move |event: &OrderEvent, at| match event {
        OrderEvent::Placed { .. } => {
            let order: OrderId = at.entity_id();
            let reason = Reason::TimedOut;
            command::<Order, _>(order, Reject { reason }).after("decision", decision)
        }
        OrderEvent::Approved { .. }
        | OrderEvent::Rejected { .. }
        | OrderEvent::Cancelled { .. } => cancel("decision"),
        _ => nothing(),
    })
}

/// A placed order asks the customer for credit. Without a customer to ask it is rejected.
pub fn reserve_credit() -> Reactor {
    Reactor::named("reserve-credit").on(|event: &OrderEvent, at| match event {
        OrderEvent::Placed {
            customer, total, ..
        } => {
            let order: OrderId = at.entity_id();
            command::<Customer, _>(
                customer,
                ReserveCredit {
                    order,
                    total: *total,
                },
            )
            .rejected(reject_order)
        }
        _ => nothing(),
    })
}

fn reject_order(refused: NoCredit, placed: &At) -> Reaction {
    let order: OrderId = placed.entity_id();
    command::<Order, _>(
        order,
        Reject {
            reason: refused.into(),
        },
    )
    .into()
}

/// The customer's answer decides the order. An order that needs no credit any more gives it back.
pub fn decide_order() -> Reactor {
    Reactor::named("decide-order").on(|event: &CustomerEvent, _| match event {
        CustomerEvent::CreditReserved { order, .. } => {
            let late = order.clone();
            command::<Order, _>(order, Approve)
                .rejected(move |_: OrderRejection, reserved| give_back(&late, reserved))
        }
        CustomerEvent::CreditRefused { order, .. } => command::<Order, _>(
            order,
            Reject {
                reason: Reason::InsufficientCredit,
            },
        )
        .into(),
        _ => nothing(),
    })
}

fn give_back(order: &OrderId, reserved: &At) -> Reaction {
    let customer: CustomerId = reserved.entity_id();
    command::<Customer, _>(
        customer,
        ReleaseCredit {
            order: order.clone(),
        },
    )
    .into()
}

/// An order that was paid, or cancelled after its approval, needs its credit no longer.
pub fn release_credit() -> Reactor {
    Reactor::named("release-credit").on(|event: &OrderEvent, at| match event {
        OrderEvent::Paid { customer, .. }
        | OrderEvent::Cancelled {
            customer,
            reserved: true,
        } => command::<Customer, _>(
            customer,
            ReleaseCredit {
                order: at.entity_id(),
            },
        )
        .into(),
        _ => nothing(),
    })
}
