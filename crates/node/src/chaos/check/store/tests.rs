use everfold_store::customer::CustomerId;
use everfold_store::order::{OrderId, PaymentMethod, Reason};
use everfold_store::views::OrderLine;
use serde_json::Value;

use super::*;

const ORDER: &str = "o-1";
const CUSTOMER: &str = "c-1";

fn cents(cents: i64) -> Money {
    Money::from_cents(cents)
}

fn customer() -> CustomerId {
    CustomerId::from(CUSTOMER)
}

fn placed() -> OrderEvent {
    OrderEvent::Placed {
        customer: customer(),
        items: Vec::new(),
        total: cents(30),
        delivery: String::new(),
    }
}

fn approved() -> OrderEvent {
    OrderEvent::Approved {
        customer: customer(),
        total: cents(30),
    }
}

fn rejected() -> OrderEvent {
    OrderEvent::Rejected {
        customer: customer(),
        reason: Reason::InsufficientCredit,
    }
}

fn paid() -> OrderEvent {
    OrderEvent::Paid {
        customer: customer(),
        total: cents(30),
        method: PaymentMethod::Card,
    }
}

fn opened() -> CustomerEvent {
    CustomerEvent::Opened {
        name: "c".to_owned(),
        credit_limit: cents(50),
    }
}

fn reserved(order: &str, amount: i64) -> CustomerEvent {
    CustomerEvent::CreditReserved {
        order: OrderId::from(order),
        total: cents(amount),
    }
}

/// A log of one order and one customer, with a view that agrees.
fn logged(order: &[OrderEvent], customer: &[CustomerEvent], shown: OrderState) -> Logged {
    let line = OrderLine {
        state: shown,
        ..OrderLine::default()
    };
    let mut row = CustomerRow {
        reserved: sum(&reservations(customer)),
        ..CustomerRow::default()
    };
    if !order.is_empty() {
        row.orders.insert(OrderId::from(ORDER), line);
    }
    Logged {
        orders: BTreeMap::from([(ORDER.to_owned(), order.to_vec())]),
        customers: BTreeMap::from([(CUSTOMER.to_owned(), customer.to_vec())]),
        rows: BTreeMap::from([(CUSTOMER.to_owned(), row)]),
    }
}

fn whole() -> Logged {
    let credit = [opened(), reserved(ORDER, 30)];
    logged(&[placed(), approved()], &credit, OrderState::Approved)
}

fn asked(f: &str, outcome: Outcome) -> Operation {
    Operation {
        process: 0,
        f: f.to_owned(),
        key: ORDER.to_owned(),
        asked: Value::Null,
        outcome,
        begun: 0,
        ended: Some(1),
        begun_at: 0,
        ended_at: Some(1),
    }
}

fn done(f: &str) -> Operation {
    asked(f, Outcome::Done(Value::Null))
}

fn kinds(operations: &[Operation], logged: &Logged) -> Vec<ViolationKind> {
    let found = check(operations, logged);
    found.iter().map(|violation| violation.kind).collect()
}

#[test]
fn an_order_that_was_acknowledged_is_there() {
    assert_eq!(kinds(&[done("place")], &whole()), []);
    let nothing = logged(&[], &[opened()], OrderState::Pending);
    assert_eq!(kinds(&[done("place")], &nothing), [ViolationKind::Lost]);
    let paying = [done("place"), done("pay")];
    assert_eq!(kinds(&paying, &whole()), [ViolationKind::Lost]);
    let unknown = [asked("place", Outcome::Unknown)];
    assert_eq!(kinds(&unknown, &nothing), []);
    assert_eq!(kinds(&unknown, &whole()), []);
}

#[test]
fn what_was_refused_or_never_asked_for_is_not_there() {
    let refused = [asked("place", Outcome::Refused)];
    assert_eq!(kinds(&refused, &whole()), [ViolationKind::Resurrected]);
    assert_eq!(kinds(&[], &whole()), [ViolationKind::Resurrected]);
}

#[test]
fn an_order_is_decided_once_and_paid_once() {
    let credit = [opened(), reserved(ORDER, 30)];
    for twice in [[approved(), approved()], [approved(), rejected()]] {
        let [first, second] = twice;
        let events = [placed(), first, second.clone()];
        let shown = match second {
            OrderEvent::Approved { .. } => OrderState::Approved,
            _ => OrderState::Rejected,
        };
        let logged = logged(&events, &credit, shown);
        assert_eq!(kinds(&[done("place")], &logged), [ViolationKind::Twice]);
    }
    let released = CustomerEvent::CreditReleased {
        order: OrderId::from(ORDER),
        total: cents(30),
    };
    let credit = [opened(), reserved(ORDER, 30), released];
    let events = [placed(), approved(), paid(), paid()];
    let paid_twice = logged(&events, &credit, OrderState::Approved);
    let asked = [done("place"), done("pay")];
    assert_eq!(kinds(&asked, &paid_twice), [ViolationKind::Disorder]);
    let once = logged(&events[..3], &credit, OrderState::Approved);
    assert_eq!(kinds(&asked, &once), []);
}

#[test]
fn every_order_is_decided_in_the_end() {
    let waits = logged(&[placed()], &[opened()], OrderState::Pending);
    assert_eq!(kinds(&[done("place")], &waits), [ViolationKind::Lost]);
}

#[test]
fn credit_is_reserved_once_within_the_limit_for_who_needs_it() {
    let asked = [done("place")];
    let without = logged(&[placed(), approved()], &[opened()], OrderState::Approved);
    assert_eq!(kinds(&asked, &without), [ViolationKind::Unbalanced]);
    let credit = [opened(), reserved(ORDER, 30), reserved(ORDER, 30)];
    let twice = logged(&[placed(), approved()], &credit, OrderState::Approved);
    assert_eq!(kinds(&asked, &twice), [ViolationKind::Twice]);
    let credit = [opened(), reserved(ORDER, 30), reserved("o-2", 21)];
    let beyond = logged(&[placed(), approved()], &credit, OrderState::Approved);
    assert_eq!(kinds(&asked, &beyond), [ViolationKind::Unbalanced]);
}

#[test]
fn a_view_that_disagrees_is_found() {
    let credit = [opened(), reserved(ORDER, 30)];
    let old = logged(&[placed(), approved()], &credit, OrderState::Pending);
    assert_eq!(kinds(&[done("place")], &old), [ViolationKind::View]);
    let mut poor = whole();
    poor.rows.get_mut(CUSTOMER).unwrap().reserved = Money::ZERO;
    assert_eq!(kinds(&[done("place")], &poor), [ViolationKind::View]);
    let mut forgotten = whole();
    forgotten.rows.get_mut(CUSTOMER).unwrap().orders.clear();
    assert_eq!(kinds(&[done("place")], &forgotten), [ViolationKind::View]);
}
