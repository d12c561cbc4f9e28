//! Which command was done before, what its events carry, and what a snapshot stands for.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test a fault is a panic"
)]

mod bank;
mod hook;

use std::time::Duration;

use bank::*;
use everfold::engine::engine::{Area, Engine, Put};
use everfold::engine::slot::Partition;
use everfold::engine::world::new_id;
use everfold::engine::{Timestamp, Uuid};
use everfold::prelude::*;
use everfold::{CommandError, Condition, Expected, NewEvent, Query};
use everfold_sim::Simulation;
use hook::*;

/// Attacks: a command with an id is decided once. The id says nothing of its age, and the owner's
/// memory of it comes from the log.
#[test]
fn an_opaque_id_is_recognised_after_a_restart() {
    hooked(1, async |hook, world| {
        let id = Uuid::from_u128(0x1234_5678_0000_4000_8000_0000_0000_0001);
        let issued = world.now();
        world.sleep(Duration::from_secs(20)).await;
        for _ in 0..2 {
            let node = open(accounts(), hook.clone(), &world).await;
            for _ in 0..2 {
                let sent = node.entity::<Account>("x").send(Deposit { amount: 1 });
                assert_eq!(sent.id(id).issued(issued).await.unwrap().reply, 1);
            }
            node.close().await;
        }
    });
}

/// Attacks: a command with an id is decided once. The clock of the next owner is an hour behind
/// when it reads the log.
#[test]
fn an_id_is_recognised_by_an_owner_whose_clock_was_behind() {
    let simulation = Simulation::new(1);
    let world = simulation.world();
    let engine = memory(&world, 1);
    let id = new_id(world.as_ref());
    let hour = 3_600_000_000;
    let first = simulation.process("first");
    simulation.run(async {
        let node = open(accounts(), engine.clone(), &first.world()).await;
        let sent = node.entity::<Account>("x").send(Deposit { amount: 1 });
        assert_eq!(sent.id(id).await.unwrap().reply, 1);
        node.close().await;
    });
    first.kill();
    let second = simulation.process("second");
    second.step_clock(-hour);
    simulation.run(async {
        let node = open(accounts(), engine, &second.world()).await;
        second.step_clock(hour);
        let sent = node.entity::<Account>("x").send(Deposit { amount: 1 });
        assert_eq!(sent.id(id).await.unwrap().reply, 1);
    });
}

/// Attacks: an id stands for one content. Each of these differs from the first append in one part.
#[test]
fn an_append_with_a_used_id_and_other_content_is_refused() {
    hooked(1, async |hook, world| {
        let node = open(accounts().boundary("scope"), hook, &world).await;
        let id = new_id(world.as_ref());
        let first = NewEvent::json("Ab", "c").label("name", "value");
        let stream = node.stream("foo-1");
        let append = |events: Vec<NewEvent>, expected| stream.append(events, expected).id(id);
        for _ in 0..2 {
            let sent = append(vec![first.clone()], Expected::Any).await;
            assert_eq!(sent.unwrap().reply, 1);
        }
        let split = NewEvent::json("A", "b").label("name", "value");
        let other = |change: fn(&mut NewEvent)| {
            let mut event = first.clone();
            change(&mut event);
            vec![event]
        };
        for events in [
            vec![split, NewEvent::json("", "c")],
            other(|event| event.labels.clear()),
            other(|event| event.schema_version = 2),
            other(|event| event.content_type = "text/plain".into()),
            other(|event| event.metadata = "m".into()),
            other(|event| event.id = Some(Uuid::from_u128(1))),
        ] {
            let refused = append(events, Expected::Any).await;
            assert_eq!(refused.unwrap_err(), CommandError::IdReused(id));
        }
        let refused = append(vec![first.clone()], Expected::Nothing).await;
        assert_eq!(refused.unwrap_err(), CommandError::IdReused(id));

        let scope = node.boundary("scope", "s");
        let id = new_id(world.as_ref());
        let condition = || Some(Condition::none_ever(Query::of(["Ab"], [])));
        for _ in 0..2 {
            let sent = scope.append(vec![first.clone()], condition()).id(id);
            assert_eq!(sent.await.unwrap().reply, 1);
        }
        let refused = scope.append(vec![first.clone()], None).id(id).await;
        assert_eq!(refused.unwrap_err(), CommandError::IdReused(id));
    });
}

#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DiaryId(String);

#[derive(Event, Clone, Debug, PartialEq)]
enum DiaryEvent {
    Written { at: i64 },
}

#[derive(Entity, Default)]
#[entity(name = "diary", id = DiaryId, event = DiaryEvent)]
struct Diary {
    entries: u64,
}

impl Evolve for Diary {
    fn evolve(&mut self, _: &DiaryEvent) {
        self.entries += 1;
    }
}

#[derive(Command)]
struct Write {
    entries: usize,
}

impl Decide<Write> for Diary {
    type Reply = ();
    type Rejection = Never;

    fn decide(&self, command: &Write, context: &Context) -> Decision<Self, Write> {
        let at = context.effective().0;
        let entry = || DiaryEvent::Written { at };
        let more = (1..command.entries).map(|_| entry());
        emit(entry()).and_all(more).reply(())
    }
}

/// Attacks: a decision and its events speak of one business time, also where the clock stands
/// between two milliseconds and the unit has several events.
#[test]
fn a_decision_is_told_the_business_time_that_its_events_carry() {
    hooked(1, async |hook, world| {
        let node = open(Application::new("diary").entity::<Diary>(), hook, &world).await;
        let diary = node.entity::<Diary>("d");
        world.sleep(Duration::from_micros(1234)).await;
        for _ in 0..3 {
            diary.send(Write { entries: 3 }).await.unwrap();
        }
        for record in node.stream("diary-d").read(0, 100).await.unwrap() {
            let effective = record.portable.effective;
            let told = format!("{{\"at\":{}}}", effective.0);
            assert_eq!(record.portable.payload, told);
        }
    });
}

/// Attacks: all that follows from one command is found by one correlation, with and without a
/// command id, in the root as well as in what reactions did.
#[test]
fn a_root_shares_its_correlation_with_all_that_follows() {
    hooked(1, async |hook, world| {
        let node = open(bank(), hook, &world).await;
        let account = node.entity::<Account>("a");
        let id = new_id(world.as_ref());
        account.send(Deposit { amount: 1 }).await.unwrap();
        account.send(Deposit { amount: 2 }).id(id).await.unwrap();
        node.caught_up().await.unwrap();
        let roots = node.stream("account-a").read(0, 10).await.unwrap();
        let follow = node
            .stream("account-mirror of a")
            .read(0, 10)
            .await
            .unwrap();
        let [first, second] = [&roots[0].portable, &roots[1].portable];
        assert_eq!(
            (first.causation, first.correlation),
            (None, Some(first.event_id))
        );
        assert_eq!((second.causation, second.correlation), (Some(id), Some(id)));
        for (root, follower) in roots.iter().zip(&follow) {
            let (root, follower) = (&root.portable, &follower.portable);
            assert_eq!(follower.causation, Some(root.event_id));
            assert_eq!(follower.correlation, root.correlation);
        }
        assert_eq!(follow.len(), 2);
    });
}

/// Attacks: what a caller says of a command is in its events, whichever way it was sent.
#[test]
fn every_way_of_writing_takes_the_same_options() {
    hooked(1, async |hook, world| {
        let node = open(accounts().boundary("scope"), hook, &world).await;
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let at = Timestamp::from_date(2001, 2, 3);
        let correlation = Uuid::from_u128(5);
        let issued = world.now();
        macro_rules! send {
            ($number:expr, $sending:expr) => {
                let id = Uuid::from_u128($number);
                for _ in 0..2 {
                    let sending = $sending.id(id).issued(issued).at(at).by("me");
                    sending.correlation(correlation).trace(trace).await.unwrap();
                }
            };
        }
        let (from, to) = (
            AccountId::from("a".to_owned()),
            AccountId::from("{a}b".to_owned()),
        );
        let event = || vec![NewEvent::json("Happened", "{}")];
        send!(1, node.entity::<Account>("a").send(Deposit { amount: 2 }));
        let transfer = Transfer {
            from,
            to,
            amount: 1,
        };
        send!(2, node.together().send(transfer.clone()));
        send!(3, node.stream("foo-1").append(event(), Expected::Any));
        send!(4, node.boundary("scope", "s").append(event(), None));
        let mut versions = Vec::new();
        for (stream, ids) in [
            ("account-a", &[1, 2][..]),
            ("account-{a}b", &[2]),
            ("foo-1", &[3]),
            ("scope-s", &[4]),
        ] {
            let records = node.stream(stream).read(0, 10).await.unwrap();
            versions.push(records.len());
            for (record, id) in records.iter().zip(ids) {
                let portable = &record.portable;
                assert_eq!(portable.command, Some(Uuid::from_u128(*id)));
                assert_eq!(portable.correlation, Some(correlation));
                assert_eq!((portable.effective, &*portable.principal), (at, "me"));
                assert_eq!(portable.trace, trace);
            }
        }
        assert_eq!(versions, [2, 1, 1, 1]);
    });
}

fn snapshots() -> Area {
    Area {
        name: "entities".into(),
        partition: Partition(0),
    }
}

/// Attacks: state comes from the log. Snapshots are of a log that was longer.
#[test]
fn a_snapshot_ahead_of_the_log_is_ignored() {
    hooked(1, async |hook, world| {
        let longer = memory(&world, 1);
        for (engine, deposits) in [(longer.clone(), 600), (memory(&world, 1), 0)] {
            let node = open(accounts(), engine, &world).await;
            for _ in 0..deposits {
                node.entity::<Account>("a")
                    .send(Deposit { amount: 1 })
                    .await
                    .unwrap();
            }
            world.sleep(Duration::from_secs(1)).await;
            node.close().await;
        }
        let entries = longer.scan(&snapshots(), None, 10).await.unwrap();
        assert_eq!(entries.len(), 1);
        let node = open(accounts(), hook.clone(), &world).await;
        for _ in 0..300 {
            node.entity::<Account>("a")
                .send(Deposit { amount: 1 })
                .await
                .unwrap();
        }
        world.sleep(Duration::from_secs(1)).await;
        node.close().await;
        let put = Put {
            area: snapshots(),
            epoch: hook.claim(Partition(0)).await.unwrap().epoch,
            incarnation: hook.identity().incarnation,
            previous: hook.revision(&snapshots()).await.unwrap(),
            clear: false,
            changes: entries
                .into_iter()
                .map(|(key, value)| (key, Some(value)))
                .collect(),
        };
        hook.put(put).await.unwrap();
        let node = open(accounts(), hook, &world).await;
        let read = node
            .entity::<Account>("a")
            .read(|account, version| (account.balance, version));
        assert_eq!(read.await, Ok((300, 300)));
    });
}

/// Attacks: long histories get a snapshot, also where no unit ends at a multiple of its distance.
#[test]
fn units_of_two_events_get_snapshots_too() {
    hooked(1, async |hook, world| {
        let application = Application::new("diary").entity::<Diary>();
        let node = open(application, hook.clone(), &world).await;
        let diary = node.entity::<Diary>("d");
        diary.send(Write { entries: 1 }).await.unwrap();
        for _ in 0..300 {
            diary.send(Write { entries: 2 }).await.unwrap();
        }
        world.sleep(Duration::from_secs(1)).await;
        assert_eq!(hook.scan(&snapshots(), None, 10).await.unwrap().len(), 1);
    });
}
