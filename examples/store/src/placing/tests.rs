use std::time::Duration;

use everfold::testing::{Issued, issued, saga};
use everfold::{Operation, SagaEnd};

use super::*;
use crate::customer::{NoCredit, Release};
use crate::order::OrderRejection;
use crate::samples::{money, reserve};

fn order() -> Placing {
    Placing {
        order: "o-1".into(),
        customer: "c-1".into(),
        total: money("12.34"),
        reason: None,
    }
}

fn asks_for_credit() -> Issued {
    issued::<Customer>("c-1", reserve("o-1", "12.34"))
}

fn gives_back() -> Issued {
    let order = "o-1".into();
    issued::<Customer>("c-1", ReleaseCredit { order })
}

fn rejects(reason: Reason) -> Issued {
    issued::<Order>("o-1", Reject { reason })
}

#[test]
fn credit_first_then_the_approval() {
    saga(placing())
        .begins(order())
        .asks([asks_for_credit()])
        .replies("reserve credit", Credit::Reserved)
        .asks([issued::<Order>("o-1", Approve)])
        .replies("approve", OrderState::Approved)
        .ends(SagaEnd::Completed)
        .passes(Duration::from_secs(3600))
        .ends(SagaEnd::Completed);
}

#[test]
fn without_credit_the_order_is_rejected() {
    let refused = saga(placing())
        .begins(order())
        .asks([asks_for_credit()])
        .replies("reserve credit", Credit::Refused)
        .asks([rejects(Reason::InsufficientCredit)])
        .replies("placed", OrderState::Rejected)
        .ends(SagaEnd::Undone);
    assert_eq!(refused.data().reason, Some(Reason::InsufficientCredit));
    saga(placing())
        .begins(order())
        .asks([asks_for_credit()])
        .rejects("reserve credit", NoCredit::UnknownCustomer)
        .asks([rejects(Reason::UnknownCustomer)])
        .replies("placed", OrderState::Rejected)
        .ends(SagaEnd::Undone);
}

/// The weak spot of orchestrations that declare no undoing: a later step fails, and the credit stays
/// reserved for ever.
#[test]
fn an_order_that_needs_its_credit_no_more_gives_it_back() {
    let state = OrderState::Cancelled;
    saga(placing())
        .begins(order())
        .asks([asks_for_credit()])
        .replies("reserve credit", Credit::Reserved)
        .asks([issued::<Order>("o-1", Approve)])
        .rejects("approve", OrderRejection::NeedsNoCredit { state })
        .asks([gives_back()])
        .replies("reserve credit", Release::Released)
        .asks([rejects(Reason::InsufficientCredit)])
        .replies("placed", state)
        .ends(SagaEnd::Undone);
}

/// Nobody waits for ever: the order is told, and what may be reserved later is given back behind.
#[test]
fn a_customer_that_does_not_answer_in_time_means_a_rejection() {
    saga(placing())
        .begins(order())
        .asks([asks_for_credit()])
        .passes(DECISION - Duration::from_secs(1))
        .asks([])
        .passes(Duration::from_secs(2))
        .asks([gives_back(), rejects(Reason::TimedOut)])
        .replies("placed", OrderState::Rejected)
        // The late answer changes nothing; the credit comes back behind it.
        .replies("reserve credit", Credit::Reserved)
        .asks([])
        .replies("reserve credit", Release::Released)
        .ends(SagaEnd::Undone);
}

#[test]
fn a_person_decides_what_cannot_be_processed() {
    let mut stuck = saga(placing()).begins(order()).asks([asks_for_credit()]);
    for attempt in 1..=5 {
        stuck = stuck.errs("reserve credit", "broken");
        if attempt < 5 {
            stuck = stuck
                .passes(Duration::from_secs(10))
                .asks([asks_for_credit()]);
        }
    }
    stuck
        .needs_help("broken")
        .operated(Operation::Compensate)
        .asks([rejects(Reason::InsufficientCredit)])
        .replies("placed", OrderState::Rejected)
        .ends(SagaEnd::Undone);
}
