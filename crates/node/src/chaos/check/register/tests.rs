//! Histories that are right, and histories that are not.

use everfold_world::Random;
use serde_json::json;

use super::*;
use crate::chaos::history::{Entry, Kind, operations};

/// Lines of a history of the key `k`, one after the other.
#[derive(Default)]
struct Lines(Vec<Entry>);

impl Lines {
    fn line(mut self, process: u64, kind: Kind, f: &str, value: Value) -> Self {
        self.0.push(Entry {
            process,
            kind,
            f: f.to_owned(),
            key: "k".to_owned(),
            value,
            time: self.0.len() as u64 * 1_000_000,
            error: None,
        });
        self
    }

    fn begin(self, process: u64, f: &str, value: Value) -> Self {
        self.line(process, Kind::Invoke, f, value)
    }

    fn done(self, process: u64, f: &str, value: Value) -> Self {
        self.line(process, Kind::Ok, f, value)
    }

    /// From the beginning to the end, with nothing beside it.
    fn whole(self, process: u64, f: &str, value: Value) -> Self {
        let asked = match f {
            "read" => Value::Null,
            _ => value.clone(),
        };
        self.begin(process, f, asked).done(process, f, value)
    }

    fn unknown(self, process: u64, f: &str, value: Value) -> Self {
        let begun = self.begin(process, f, value.clone());
        begun.line(process, Kind::Info, f, value)
    }

    fn refused(self, process: u64, f: &str, value: Value) -> Self {
        let begun = self.begin(process, f, value.clone());
        begun.line(process, Kind::Fail, f, value)
    }

    fn found(&self) -> Vec<ViolationKind> {
        let found = check(&operations(&self.0).unwrap());
        found.iter().map(|violation| violation.kind).collect()
    }

    #[track_caller]
    fn holds(&self) {
        assert_eq!(check(&operations(&self.0).unwrap()), []);
    }

    #[track_caller]
    fn is_broken(&self) {
        assert_eq!(self.found(), [ViolationKind::NotLinearizable]);
    }
}

fn lines() -> Lines {
    Lines::default()
}

#[test]
fn what_is_done_one_after_the_other_is_seen() {
    lines()
        .whole(0, "read", Value::Null)
        .whole(0, "write", json!(3))
        .whole(1, "read", json!(3))
        .whole(1, "cas", json!([3, 4]))
        .whole(0, "read", json!(4))
        .holds();
}

#[test]
fn a_lost_write_is_found() {
    lines()
        .whole(0, "write", json!(1))
        .whole(0, "write", json!(2))
        .whole(1, "read", json!(1))
        .is_broken();
    lines()
        .whole(0, "write", json!(1))
        .whole(1, "read", Value::Null)
        .is_broken();
}

#[test]
fn a_stale_read_is_found_though_others_are_under_way() {
    // One has seen the new number, another one after it sees the old one.
    lines()
        .whole(0, "write", json!(1))
        .begin(0, "write", json!(2))
        .whole(1, "read", json!(2))
        .whole(2, "read", json!(1))
        .done(0, "write", json!(2))
        .is_broken();
    lines()
        .whole(0, "write", json!(1))
        .begin(0, "write", json!(2))
        .whole(1, "read", json!(1))
        .whole(2, "read", json!(2))
        .done(0, "write", json!(2))
        .holds();
}

#[test]
fn two_who_set_on_one_condition_are_found() {
    lines()
        .whole(0, "write", json!(1))
        .begin(0, "cas", json!([1, 2]))
        .begin(1, "cas", json!([1, 3]))
        .done(0, "cas", json!([1, 2]))
        .done(1, "cas", json!([1, 3]))
        .is_broken();
    lines()
        .whole(0, "write", json!(1))
        .begin(0, "cas", json!([1, 2]))
        .begin(1, "cas", json!([2, 3]))
        .done(1, "cas", json!([2, 3]))
        .done(0, "cas", json!([1, 2]))
        .holds();
}

#[test]
fn an_unknown_write_may_come_late_once_or_never() {
    let unknown = || {
        lines()
            .whole(0, "write", json!(1))
            .unknown(1, "write", json!(7))
    };
    unknown().whole(2, "read", json!(1)).holds();
    let late = unknown()
        .whole(2, "read", json!(1))
        .whole(2, "write", json!(2))
        .whole(2, "read", json!(7));
    late.holds();
    // It comes once.
    late.whole(2, "write", json!(3))
        .whole(2, "read", json!(7))
        .is_broken();
    // Not before it was asked for.
    lines()
        .whole(0, "read", json!(7))
        .unknown(1, "write", json!(7))
        .is_broken();
    // A number that nobody has written.
    unknown().whole(2, "read", json!(8)).is_broken();
}

#[test]
fn two_unknown_writes_of_one_number_may_both_come() {
    let twice = lines()
        .unknown(1, "write", json!(7))
        .unknown(2, "write", json!(7))
        .whole(3, "read", json!(7))
        .whole(3, "write", json!(1))
        .whole(3, "read", json!(7))
        .whole(3, "write", json!(2));
    twice.holds();
}

#[test]
fn what_was_refused_has_not_happened() {
    lines()
        .whole(0, "write", json!(1))
        .refused(0, "write", json!(2))
        .whole(1, "read", json!(1))
        .holds();
    lines()
        .whole(0, "write", json!(1))
        .refused(0, "cas", json!([1, 2]))
        .whole(1, "read", json!(2))
        .is_broken();
}

#[test]
fn keys_are_judged_one_by_one() {
    let mut broken = lines()
        .whole(0, "write", json!(1))
        .whole(1, "read", json!(2));
    for entry in &mut broken.0 {
        entry.key = "l".to_owned();
    }
    let right = lines()
        .whole(0, "write", json!(1))
        .whole(1, "read", json!(1));
    broken.0.extend(right.0);
    let found = check(&operations(&broken.0).unwrap());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].key, "l");
    assert!(
        found[0].what.contains("process 1: read l -> 2"),
        "{found:?}"
    );
}

#[test]
fn a_search_that_is_given_up_says_so() {
    let history = lines()
        .whole(0, "write", json!(1))
        .whole(0, "write", json!(2));
    let found = check_within(&operations(&history.0).unwrap(), 1);
    assert_eq!(found[0].kind, ViolationKind::Undecided);
}

#[test]
fn a_history_of_something_else_is_not_judged() {
    let found = lines().whole(0, "transfer", json!(1)).found();
    assert_eq!(found, [ViolationKind::Unreadable]);
    let found = lines().whole(0, "write", json!("one")).found();
    assert_eq!(found, [ViolationKind::Unreadable]);
}

/// A history that a true register would give: each operation takes effect at some moment between its
/// beginning and its end; of those without a known end some do so later, some never.
fn true_history(random: &mut Random, steps: usize, clients: u64) -> Lines {
    #[derive(Clone)]
    struct Open {
        process: u64,
        f: &'static str,
        asked: Value,
        result: Option<Value>,
    }
    fn apply(held: &mut Option<i64>, open: &mut Open) -> bool {
        let number = |value: &Value| value.as_i64().unwrap();
        let result = match open.f {
            "read" => held.map_or(Value::Null, Value::from),
            "write" => {
                *held = Some(number(&open.asked));
                open.asked.clone()
            }
            _ => {
                if *held != Some(number(&open.asked[0])) {
                    return false;
                }
                *held = Some(number(&open.asked[1]));
                open.asked.clone()
            }
        };
        open.result = Some(result);
        true
    }
    let (mut lines, mut held) = (lines(), None);
    let mut clients: Vec<Option<Open>> = vec![None; clients as usize];
    let mut lost: Vec<Open> = Vec::new();
    let mut next = clients.len() as u64;
    let mut numbers: Vec<u64> = (0..next).collect();
    for _ in 0..steps {
        let client = random.index(clients.len());
        match clients[client].take() {
            None => {
                let mut draw = || json!(random.below(5));
                let (f, asked) = match draw().as_u64() {
                    Some(0 | 1) => ("read", Value::Null),
                    Some(2) => ("write", draw()),
                    _ => ("cas", json!([draw(), draw()])),
                };
                let process = numbers[client];
                lines = lines.begin(process, f, asked.clone());
                clients[client] = Some(Open {
                    process,
                    f,
                    asked,
                    result: None,
                });
            }
            Some(mut open) if open.result.is_none() && !random.one_in(8) => {
                if apply(&mut held, &mut open) {
                    clients[client] = Some(open);
                } else {
                    lines = lines.line(open.process, Kind::Fail, open.f, open.asked);
                }
            }
            Some(open) => match open.result.clone() {
                Some(result) if !random.one_in(6) => {
                    lines = lines.done(open.process, open.f, result);
                }
                taken => {
                    lines = lines.line(open.process, Kind::Info, open.f, open.asked.clone());
                    numbers[client] = next;
                    next += 1;
                    if taken.is_none() {
                        lost.push(open);
                    }
                }
            },
        }
        if !lost.is_empty() && random.one_in(9) {
            let at = random.index(lost.len());
            apply(&mut held, &mut lost.swap_remove(at));
        }
    }
    lines
}

#[test]
fn what_a_true_register_answers_is_never_refused() {
    for seed in 0..100 {
        let history = true_history(&mut Random::new(seed), 200, 5);
        let found = check(&operations(&history.0).unwrap());
        assert_eq!(found, [], "seed {seed}");
    }
}

/// Attacks: the search is too generous, and lets pass what no order explains.
#[test]
fn an_answer_that_was_changed_is_mostly_found() {
    let mut found = 0;
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let mut history = true_history(&mut random, 300, 3);
        let reads = history.0.iter_mut();
        let mut reads: Vec<_> = reads
            .filter(|it| it.kind == Kind::Ok && it.f == "read")
            .collect();
        let at = random.index(reads.len());
        // A number that nobody ever writes.
        reads[at].value = json!(99);
        history.is_broken();
        reads = history.0.iter_mut().collect();
        reads.retain(|it| it.kind == Kind::Ok && it.f == "read");
        reads[at].value = json!(random.below(5));
        found += usize::from(history.found() == [ViolationKind::NotLinearizable]);
    }
    assert!(found > 60, "only {found} of 200 changed answers were found");
}
