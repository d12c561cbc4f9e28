use everfold::testing::spec;

use super::between::{Deliver, Dispatch, GiveBack};
use super::*;
use crate::samples::{
    amount, arrived, captured, credited, debited, dispatched, opened, placed, received, released,
    returned,
};

/// An account after these events.
fn account(events: impl IntoIterator<Item = AccountEvent>) -> Account {
    let mut account = Account::default();
    for event in events {
        account.evolve(&event);
    }
    account
}

fn transfer(minor: i128) -> Transfer {
    Transfer {
        transfer: "t-1".into(),
        from: "{t}a".into(),
        to: "{t}b".into(),
        amount: amount(minor),
    }
}

fn capture(minor: i128) -> Capture {
    Capture {
        transfer: "t-1".into(),
        hold: "h".into(),
        from: "{t}a".into(),
        to: "{t}b".into(),
        amount: amount(minor),
    }
}

fn dispatch(minor: i128) -> Dispatch {
    Dispatch {
        transfer: "t-1".into(),
        from: "{t}a".into(),
        to: "{u}c".into(),
        amount: amount(minor),
    }
}

fn deliver(minor: i128) -> Deliver {
    Deliver {
        transfer: "t-1".into(),
        from: "{t}a".into(),
        to: "{u}c".into(),
        amount: amount(minor),
    }
}

fn give_back() -> GiveBack {
    GiveBack {
        transfer: "t-1".into(),
        from: "{t}a".into(),
    }
}

#[test]
fn the_way_depends_on_the_tags_alone() {
    for (from, to, way) in [
        ("{t}a", "{t}b", Way::Together),
        ("{t}a", "b{t}", Way::Together),
        ("{t}a", "{u}b", Way::InTransit),
        ("{t}a", "t", Way::InTransit),
        ("a", "b", Way::InTransit),
        ("{}a", "{}b", Way::InTransit),
    ] {
        assert_eq!(Way::between(&from.into(), &to.into()), way, "{from} {to}");
    }
}

#[test]
fn a_transfer_takes_what_is_available_and_no_more() {
    let payee = account([opened(0)]);
    let payer = account([opened(50), credited("t-0", 100, "{t}b"), placed("h", 30)]);
    let available = Balance::new(120);
    assert_eq!(
        transfer(121).rule(&payer, &payee),
        Err(TransferRejection::InsufficientFunds { available })
    );
    assert_eq!(
        transfer(120).rule(&payer, &payee),
        Ok(Some(debited("t-1", 120, "{t}b")))
    );
}

#[test]
fn both_accounts_have_to_be_open() {
    let (open, closed) = (
        account([opened(100)]),
        account([opened(100), AccountEvent::Closed]),
    );
    let none = Account::default();
    for (from, to, rejection) in [
        (&none, &open, TransferRejection::UnknownPayer),
        (&closed, &open, TransferRejection::PayerClosed),
        (&open, &none, TransferRejection::UnknownPayee),
        (&open, &closed, TransferRejection::PayeeClosed),
    ] {
        assert_eq!(transfer(1).rule(from, to), Err(rejection));
    }
    assert_eq!(
        dispatch(1).rule(&none),
        Err(TransferRejection::UnknownPayer)
    );
    assert_eq!(
        dispatch(1).rule(&closed),
        Err(TransferRejection::PayerClosed)
    );
    assert_eq!(deliver(1).rule(&none), Err(TransferRejection::UnknownPayee));
    assert_eq!(
        deliver(1).rule(&closed),
        Err(TransferRejection::PayeeClosed)
    );
}

#[test]
fn the_wrong_way_and_a_way_to_oneself_are_refused() {
    let open = account([opened(100)]);
    let to_itself = Transfer {
        to: "{t}a".into(),
        ..transfer(1)
    };
    assert_eq!(
        to_itself.rule(&open, &open),
        Err(TransferRejection::SameAccount)
    );
    let apart = Transfer {
        to: "{u}c".into(),
        ..transfer(1)
    };
    assert_eq!(apart.rule(&open, &open), Err(TransferRejection::OtherWay));
    let near = Dispatch {
        to: "{t}b".into(),
        ..dispatch(1)
    };
    assert_eq!(near.rule(&open), Err(TransferRejection::OtherWay));
    let near = Deliver {
        to: "{t}b".into(),
        ..deliver(1)
    };
    assert_eq!(near.rule(&open), Err(TransferRejection::OtherWay));
    let to_itself = Dispatch {
        from: "a".into(),
        to: "a".into(),
        ..dispatch(1)
    };
    assert_eq!(to_itself.rule(&open), Err(TransferRejection::SameAccount));
}

#[test]
fn no_account_holds_more_than_fits() {
    let most = i128::from(i64::MAX);
    let rich = account([opened(most), credited("t-0", most - 5, "{t}b")]);
    let payer = account([opened(most)]);
    assert_eq!(
        transfer(6).rule(&payer, &rich),
        Err(TransferRejection::PayeeFull)
    );
    assert!(transfer(5).rule(&payer, &rich).is_ok());
    assert_eq!(deliver(6).rule(&rich), Err(TransferRejection::PayeeFull));
    // What is on its way may come back, and must fit then.
    let sender = account([
        opened(0),
        credited("t-0", most - 5, "{t}b"),
        dispatched("t-2", 3, "{u}c"),
    ]);
    assert_eq!(
        transfer(6).rule(&payer, &sender),
        Err(TransferRejection::PayeeFull)
    );
}

#[test]
fn a_transfer_that_comes_again_moves_nothing() {
    let payee = account([opened(0)]);
    let payer = account([opened(100), debited("t-1", 40, "{t}b")]);
    assert_eq!(transfer(40).rule(&payer, &payee), Ok(None));
    assert_eq!(
        transfer(41).rule(&payer, &payee),
        Err(TransferRejection::TransferIdReused)
    );
    let closed = account([
        opened(100),
        debited("t-1", 40, "{t}b"),
        credited("t-2", 40, "{t}b"),
        AccountEvent::Closed,
    ]);
    assert_eq!(transfer(40).rule(&closed, &payee), Ok(None));
    for other in [dispatched("t-1", 40, "{u}c"), captured("h", 40, "t-1", 40)] {
        let payer = account([opened(100), placed("h", 40), other]);
        assert_eq!(
            transfer(40).rule(&payer, &payee),
            Err(TransferRejection::TransferIdReused)
        );
    }
}

/// Attacks: an id names one transfer within its payer's tag. One of the same name that came from
/// elsewhere must not be in its way, nor in that of a third.
#[test]
fn names_of_other_payers_are_not_in_the_way() {
    let account = account([opened(100), received("t-1", 40, "{u}c")]);
    let payee = self::account([opened(0)]);
    assert!(matches!(transfer(40).rule(&account, &payee), Ok(Some(_))));
    let deliver = |from: &str, minor| Deliver {
        transfer: "t-1".into(),
        from: from.into(),
        to: "{t}a".into(),
        amount: amount(minor),
    };
    assert_eq!(deliver("{u}c", 40).rule(&account), Ok(None));
    let reused = Err(TransferRejection::TransferIdReused);
    assert_eq!(deliver("{u}d", 40).rule(&account), reused);
    assert!(matches!(deliver("{v}c", 7).rule(&account), Ok(Some(_))));
}

#[test]
fn a_capture_pays_out_of_a_hold_though_nothing_else_is_available() {
    let payee = account([opened(0)]);
    let payer = account([opened(100), placed("h", 60), placed("g", 40)]);
    assert_eq!(payer.available(), Balance::ZERO);
    assert_eq!(
        capture(60).rule(&payer, &payee),
        Ok(Some(captured("h", 60, "t-1", 60)))
    );
    assert_eq!(
        capture(1).rule(&payer, &payee),
        Ok(Some(captured("h", 60, "t-1", 1)))
    );
    assert_eq!(
        capture(61).rule(&payer, &payee),
        Err(TransferRejection::BeyondHold { held: amount(60) })
    );
}

#[test]
fn only_a_hold_in_place_is_captured_and_once() {
    let payee = account([opened(0)]);
    let begun = [opened(100), placed("h", 60)];
    let unknown = account([opened(100)]);
    assert_eq!(
        capture(1).rule(&unknown, &payee),
        Err(TransferRejection::UnknownHold)
    );
    let released = account(begun.iter().cloned().chain([released("h", 60)]));
    assert_eq!(
        capture(1).rule(&released, &payee),
        Err(TransferRejection::HoldEnded)
    );
    let done = account(begun.iter().cloned().chain([captured("h", 60, "t-1", 5)]));
    assert_eq!(capture(5).rule(&done, &payee), Ok(None));
    assert_eq!(
        capture(6).rule(&done, &payee),
        Err(TransferRejection::TransferIdReused)
    );
    let other = Capture {
        transfer: "t-2".into(),
        ..capture(5)
    };
    assert_eq!(other.rule(&done, &payee), Err(TransferRejection::HoldEnded));
}

#[test]
fn money_leaves_for_another_tag_once() {
    let payer = account([opened(100)]);
    assert_eq!(
        dispatch(100).rule(&payer),
        Ok(Some(dispatched("t-1", 100, "{u}c")))
    );
    let available = Balance::new(100);
    assert_eq!(
        dispatch(101).rule(&payer),
        Err(TransferRejection::InsufficientFunds { available })
    );
    let sent = account([opened(100), dispatched("t-1", 100, "{u}c")]);
    assert_eq!(dispatch(100).rule(&sent), Ok(None));
    assert_eq!(
        dispatch(99).rule(&sent),
        Err(TransferRejection::TransferIdReused)
    );
    let ended = account([opened(100), dispatched("t-1", 9, "{u}c"), arrived("t-1")]);
    assert_eq!(dispatch(9).rule(&ended), Ok(None));
    assert_eq!(
        dispatch(8).rule(&ended),
        Err(TransferRejection::TransferIdReused)
    );
    let back = account([
        opened(100),
        dispatched("t-1", 9, "{u}c"),
        returned("t-1", 9),
    ]);
    assert_eq!(dispatch(9).rule(&back), Err(TransferRejection::TakenBack));
}

#[test]
fn money_comes_to_the_payee_once() {
    let payee = account([opened(0)]);
    assert_eq!(
        deliver(7).rule(&payee),
        Ok(Some(received("t-1", 7, "{t}a")))
    );
    let paid = account([opened(0), received("t-1", 7, "{t}a")]);
    assert_eq!(deliver(7).rule(&paid), Ok(None));
    assert_eq!(
        deliver(8).rule(&paid),
        Err(TransferRejection::TransferIdReused)
    );
}

#[test]
fn money_comes_back_exactly_if_it_had_left() {
    let sent = account([opened(100), dispatched("t-1", 9, "{u}c")]);
    assert_eq!(give_back().rule(&sent), Ok(Some(returned("t-1", 9))));
    let back = account([
        opened(100),
        dispatched("t-1", 9, "{u}c"),
        returned("t-1", 9),
    ]);
    assert_eq!(give_back().rule(&back), Ok(None));
    let arrived = account([opened(100), dispatched("t-1", 9, "{u}c"), arrived("t-1")]);
    assert_eq!(give_back().rule(&arrived), Err(NotDelivered::Ended));
    // Asked back before it left: then it does not leave any more.
    let forgone = AccountEvent::Forgone {
        transfer: "t-1".into(),
    };
    let fresh = account([opened(100)]);
    assert_eq!(give_back().rule(&fresh), Ok(Some(forgone.clone())));
    let never = account([opened(100), forgone]);
    assert_eq!(dispatch(9).rule(&never), Err(TransferRejection::TakenBack));
    assert_eq!(give_back().rule(&never), Ok(None));
}

#[test]
fn what_is_in_transit_is_known_however_much_passes_in_between() {
    let others = (0..200).map(|number| credited(&format!("o-{number}"), 1, "{t}b"));
    let events = [opened(100), dispatched("t-1", 9, "{u}c")];
    let busy = account(events.into_iter().chain(others));
    assert_eq!(give_back().rule(&busy), Ok(Some(returned("t-1", 9))));
    assert_eq!(dispatch(9).rule(&busy), Ok(None));
}

#[test]
fn the_payer_is_told_of_an_arrival_once() {
    let settle = || Settle {
        transfer: "t-1".into(),
    };
    spec::<Account>()
        .given([opened(100), dispatched("t-1", 9, "{u}c")])
        .when(settle())
        .then([arrived("t-1")])
        .replies(TransferState::Completed)
        .when(settle())
        .then_nothing();
}
