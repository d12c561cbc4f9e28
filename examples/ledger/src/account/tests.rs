use std::time::Duration;

use everfold::testing::{Spec, issued, reactor, spec};

use super::holds::MOST_HOLDS;
use super::*;
use crate::samples::{
    amount, captured, credited, debited, dispatched, expired, hold, limited, opened, placed,
    released, returned,
};

fn account() -> Spec<Account> {
    spec::<Account>().id("{branch-7}acct-42")
}

fn open(overdraft: i128) -> Open {
    Open {
        overdraft: Balance::new(overdraft),
    }
}

fn limit(overdraft: i128) -> ChangeOverdraft {
    ChangeOverdraft {
        overdraft: Balance::new(overdraft),
    }
}

fn release(hold: &str) -> Release {
    Release { hold: hold.into() }
}

fn expire(hold: &str) -> Expire {
    Expire { hold: hold.into() }
}

#[test]
fn an_account_opens_at_zero_with_a_limit() {
    let account = account().when(open(500)).then([opened(500)]).replies(());
    assert_eq!(account.state().balance(), Balance::ZERO);
    assert_eq!(account.state().available(), Balance::new(500));
    let again = account.when(open(500)).then_nothing().replies(());
    again
        .when(open(400))
        .rejected(AccountRejection::OpenedDifferently);
}

#[test]
fn a_limit_lies_between_zero_and_what_an_account_holds() {
    for bad in [-1, i128::from(i64::MAX) + 1] {
        let opened_once = account().given([opened(5)]);
        opened_once
            .when(limit(bad))
            .rejected(AccountRejection::BadOverdraft);
        account()
            .when(open(bad))
            .rejected(AccountRejection::BadOverdraft);
    }
    account()
        .when(open(i64::MAX.into()))
        .then([opened(i64::MAX.into())]);
}

#[test]
fn an_id_with_braces_that_are_no_tag_is_refused() {
    for bad in ["", "{}a", "{a", "a}", "}{", "{a}{b}", "{a}b}", "a}{b}"] {
        spec::<Account>()
            .id(bad)
            .when(open(0))
            .rejected(AccountRejection::BadId);
    }
    for good in ["acct-1", "{a}", "{a}b", "b{a}"] {
        spec::<Account>().id(good).when(open(0)).then([opened(0)]);
    }
}

#[test]
fn the_limit_changes_but_not_below_what_is_used() {
    let used = account().given([opened(500), debited("t-1", 300, "{t}b"), placed("h", 50)]);
    used.when(limit(349))
        .rejected(AccountRejection::OverdraftInUse {
            used: Balance::new(350),
        })
        .when(limit(350))
        .then([limited(350)])
        .when(limit(350))
        .then_nothing()
        .when(limit(1000))
        .then([limited(1000)]);
    account()
        .when(limit(1))
        .rejected(AccountRejection::UnknownAccount);
}

#[test]
fn an_account_closes_at_zero_without_holds_and_for_good() {
    account()
        .when(Close)
        .rejected(AccountRejection::UnknownAccount);
    let rich = account().given([opened(0), credited("t-1", 5, "{t}b")]);
    rich.when(Close).rejected(AccountRejection::NotEmpty {
        balance: Balance::new(5),
    });
    let indebted = account().given([opened(9), debited("t-1", 5, "{t}b")]);
    indebted.when(Close).rejected(AccountRejection::NotEmpty {
        balance: Balance::new(-5),
    });
    let held = account().given([opened(9), placed("h", 5)]);
    held.when(Close)
        .rejected(AccountRejection::Held { holds: 1 });
    let sent = account().given([
        opened(9),
        credited("t-1", 5, "{t}b"),
        dispatched("t-2", 5, "{u}c"),
    ]);
    sent.when(Close)
        .rejected(AccountRejection::InTransit { transfers: 1 });
    account()
        .given([opened(9), placed("h", 5), released("h", 5)])
        .when(Close)
        .then([AccountEvent::Closed])
        .when(Close)
        .then_nothing()
        .when(open(9))
        .rejected(AccountRejection::Closed)
        .when(limit(5))
        .rejected(AccountRejection::Closed)
        .when(hold("h-2", 1))
        .rejected(HoldRejection::Closed);
}

#[test]
fn a_hold_sets_aside_what_is_available_and_no_more() {
    let account = account().given([opened(50), credited("t-1", 100, "{t}b")]);
    let held = account
        .when(hold("h-1", 120))
        .then([placed("h-1", 120)])
        .replies(HoldState::Placed);
    assert_eq!(held.state().available(), Balance::new(30));
    assert_eq!(held.state().balance(), Balance::new(100));
    held.when(hold("h-2", 31))
        .rejected(HoldRejection::InsufficientFunds {
            available: Balance::new(30),
        })
        .when(hold("h-2", 30))
        .then([placed("h-2", 30)]);
    spec::<Account>()
        .when(hold("h", 1))
        .rejected(HoldRejection::UnknownAccount);
}

#[test]
fn a_hold_that_comes_again_is_placed_once() {
    account()
        .given([opened(100), placed("h", 60)])
        .when(hold("h", 60))
        .then_nothing()
        .replies(HoldState::Placed)
        .when(hold("h", 10))
        .rejected(HoldRejection::HoldIdReused);
    for (event, end) in [
        (released("h", 60), HoldEnd::Released),
        (expired("h", 60), HoldEnd::Expired),
        (
            captured("h", 60, "t-1", 10),
            HoldEnd::Captured { by: "t-1".into() },
        ),
    ] {
        account()
            .given([opened(100), placed("h", 60), event])
            .when(hold("h", 60))
            .then_nothing()
            .replies(HoldState::Ended(end.clone()))
            .when(release("h"))
            .then_nothing()
            .replies(end)
            .when(expire("h"))
            .then_nothing();
    }
}

#[test]
fn what_a_hold_set_aside_is_free_after_release_and_expiry() {
    let begun = || account().given([opened(100), placed("h", 60)]);
    let after = begun()
        .when(release("h"))
        .then([released("h", 60)])
        .replies(HoldEnd::Released);
    assert_eq!(after.state().available(), Balance::new(100));
    let after = begun().when(expire("h")).then([expired("h", 60)]);
    assert_eq!(after.state().available(), Balance::new(100));
    let paid = begun().given([captured("h", 60, "t-1", 10)]);
    assert_eq!(paid.state().available(), Balance::new(90));
    assert_eq!(paid.state().balance(), Balance::new(-10));
}

#[test]
fn an_unknown_hold_is_not_released_and_its_expiry_holds_nothing_up() {
    account()
        .given([opened(100)])
        .when(release("h"))
        .rejected(HoldRejection::UnknownHold)
        .when(expire("h"))
        .then_nothing();
    account()
        .when(release("h"))
        .rejected(HoldRejection::UnknownAccount);
}

#[test]
fn holds_are_many_within_bounds() {
    let holds = (0..MOST_HOLDS).map(|number| placed(&format!("h-{number}"), 1));
    let full = account().given([opened(5000)]).given(holds);
    full.when(hold("one-more", 1))
        .rejected(HoldRejection::TooManyHolds)
        .when(release("h-0"))
        .then([released("h-0", 1)])
        .when(hold("one-more", 1))
        .then([placed("one-more", 1)]);
}

#[test]
fn what_has_ended_is_remembered_within_bounds() {
    let limit = Recent::<HoldId, HoldEnd>::LIMIT;
    let ended = (0..=limit).flat_map(|number| {
        let hold = format!("h-{number}");
        [placed(&hold, 1), released(&hold, 1)]
    });
    account()
        .given([opened(10)])
        .given(ended)
        .when(hold("h-1", 1))
        .then_nothing()
        .when(hold("h-0", 1))
        .then([placed("h-0", 1)]);
}

#[test]
fn money_in_transit_is_gone_until_it_comes_back() {
    let sent = account().given([opened(100), dispatched("t-1", 30, "{u}c")]);
    assert_eq!(sent.state().balance(), Balance::new(-30));
    assert_eq!(sent.state().in_transit(), Balance::new(30));
    let back = sent.given([returned("t-1", 30)]);
    assert_eq!(back.state().balance(), Balance::ZERO);
    assert_eq!(back.state().in_transit(), Balance::ZERO);
}

#[test]
fn only_a_hold_that_is_to_end_by_itself_sets_a_timer_and_its_end_cancels_it() {
    let reactor_of = expire_holds();
    let on = |event| reactor(&reactor_of).on::<Account>("{t}a", event);
    let placed_for = |expires_after| AccountEvent::HoldPlaced {
        hold: "h".into(),
        amount: amount(5),
        expires_after,
    };
    let expires = issued::<Account>("{t}a", expire("h")).after("h", Duration::from_secs(90));
    assert_eq!(on(placed_for(Some(90))), [expires]);
    assert_eq!(on(placed_for(None)), []);
    for end in [released("h", 5), captured("h", 5, "t-1", 3)] {
        let cancelled = reactor(&reactor_of).cancelled_on::<Account>("{t}a", end);
        assert_eq!(cancelled, ["h"]);
    }
}
