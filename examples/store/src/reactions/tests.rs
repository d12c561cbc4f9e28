use everfold::testing::{at, commands, issued, reactor};

use super::*;
use crate::samples::{
    approved, cancel_requested, cancelled, opened, paid, placed, refused, rejected, released,
    reserve, reserved, shipped,
};

fn reject(reason: Reason) -> Reject {
    Reject { reason }
}

fn release(order: &str) -> ReleaseCredit {
    ReleaseCredit {
        order: order.into(),
    }
}

#[test]
fn a_placed_order_asks_its_customer_for_credit() {
    assert_eq!(
        reactor(&reserve_credit()).on::<Order>("o-1", placed("12.34")),
        [issued::<Customer>("c-1", reserve("o-1", "12.34"))]
    );
}

#[test]
fn without_a_customer_to_ask_the_order_is_rejected() {
    let placed = at::<Order>("o-1", 1, &placed("12.34"));
    let cases = [
        (NoCredit::UnknownCustomer, Reason::UnknownCustomer),
        (NoCredit::CustomerClosed, Reason::CustomerClosed),
        (NoCredit::NegativeTotal, Reason::NegativeTotal),
    ];
    for (refused, reason) in cases {
        assert_eq!(
            commands(reject_order(refused, &placed)),
            [issued::<Order>("o-1", reject(reason))]
        );
    }
}

#[test]
fn the_customers_answer_decides_the_order() {
    let decide = decide_order();
    assert_eq!(
        reactor(&decide).on::<Customer>("c-1", reserved("o-1", "12.34")),
        [issued::<Order>("o-1", Approve)]
    );
    assert_eq!(
        reactor(&decide).on::<Customer>("c-1", refused("o-1", "12.34")),
        [issued::<Order>("o-1", reject(Reason::InsufficientCredit))]
    );
}

#[test]
fn an_order_that_needs_no_credit_gives_it_back() {
    let reserved = at::<Customer>("c-1", 2, &reserved("o-1", "12.34"));
    assert_eq!(
        commands(give_back(&"o-1".into(), &reserved)),
        [issued::<Customer>("c-1", release("o-1"))]
    );
}

#[test]
fn payment_and_cancellation_release_what_is_reserved() {
    for event in [paid("12.34"), cancelled(true)] {
        assert_eq!(
            reactor(&release_credit()).on::<Order>("o-1", event),
            [issued::<Customer>("c-1", release("o-1"))]
        );
    }
}

#[test]
fn nothing_follows_from_the_rest() {
    let silent = [
        approved("12.34"),
        rejected(Reason::InsufficientCredit),
        cancel_requested(),
        cancelled(false),
        shipped("12.34"),
    ];
    for event in silent {
        assert_eq!(
            reactor(&reserve_credit()).on::<Order>("o-1", event.clone()),
            []
        );
        assert_eq!(reactor(&release_credit()).on::<Order>("o-1", event), []);
    }
    for event in [
        opened("15.00"),
        released("o-1", "12.34"),
        CustomerEvent::Closed,
    ] {
        assert_eq!(reactor(&decide_order()).on::<Customer>("c-1", event), []);
    }
}

#[test]
fn an_order_has_to_be_decided_in_time() {
    let timeout = issued::<Order>("o-1", reject(Reason::TimedOut));
    assert_eq!(
        reactor(&time_out()).on::<Order>("o-1", placed("12.34")),
        [timeout.after("decision", DECISION)],
    );
    for decided in [approved("12.34"), rejected(Reason::InsufficientCredit)] {
        let cancelled = reactor(&time_out()).cancelled_on::<Order>("o-1", decided);
        assert_eq!(cancelled, ["decision"]);
    }
}
