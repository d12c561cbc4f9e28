use serde_json::json;

use super::*;

const BRANCH: &str = "{b}";

fn moved(transfer: &str, from: &str, to: &str, amount: i64) -> Moved {
    Moved {
        transfer: transfer.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
        amount,
    }
}

fn asked(f: &str, asked: Value, outcome: Outcome, span: (usize, usize)) -> Operation {
    let ended = (outcome != Outcome::Unknown).then_some(span.1);
    Operation {
        process: 0,
        f: f.to_owned(),
        key: BRANCH.to_owned(),
        asked,
        outcome,
        begun: span.0,
        ended,
        begun_at: span.0 as u64,
        ended_at: ended.map(|at| at as u64),
    }
}

fn transfer(moved: &Moved, outcome: Outcome, span: (usize, usize)) -> Operation {
    asked("transfer", json!(moved), outcome, span)
}

fn done() -> Outcome {
    Outcome::Done(Value::Null)
}

fn balance(a: i64, b: i64, span: (usize, usize)) -> Operation {
    let seen = json!({"a": a, "b": b});
    asked("balance", Value::Null, Outcome::Done(seen), span)
}

fn logged(moved: &[&Moved]) -> Logged {
    let moved = moved.iter().copied().cloned().collect();
    Logged {
        moved: BTreeMap::from([(BRANCH.to_owned(), moved)]),
        fault: None,
    }
}

fn kinds(operations: &[Operation], logged: &Logged) -> Vec<ViolationKind> {
    let found = check(operations, logged);
    found.iter().map(|violation| violation.kind).collect()
}

#[test]
fn what_was_acknowledged_is_there_once() {
    let one = moved("t1", "a", "b", 5);
    let asked = [transfer(&one, done(), (0, 1))];
    assert_eq!(kinds(&asked, &logged(&[&one])), []);
    assert_eq!(kinds(&asked, &logged(&[])), [ViolationKind::Lost]);
    let twice = logged(&[&one, &one]);
    assert_eq!(kinds(&asked, &twice), [ViolationKind::Twice]);
    let other = moved("t1", "a", "b", 6);
    assert_eq!(kinds(&asked, &logged(&[&other])), [ViolationKind::Disorder]);
    assert_eq!(kinds(&[], &logged(&[&one])), [ViolationKind::Disorder]);
}

#[test]
fn what_was_refused_is_not_there_and_what_is_unknown_may_be() {
    let one = moved("t1", "a", "b", 5);
    let refused = [transfer(&one, Outcome::Refused, (0, 1))];
    assert_eq!(kinds(&refused, &logged(&[])), []);
    let there = logged(&[&one]);
    assert_eq!(kinds(&refused, &there), [ViolationKind::Resurrected]);
    let unknown = [transfer(&one, Outcome::Unknown, (0, 1))];
    assert_eq!(kinds(&unknown, &logged(&[])), []);
    assert_eq!(kinds(&unknown, &there), []);
}

#[test]
fn a_read_sees_one_moment_and_no_old_one() {
    let (one, two) = (moved("t1", "a", "b", 5), moved("t2", "b", "a", 2));
    let there = logged(&[&one, &two]);
    let with = |read: Operation| {
        let first = transfer(&one, done(), (0, 1));
        let second = transfer(&two, done(), (4, 7));
        kinds(&[first, second, read], &there)
    };
    let stale = [ViolationKind::NotLinearizable];
    // Before both: only beside the first.
    assert_eq!(with(balance(0, 0, (2, 3))), stale);
    assert_eq!(with(balance(-5, 5, (2, 3))), []);
    assert_eq!(with(balance(-3, 3, (2, 3))), stale, "not begun yet");
    assert_eq!(with(balance(-3, 3, (5, 6))), []);
    assert_eq!(with(balance(-5, 5, (5, 6))), []);
    assert_eq!(with(balance(-5, 5, (8, 9))), stale);
    // At no moment.
    assert_eq!(with(balance(2, -2, (5, 6))), stale);
    assert_eq!(with(balance(-5, 6, (5, 6))), [ViolationKind::Unbalanced]);
}

#[test]
fn a_read_is_not_older_than_one_before_it() {
    let (one, two) = (moved("t1", "a", "b", 5), moved("t2", "b", "a", 2));
    let there = logged(&[&one, &two]);
    let unknown = |it| transfer(it, Outcome::Unknown, (0, 0));
    let reads = |first, second| [unknown(&one), unknown(&two), first, second];
    let right = reads(balance(-5, 5, (1, 2)), balance(-3, 3, (3, 4)));
    assert_eq!(kinds(&right, &there), []);
    let back = reads(balance(-3, 3, (1, 2)), balance(-5, 5, (3, 4)));
    assert_eq!(kinds(&back, &there), [ViolationKind::NotLinearizable]);
}

#[test]
fn a_fault_that_the_audit_found_is_one() {
    let logged = Logged {
        fault: Some("debits are not credits".to_owned()),
        ..Logged::default()
    };
    assert_eq!(kinds(&[], &logged), [ViolationKind::Unbalanced]);
}
