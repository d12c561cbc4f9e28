use everfold::testing::{Spec, spec};

use super::*;
use crate::samples::{
    approved, cancel_requested, cancelled, money, paid, place, placed, rejected, shipped,
};

const TOTAL: &str = "12.34";

fn order(history: impl IntoIterator<Item = OrderEvent>) -> Spec<Order> {
    spec::<Order>().given([placed(TOTAL)]).given(history)
}

/// Every state that an order can be in, with a history that leads there.
fn everywhere() -> Vec<(OrderState, Vec<OrderEvent>)> {
    vec![
        (OrderState::Pending, vec![]),
        (OrderState::CancelPending, vec![cancel_requested()]),
        (OrderState::Approved, vec![approved(TOTAL)]),
        (OrderState::Approved, vec![approved(TOTAL), paid(TOTAL)]),
        (OrderState::Shipped, vec![approved(TOTAL), shipped(TOTAL)]),
        (
            OrderState::Shipped,
            vec![approved(TOTAL), shipped(TOTAL), paid(TOTAL)],
        ),
        (
            OrderState::Rejected,
            vec![rejected(Reason::InsufficientCredit)],
        ),
        (
            OrderState::Cancelled,
            vec![approved(TOTAL), cancelled(true)],
        ),
        (
            OrderState::Cancelled,
            vec![cancel_requested(), cancelled(false)],
        ),
    ]
}

fn no_credit() -> Reject {
    Reject {
        reason: Reason::InsufficientCredit,
    }
}

const CARD: Pay = Pay {
    method: PaymentMethod::Card,
};

#[test]
fn an_order_waits_for_its_credit_from_the_start() {
    spec::<Order>()
        .when(place(TOTAL))
        .then([placed(TOTAL)])
        .replies(OrderState::Pending);
}

#[test]
fn the_customers_credit_decides_an_order() {
    order([])
        .when(Approve)
        .then([approved(TOTAL)])
        .replies(OrderState::Approved);
    let refused = order([])
        .when(no_credit())
        .then([rejected(Reason::InsufficientCredit)])
        .replies(OrderState::Rejected);
    assert_eq!(refused.state().reason(), Some(Reason::InsufficientCredit));
}

#[test]
fn a_late_decision_changes_no_order_that_is_decided() {
    for (state, history) in everywhere() {
        if matches!(state, OrderState::Pending | OrderState::CancelPending) {
            continue;
        }
        order(history.clone())
            .when(no_credit())
            .then_nothing()
            .replies(state);
        let order = order(history).when(Approve);
        let holds_credit = matches!(state, OrderState::Approved | OrderState::Shipped)
            && order.state().payment().is_none();
        if holds_credit {
            order.then_nothing().replies(state);
        } else {
            order.rejected(OrderRejection::NeedsNoCredit { state });
        }
    }
}

#[test]
fn a_pending_order_is_cancelled_when_its_decision_comes() {
    let waiting = || {
        order([])
            .when(Cancel)
            .then([cancel_requested()])
            .replies(OrderState::CancelPending)
            .when(Cancel)
            .then_nothing()
            .replies(OrderState::CancelPending)
    };
    waiting()
        .when(Approve)
        .then([cancelled(true)])
        .replies(OrderState::Cancelled);
    waiting()
        .when(no_credit())
        .then([cancelled(false)])
        .replies(OrderState::Cancelled);
}

#[test]
fn an_approved_order_is_cancelled_at_once() {
    order([approved(TOTAL)])
        .when(Cancel)
        .then([cancelled(true)])
        .replies(OrderState::Cancelled);
}

#[test]
fn what_cannot_be_cancelled_says_where_it_stands() {
    for state in [
        OrderState::Shipped,
        OrderState::Rejected,
        OrderState::Cancelled,
    ] {
        for (_, history) in everywhere()
            .into_iter()
            .filter(|(other, _)| *other == state)
        {
            order(history)
                .when(Cancel)
                .rejected(OrderRejection::NotCancellable { state });
        }
    }
    order([approved(TOTAL), paid(TOTAL)])
        .when(Cancel)
        .rejected(OrderRejection::AlreadyPaid);
}

#[test]
fn only_approved_orders_are_shipped_and_once() {
    for (state, history) in everywhere() {
        let order = order(history).when(Ship);
        match state {
            OrderState::Approved => {
                order.then([shipped(TOTAL)]).replies(OrderState::Shipped);
            }
            OrderState::Shipped => {
                order.then_nothing().replies(OrderState::Shipped);
            }
            state => {
                order.rejected(OrderRejection::NotShippable { state });
            }
        }
    }
}

#[test]
fn an_order_is_paid_once_before_or_after_it_is_shipped() {
    for (state, history) in everywhere() {
        let order = order(history);
        let was_paid = order.state().payment().is_some();
        let order = order.when(CARD);
        match state {
            _ if was_paid => {
                order.rejected(OrderRejection::AlreadyPaid);
            }
            OrderState::Approved | OrderState::Shipped => {
                let order = order.then([paid(TOTAL)]).replies(state);
                assert_eq!(order.state().payment(), Some(PaymentMethod::Card));
            }
            state => {
                order.rejected(OrderRejection::NotPayable { state });
            }
        }
    }
}

#[test]
fn placing_again_changes_nothing_or_is_refused() {
    for (state, history) in everywhere() {
        order(history.clone())
            .when(place(TOTAL))
            .then_nothing()
            .replies(state);
        order(history)
            .when(place("12.35"))
            .rejected(OrderRejection::PlacedDifferently);
    }
    let elsewhere = Place {
        delivery: "2 Side Street".into(),
        ..place(TOTAL)
    };
    order([])
        .when(elsewhere)
        .rejected(OrderRejection::PlacedDifferently);
}

#[test]
fn totals_below_zero_are_refused_and_zero_is_not() {
    let worth = |total: &str| Place {
        items: vec![],
        total: money(total),
        ..place(TOTAL)
    };
    spec::<Order>()
        .when(worth("-0.01"))
        .rejected(OrderRejection::NegativeTotal);
    spec::<Order>()
        .when(worth("0.00"))
        .replies(OrderState::Pending);
}

#[test]
fn items_add_up_to_the_total() {
    let less = Place {
        total: money("12.33"),
        ..place(TOTAL)
    };
    spec::<Order>()
        .when(less)
        .rejected(OrderRejection::WrongTotal);
    let item = Item {
        name: "all there is".into(),
        quantity: 1,
        amount: Money::MAX,
    };
    let endless = Place {
        items: vec![item.clone(), item],
        ..place(TOTAL)
    };
    spec::<Order>()
        .when(endless)
        .rejected(OrderRejection::WrongTotal);
}

#[test]
fn an_order_that_was_never_placed_refuses_everything() {
    let nothing = spec::<Order>;
    nothing()
        .when(Approve)
        .rejected(OrderRejection::UnknownOrder);
    nothing()
        .when(no_credit())
        .rejected(OrderRejection::UnknownOrder);
    nothing().when(Ship).rejected(OrderRejection::UnknownOrder);
    nothing().when(CARD).rejected(OrderRejection::UnknownOrder);
    nothing()
        .when(Cancel)
        .rejected(OrderRejection::UnknownOrder);
}

#[test]
fn a_state_is_shown_as_it_is_stored() {
    for (state, _) in everywhere() {
        assert_eq!(serde_json::to_value(state).unwrap(), state.to_string());
    }
}

#[test]
fn an_order_keeps_what_was_asked_for() {
    let order = order([approved(TOTAL)]);
    assert_eq!(order.state().placed(), Some(&place(TOTAL)));
    assert_eq!(order.state().state(), OrderState::Approved);
}

#[test]
fn every_event_survives_the_log() {
    let every = [
        placed(TOTAL),
        approved(TOTAL),
        rejected(Reason::CustomerClosed),
        cancel_requested(),
        cancelled(true),
        shipped(TOTAL),
        paid(TOTAL),
    ];
    assert_eq!(every.len(), OrderEvent::SCHEMAS.len());
    let _ = spec::<Order>().given(every);
}
