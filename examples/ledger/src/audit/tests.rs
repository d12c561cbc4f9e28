use everfold::engine::EntityKey;
use everfold::engine::record::{Kind, Local, Portable, Unit};
use everfold::{Entity, Event};

use super::*;
use crate::samples::{
    amount, captured, credited, debited, dispatched, opened, placed, received, released, returned,
};

/// A unit as the log holds it: what happened to whom.
fn unit(events: &[(&str, Happened)]) -> Vec<Record> {
    let count = events.len() as u32;
    let records = (0..).zip(events).map(|(index, (id, event))| {
        let mut payload = Vec::new();
        let (kind, name) = match event {
            Happened::Account(event) => {
                event.encode(&mut payload).unwrap();
                (Account::NAME, event.event_type())
            }
            Happened::Transit(event) => {
                event.encode(&mut payload).unwrap();
                (Transit::NAME, event.event_type())
            }
        };
        let mut portable = Portable::new(EntityKey::new(kind, *id), name);
        portable.payload = payload.into();
        portable.unit = Unit { index, count };
        let local = Local {
            offset: Offset(1),
            version: 1,
            epoch: 1,
            batch: 1,
            stamp: Default::default(),
            reply: None,
            link: Default::default(),
        };
        Record {
            kind: Kind::Event,
            portable,
            local,
        }
    });
    records.collect()
}

enum Happened {
    Account(AccountEvent),
    Transit(TransitEvent),
}
use Happened::Account as A;
use Happened::Transit as T;

fn taken_in(transfer: &str, minor: i128) -> Happened {
    T(TransitEvent::TakenIn {
        transfer: transfer.into(),
        amount: amount(minor),
        from: "{t}a".into(),
    })
}

fn paid_out(transfer: &str, minor: i128) -> Happened {
    T(TransitEvent::PaidOut {
        transfer: transfer.into(),
        amount: amount(minor),
        from: "{t}a".into(),
        to: "{u}c".into(),
    })
}

fn given_back(transfer: &str, minor: i128) -> Happened {
    T(TransitEvent::GivenBack {
        transfer: transfer.into(),
        amount: amount(minor),
        to: "{t}a".into(),
    })
}

/// Three accounts, each of which may go to -100.
fn begun() -> Vec<Record> {
    let accounts = ["{t}a", "{t}b", "{u}c"];
    let opened = accounts.map(|id| unit(&[(id, A(opened(100)))]));
    opened.concat()
}

fn after(units: &[Vec<Record>]) -> Result<Audited, Fault> {
    audit(&[begun(), units.concat()].concat())
}

fn paid(transfer: &str, minor: i128) -> Vec<Record> {
    unit(&[
        ("{t}a", A(debited(transfer, minor, "{t}b"))),
        ("{t}b", A(credited(transfer, minor, "{t}a"))),
    ])
}

fn sent(transfer: &str, minor: i128) -> Vec<Record> {
    unit(&[
        ("{t}a", A(dispatched(transfer, minor, "{u}c"))),
        ("{t}in-transit", taken_in(transfer, minor)),
    ])
}

fn delivered(transfer: &str, minor: i128) -> Vec<Record> {
    unit(&[
        ("{u}in-transit", paid_out(transfer, minor)),
        ("{u}c", A(received(transfer, minor, "{t}a"))),
    ])
}

fn back(transfer: &str, minor: i128) -> Vec<Record> {
    unit(&[
        ("{t}in-transit", given_back(transfer, minor)),
        ("{t}a", A(returned(transfer, minor))),
    ])
}

#[test]
fn a_ledger_that_keeps_its_promises_is_summed_up() {
    let capture = unit(&[
        ("{t}a", A(captured("h", 20, "t-4", 15))),
        ("{t}b", A(credited("t-4", 15, "{t}a"))),
    ]);
    let found = after(&[
        paid("t-1", 50),
        sent("t-2", 20),
        delivered("t-2", 20),
        sent("t-3", 5),
        back("t-3", 5),
        unit(&[("{t}a", A(placed("h", 20)))]),
        capture,
        sent("t-5", 9),
    ]);
    let expected = Audited {
        debits: Balance::new(50 + 2 * 20 + 2 * 5 + 15 + 9),
        credits: Balance::new(50 + 2 * 20 + 2 * 5 + 15 + 9),
        sum: Balance::ZERO,
        in_transit: Balance::new(9),
        transfers: 3,
        between_tags: 1,
        on_their_way: 1,
        accounts: 3,
        closed: 0,
        units: 11,
    };
    assert_eq!(found, Ok(expected));
}

#[test]
fn partitions_may_be_read_in_any_order() {
    let payee_first = after(&[delivered("t-2", 20), sent("t-2", 20)]);
    let payer_first = after(&[sent("t-2", 20), delivered("t-2", 20)]);
    assert_eq!(payee_first, payer_first);
}

#[test]
fn a_unit_that_makes_or_loses_money_is_found() {
    let lost = unit(&[("{t}a", A(debited("t-1", 5, "{t}b")))]);
    assert!(matches!(after(&[lost]), Err(Fault::Unbalanced { .. })));
    let made = unit(&[
        ("{t}a", A(debited("t-1", 5, "{t}b"))),
        ("{t}b", A(credited("t-1", 6, "{t}a"))),
    ]);
    assert!(after(&[made]).is_err());
    let apart = [
        unit(&[("{t}a", A(debited("t-1", 5, "{t}b")))]),
        unit(&[("{t}b", A(credited("t-1", 5, "{t}a")))]),
    ];
    assert!(matches!(after(&apart), Err(Fault::Unbalanced { .. })));
}

#[test]
fn an_account_past_its_limit_is_found_though_it_comes_back() {
    assert!(after(&[paid("t-1", 100)]).is_ok());
    let restored = unit(&[
        ("{t}b", A(debited("t-2", 50, "{t}a"))),
        ("{t}a", A(credited("t-2", 50, "{t}b"))),
    ]);
    let past = after(&[paid("t-1", 101), restored]);
    assert!(matches!(past, Err(Fault::PastLimit { .. })), "{past:?}");
    let held = after(&[unit(&[("{t}a", A(placed("h", 60)))]), paid("t-1", 41)]);
    assert!(matches!(held, Err(Fault::PastLimit { .. })), "{held:?}");
    let limited = unit(&[("{t}a", A(crate::samples::limited(10)))]);
    let lowered = after(&[paid("t-1", 11), limited]);
    assert!(matches!(lowered, Err(Fault::PastLimit { .. })));
}

#[test]
fn a_transfer_that_moves_money_twice_is_found() {
    let twice = [
        [paid("t-1", 5), paid("t-1", 5)],
        [sent("t-1", 5), sent("t-1", 5)],
        [delivered("t-1", 5), delivered("t-1", 5)],
        [sent("t-1", 5), delivered("t-1", 6)],
    ];
    for units in twice {
        let found = after(&units);
        assert!(matches!(found, Err(Fault::Twice { .. })), "{found:?}");
    }
}

#[test]
fn two_payers_may_choose_the_same_id() {
    let other = unit(&[
        ("{t}b", A(debited("t-1", 7, "{t}a"))),
        ("{t}a", A(credited("t-1", 7, "{t}b"))),
    ]);
    let found = after(&[paid("t-1", 5), other]).unwrap();
    assert_eq!(found.transfers, 2);
}

#[test]
fn money_that_comes_without_having_left_or_to_both_is_found() {
    let unfounded = [
        vec![delivered("t-1", 5)],
        vec![back("t-1", 5)],
        vec![sent("t-1", 5), delivered("t-1", 5), back("t-1", 5)],
    ];
    for units in unfounded {
        let found = after(&units);
        assert!(matches!(found, Err(Fault::Unfounded { .. })), "{found:?}");
    }
}

#[test]
fn accounts_are_used_only_while_they_are_open() {
    let unknown = unit(&[
        ("{t}a", A(debited("t-1", 5, "{t}z"))),
        ("{t}z", A(credited("t-1", 5, "{t}a"))),
    ]);
    assert!(matches!(after(&[unknown]), Err(Fault::NotOpen { .. })));
    let closed = unit(&[("{t}b", A(AccountEvent::Closed))]);
    let paid_later = after(&[closed.clone(), paid("t-1", 5)]);
    assert!(matches!(paid_later, Err(Fault::NotOpen { .. })));
    let again = unit(&[("{t}b", A(opened(100)))]);
    let reopened = after(&[closed, again]);
    assert!(matches!(reopened, Err(Fault::NotOpen { .. })));
}

#[test]
fn holds_end_once_and_as_they_were_placed() {
    let place = || unit(&[("{t}a", A(placed("h", 20)))]);
    let release = |held| unit(&[("{t}a", A(released("h", held)))]);
    assert!(after(&[place(), release(20)]).is_ok());
    for units in [
        vec![release(20)],
        vec![place(), place()],
        vec![place(), release(19)],
        vec![place(), release(20), release(20)],
    ] {
        let found = after(&units);
        assert!(matches!(found, Err(Fault::Hold { .. })), "{found:?}");
    }
}

#[test]
fn history_with_holes_is_refused() {
    let cut = paid("t-1", 5).remove(1);
    assert!(matches!(after(&[vec![cut]]), Err(Fault::CutUnit { .. })));
    let begun_only = vec![paid("t-1", 5).remove(0)];
    let cut_at_the_end = after(std::slice::from_ref(&begun_only));
    assert!(matches!(cut_at_the_end, Err(Fault::CutUnit { .. })));
    let cut_between = after(&[begun_only, paid("t-2", 5)]);
    assert!(matches!(cut_between, Err(Fault::CutUnit { .. })));
    let mut baseline = paid("t-1", 5).remove(0);
    baseline.kind = Kind::Baseline;
    assert!(matches!(
        after(&[vec![baseline]]),
        Err(Fault::Trimmed { .. })
    ));
    let mut strange = paid("t-1", 5).remove(0);
    strange.portable.payload = "{}".into();
    assert!(matches!(
        after(&[vec![strange]]),
        Err(Fault::Unreadable { .. })
    ));
}
