//! A store's promises, seen from outside: what was acknowledged is in the log, an order is decided
//! once, credit is reserved within its limit, every order comes to a decision, and views show what
//! the events say.

use std::collections::BTreeMap;

use everfold::Key;
use everfold_store::customer::CustomerEvent;
use everfold_store::money::Money;
use everfold_store::order::{OrderEvent, OrderState};
use everfold_store::views::CustomerRow;

use super::{Violation, ViolationKind};
use crate::chaos::history::{Operation, Outcome};

/// What the log and the views say at the end, when everything has taken effect.
#[derive(Clone, Debug, Default)]
pub struct Logged {
    /// Each order's events.
    pub orders: BTreeMap<String, Vec<OrderEvent>>,
    /// Each customer's events.
    pub customers: BTreeMap<String, Vec<CustomerEvent>>,
    /// The rows of the view of customers.
    pub rows: BTreeMap<String, CustomerRow>,
}

/// What must be in the log, once, for a command that was acknowledged.
type Effect = (&'static str, fn(&OrderEvent) -> bool);

const EFFECTS: [Effect; 4] = [
    ("place", |event| matches!(event, OrderEvent::Placed { .. })),
    ("ship", |event| matches!(event, OrderEvent::Shipped { .. })),
    ("pay", |event| matches!(event, OrderEvent::Paid { .. })),
    ("cancel", |event| {
        matches!(
            event,
            OrderEvent::CancelRequested { .. } | OrderEvent::Cancelled { .. }
        )
    }),
];

/// Operations of the history: `place`, `ship`, `pay` and `cancel`, whose keys are orders.
pub fn check(operations: &[Operation], logged: &Logged) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut by_order: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        by_order.entry(&operation.key).or_default().push(operation);
    }
    for order in logged.orders.keys() {
        by_order.entry(order).or_default();
    }
    for (order, operations) in by_order {
        let events = logged.orders.get(order).map_or(&[][..], Vec::as_slice);
        acknowledged(order, &operations, events, &mut found);
        history(order, events, logged, &mut found);
    }
    for (customer, events) in &logged.customers {
        credit(customer, events, &mut found);
    }
    views(logged, &mut found);
    found
}

fn acknowledged(
    order: &str,
    operations: &[&Operation],
    events: &[OrderEvent],
    found: &mut Vec<Violation>,
) {
    for (f, is_effect) in EFFECTS {
        let of: Vec<_> = operations.iter().filter(|it| it.f == f).collect();
        let is_there = events.iter().any(is_effect);
        let done = of.iter().find(|it| matches!(it.outcome, Outcome::Done(_)));
        let may_be = of.iter().any(|it| it.outcome != Outcome::Refused);
        let violation = match (done, is_there) {
            (Some(done), false) => {
                let what = format!("acknowledged and not in the log: {}", done.shown());
                Violation::new(ViolationKind::Lost, order, what)
            }
            (None, true) if !may_be => {
                let what = format!("{f} is in the log, and was refused or never asked for");
                Violation::new(ViolationKind::Resurrected, order, what)
            }
            _ => continue,
        };
        found.push(violation);
    }
}

/// What an order's events come to; every event has to fit behind those before it.
fn history(order: &str, events: &[OrderEvent], logged: &Logged, found: &mut Vec<Violation>) {
    use OrderState::{Approved, CancelPending, Cancelled, Pending, Rejected, Shipped};
    let (mut state, mut paid, mut placed) = (Pending, false, None);
    for event in events {
        let fits = match event {
            OrderEvent::Placed { .. } => placed.is_none(),
            _ if placed.is_none() => false,
            OrderEvent::Approved { .. } | OrderEvent::Rejected { .. } => state == Pending,
            OrderEvent::CancelRequested { .. } => state == Pending,
            OrderEvent::Cancelled { .. } => state == CancelPending || (state == Approved && !paid),
            OrderEvent::Shipped { .. } => state == Approved,
            OrderEvent::Paid { .. } => !paid && matches!(state, Approved | Shipped),
        };
        if !fits {
            let what = format!("{event:?} follows, though it is {state} (paid: {paid})");
            let kind = match event {
                OrderEvent::Placed { .. }
                | OrderEvent::Approved { .. }
                | OrderEvent::Rejected { .. } => ViolationKind::Twice,
                _ => ViolationKind::Disorder,
            };
            found.push(Violation::new(kind, order, what));
            return;
        }
        match event {
            OrderEvent::Placed {
                customer, total, ..
            } => placed = Some((customer.as_text().to_owned(), *total)),
            OrderEvent::Approved { .. } => state = Approved,
            OrderEvent::Rejected { .. } => state = Rejected,
            OrderEvent::CancelRequested { .. } => state = CancelPending,
            OrderEvent::Cancelled { .. } => state = Cancelled,
            OrderEvent::Shipped { .. } => state = Shipped,
            OrderEvent::Paid { .. } => paid = true,
        }
    }
    let Some((customer, total)) = placed else {
        return;
    };
    if matches!(state, Pending | CancelPending) {
        let what = format!("it stays {state}, though everything has taken effect");
        found.push(Violation::new(ViolationKind::Lost, order, what));
    }
    let needs = matches!(state, Approved | Shipped) && !paid;
    let reserved = logged.customers.get(&customer);
    let reserved = reserved.and_then(|events| reservations(events).remove(order));
    if needs != reserved.is_some() || reserved.is_some_and(|reserved| reserved != total) {
        let what = format!(
            "it is {state} (paid: {paid}) and costs {total:?}; reserved for it at {customer}: {reserved:?}"
        );
        found.push(Violation::new(ViolationKind::Unbalanced, order, what));
    }
}

/// What is reserved at the end.
fn reservations(events: &[CustomerEvent]) -> BTreeMap<String, Money> {
    let mut reserved = BTreeMap::new();
    for event in events {
        match event {
            CustomerEvent::CreditReserved { order, total } => {
                reserved.insert(order.as_text().to_owned(), *total);
            }
            CustomerEvent::CreditReleased { order, .. } => {
                reserved.remove(order.as_text());
            }
            _ => {}
        }
    }
    reserved
}

fn sum(reserved: &BTreeMap<String, Money>) -> Money {
    let all = reserved.values().copied();
    all.fold(Money::ZERO, Money::saturating_add)
}

fn credit(customer: &str, events: &[CustomerEvent], found: &mut Vec<Violation>) {
    let (mut limit, mut reserved) = (None, BTreeMap::new());
    for event in events {
        let fault = match event {
            CustomerEvent::Opened { credit_limit, .. } if limit.is_none() => {
                limit = Some(*credit_limit);
                continue;
            }
            CustomerEvent::Opened { .. } => Some((ViolationKind::Twice, "opened twice".to_owned())),
            CustomerEvent::CreditLimitChanged { credit_limit } => {
                limit = Some(*credit_limit);
                continue;
            }
            CustomerEvent::CreditReserved { order, total } => {
                let order = order.as_text().to_owned();
                let twice = reserved.insert(order.clone(), *total).is_some();
                let all = sum(&reserved);
                if twice {
                    Some((ViolationKind::Twice, format!("{order} has credit twice")))
                } else if limit.is_none_or(|limit| all > limit) {
                    let what = format!("{all:?} is reserved, the limit is {limit:?}");
                    Some((ViolationKind::Unbalanced, what))
                } else {
                    None
                }
            }
            CustomerEvent::CreditReleased { order, .. } => {
                let none = reserved.remove(order.as_text()).is_none();
                let what = || format!("{} had no credit to release", order.as_text());
                none.then(|| (ViolationKind::Disorder, what()))
            }
            CustomerEvent::CreditRefused { .. } | CustomerEvent::Closed => None,
        };
        if let Some((kind, what)) = fault {
            found.push(Violation::new(kind, customer, what));
            return;
        }
    }
}

/// The view of customers against a fold of its own.
fn views(logged: &Logged, found: &mut Vec<Violation>) {
    let mut expected: BTreeMap<(&str, &str), OrderState> = BTreeMap::new();
    for (order, events) in &logged.orders {
        let Some(first) = events.first() else {
            continue;
        };
        let state = events
            .iter()
            .fold(OrderState::Pending, |state, event| match event {
                OrderEvent::Placed { .. } | OrderEvent::Paid { .. } => state,
                OrderEvent::Approved { .. } => OrderState::Approved,
                OrderEvent::Rejected { .. } => OrderState::Rejected,
                OrderEvent::CancelRequested { .. } => OrderState::CancelPending,
                OrderEvent::Cancelled { .. } => OrderState::Cancelled,
                OrderEvent::Shipped { .. } => OrderState::Shipped,
            });
        expected.insert((first.customer().as_text(), order), state);
    }
    let mut shown = BTreeMap::new();
    for (customer, row) in &logged.rows {
        for (order, line) in &row.orders {
            shown.insert((&**customer, order.as_text()), line.state);
        }
        let events = logged.customers.get(customer);
        let reserved = events.map_or(Money::ZERO, |events| sum(&reservations(events)));
        if row.reserved != reserved {
            let what = format!(
                "the view has {:?} reserved, the log {reserved:?}",
                row.reserved
            );
            found.push(Violation::new(ViolationKind::View, customer, what));
        }
    }
    let both = expected.keys().chain(shown.keys());
    let mut differing: Vec<_> = both
        .filter(|place| expected.get(*place) != shown.get(*place))
        .collect();
    differing.sort();
    differing.dedup();
    for place in differing {
        let what = format!(
            "the view of {} has it {:?}, the log {:?}",
            place.0,
            shown.get(place),
            expected.get(place)
        );
        found.push(Violation::new(ViolationKind::View, place.1, what));
    }
}

#[cfg(test)]
mod tests;
