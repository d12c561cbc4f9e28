//! Checkers on logs and histories that are known to be bad.

#![allow(clippy::unwrap_used, reason = "in a test a fault is a panic")]

use std::sync::Arc;

use everfold::engine::record::{Kind, Link, Local, Portable, Reply, Source, Unit};
use everfold::engine::{EntityKey, Offset, Partition, Record, Stamp, Uuid};
use everfold_world::check::{Log, causal, linearizable, loss, order, twice};
use everfold_world::history::{Answer, Operation, Strength, What};
use serde_json::{Value, json};

fn entity() -> EntityKey {
    EntityKey::new("counter", "c")
}

/// The `offset`th record: an event of command `id`, which was answered its version.
fn event(id: u128, offset: u64) -> Record {
    let mut portable = Portable::new(entity(), "Counted");
    portable.event_id = Uuid::from_u128(1000 + id);
    portable.command = Some(Uuid::from_u128(id));
    portable.unit = Unit::SINGLE;
    Record {
        kind: Kind::Event,
        portable,
        local: Local {
            offset: Offset(offset),
            version: offset,
            epoch: 1,
            batch: offset,
            stamp: Stamp(offset as i64),
            reply: Some(Reply {
                command_digest: id.into(),
                rejected: false,
                body: offset.to_string().into(),
                source: None,
            }),
            link: Link::default(),
        },
    }
}

fn log(records: impl IntoIterator<Item = Record>) -> Log {
    vec![records.into_iter().map(Arc::new).collect()]
}

fn operation(asked: u64, answered: u64, what: What) -> Operation {
    Operation {
        number: asked as u32,
        entity: entity(),
        partition: Partition(0),
        asked,
        answered: Some(answered),
        what,
    }
}

fn command(asked: u64, answered: u64, id: u128, reply: u64) -> Operation {
    let answer = Answer {
        rejected: false,
        body: json!(reply),
        offset: Some(Offset(reply)),
    };
    let what = What::Command {
        id: Uuid::from_u128(id),
        name: "count",
        answer: Some(answer),
        judge: None,
    };
    operation(asked, answered, what)
}

fn read(asked: u64, answered: u64, strength: Strength, version: u64, state: Value) -> Operation {
    let what = What::Read {
        strength,
        version,
        state,
        fold: Arc::new(|events| Ok(json!(events.len()))),
    };
    operation(asked, answered, what)
}

const LINEAR: Strength = Strength::Linearizable;

fn refused(operations: &[Operation], why: &str) {
    let log = log([event(1, 1), event(2, 2), event(3, 3)]);
    let found = linearizable::check(&log, operations).unwrap_err();
    assert!(found.contains(why), "{found}");
}

#[test]
fn a_history_that_the_log_explains_is_accepted() {
    let log = log([event(1, 1), event(2, 2), event(3, 3)]);
    let history = [
        command(1, 10, 2, 2),
        command(2, 3, 1, 1),
        read(4, 5, LINEAR, 1, json!(1)),
        read(6, 9, LINEAR, 2, json!(2)),
        read(7, 8, LINEAR, 1, json!(1)),
        read(11, 12, Strength::Eventual, 0, json!(0)),
        command(13, 14, 3, 3),
        read(15, 16, LINEAR, 3, json!(3)),
    ];
    assert_eq!(linearizable::check(&log, &history), Ok(()));
}

#[test]
fn a_read_that_misses_what_was_answered_is_refused() {
    let history = [command(1, 2, 1, 1), read(3, 4, LINEAR, 0, json!(0))];
    refused(&history, "stands before");
}

#[test]
fn reads_that_go_back_in_time_are_refused() {
    let history = [
        read(1, 2, LINEAR, 2, json!(2)),
        read(3, 4, LINEAR, 1, json!(1)),
    ];
    refused(&history, "stands before");
}

#[test]
fn commands_in_another_order_than_real_time_are_refused() {
    refused(&[command(1, 2, 2, 2), command(3, 4, 1, 1)], "stands before");
}

#[test]
fn a_command_that_took_effect_before_what_was_read_before_it_is_refused() {
    let history = [read(1, 2, LINEAR, 1, json!(1)), command(3, 4, 1, 1)];
    refused(&history, "stands before");
}

#[test]
fn a_state_that_never_was_is_refused() {
    refused(&[read(1, 2, LINEAR, 2, json!(7))], "fold to 2");
    refused(
        &[read(1, 2, Strength::Eventual, 9, json!(9))],
        "has 3 events",
    );
}

#[test]
fn a_session_that_does_not_see_its_own_past_is_refused() {
    let strength = Strength::Session(Offset(2));
    refused(&[read(1, 2, strength, 1, json!(1))], "had seen 2");
}

#[test]
fn another_answer_than_the_recorded_one_is_refused() {
    let mut wrong = command(1, 2, 2, 2);
    if let What::Command {
        answer: Some(answer),
        ..
    } = &mut wrong.what
    {
        answer.body = json!(5);
    }
    refused(&[wrong], "was recorded");
}

#[test]
fn a_decision_that_the_state_does_not_lead_to_is_refused() {
    let mut wrong = command(1, 2, 2, 2);
    if let What::Command { judge, .. } = &mut wrong.what {
        *judge = Some(Arc::new(|judged| match judged.before.len() {
            1 => Err("decided otherwise".into()),
            _ => Ok(()),
        }));
    }
    refused(&[wrong], "decided otherwise");
}

#[test]
fn an_answered_command_that_the_log_does_not_have_is_lost() {
    let short = log([event(1, 1)]);
    let history = [command(1, 2, 2, 2)];
    assert!(linearizable::check(&short, &history).is_err());
    assert!(loss::check(&short, &history, &Default::default()).is_err());
    assert!(loss::check_kept(&log([event(1, 1), event(2, 2)]), &short).is_err());
    assert!(loss::check_kept(&short, &log([event(1, 1), event(2, 2)])).is_err());
}

#[test]
fn what_is_decided_twice_is_noticed() {
    assert_eq!(twice::check(&log([event(1, 1), event(2, 2)])), Ok(()));
    assert!(twice::check(&log([event(1, 1), event(1, 2)])).is_err());
    let answering = |id: u128, offset: u64| {
        let mut record = event(id, offset);
        let reply = record.local.reply.as_mut().unwrap();
        reply.command_digest = 7.into();
        reply.source = Some(Source {
            handler: "reactor".into(),
            partition: Partition(0),
            offset: Offset(1),
            settled: Offset(0),
        });
        record
    };
    let twice_done = log([event(1, 1), answering(2, 2), answering(3, 3)]);
    assert_eq!(twice::check(&twice_done), Ok(()));
    assert!(twice::check_effects(&twice_done).is_err());
}

#[test]
fn an_effect_before_its_cause_is_noticed() {
    let caused = |cause: u128, id, offset| {
        let mut record = event(id, offset);
        record.portable.causation = Some(Uuid::from_u128(1000 + cause));
        record.portable.hops = 1;
        record
    };
    assert_eq!(causal::check(&log([event(1, 1), caused(1, 2, 2)])), Ok(()));
    assert!(causal::check(&log([caused(2, 1, 1), event(2, 2)])).is_err());
    assert!(causal::check(&log([event(1, 1), caused(9, 2, 2)])).is_err());
}

#[test]
fn logs_out_of_shape_are_noticed() {
    assert_eq!(order::check(&log([event(1, 1), event(2, 2)])), Ok(()));
    let gap = |change: fn(&mut Record)| {
        let mut second = event(2, 2);
        change(&mut second);
        order::check(&log([event(1, 1), second]))
    };
    assert!(gap(|record| record.local.version = 3).is_err());
    assert!(gap(|record| record.local.stamp = Stamp(1)).is_err());
    assert!(gap(|record| record.portable.unit.count = 2).is_err());
    assert!(order::check_chain(&log([event(1, 1)]), true).is_err());
}
