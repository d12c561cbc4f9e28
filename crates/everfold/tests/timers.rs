//! Durable timers of reactors.

#![allow(clippy::unwrap_used, reason = "in a test a fault is a panic")]

mod clock;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clock::{Clock, ClockEvent, ClockId, Ring, Wind, rang, wind};
use everfold::engine::engine::{BoxFuture, Chunk, Engine, ReadError, ReadLimit};
use everfold::engine::memory::Memory;
use everfold::engine::{Offset, Partition, Timestamp, World};
use everfold::prelude::*;
use everfold::{DataClock, Node, NodeOptions, TimerClock};
use everfold_sim::{Settings, Simulation};

#[derive(Command, Clone, Debug)]
struct Stop {
    name: String,
}

static BROKEN: AtomicBool = AtomicBool::new(true);

impl Decide<Stop> for Clock {
    type Reply = ();
    type Rejection = Never;

    fn decide(&self, command: &Stop, _: &Context) -> Decision<Self, Stop> {
        let name = command.name.clone();
        emit(ClockEvent::Stopped { name }).reply(())
    }
}

impl Decide<Ring> for Clock {
    type Reply = ();
    type Rejection = String;

    fn decide(&self, command: &Ring, _: &Context) -> Decision<Self, Ring> {
        let name = command.name.clone();
        assert!(
            name != "broken" || !BROKEN.load(Ordering::Relaxed),
            "broken"
        );
        assert!(name != "stuck", "always broken");
        if name == "refused" {
            return reject(name);
        }
        emit(ClockEvent::Rang { name }).reply(())
    }
}

fn ringing() -> Reactor {
    Reactor::named("ringing").on(|event: &ClockEvent, at| match event {
        ClockEvent::Wound { name, seconds } => {
            let name = name.clone();
            let ring = command::<Clock, _>(at.entity_id::<ClockId>(), Ring { name: name.clone() });
            let after = Duration::from_secs(*seconds);
            match &name[..] {
                "refused" => ring
                    .rejected(|_: String, at| {
                        let name = "never".to_owned();
                        command::<Clock, _>(at.entity_id::<ClockId>(), Ring { name })
                            .after("never", Duration::ZERO)
                    })
                    .after(name, after),
                "stuck" => ring.into(),
                _ => ring.after(name, after),
            }
        }
        ClockEvent::Stopped { name } => cancel(&name[..]),
        ClockEvent::Rang { .. } => nothing(),
    })
}

fn clocks() -> Application {
    Application::new("clocks")
        .entity::<Clock>()
        .reactor(ringing())
}

async fn open(engine: &Arc<dyn Engine>, world: Arc<dyn World>) -> Arc<Node> {
    let opened = clocks().open_on(engine.clone(), world, NodeOptions::default());
    Arc::new(opened.await.unwrap())
}

/// Attacks: timers fire in the order in which they are due, whatever the order in which they were
/// set; a timer of the same name takes the place of the earlier one; a stopped one does not fire.
#[test]
fn timers_fire_in_order_and_only_if_they_still_stand() {
    let simulation = Simulation::new(1);
    let world = simulation.world();
    simulation.run(async {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 1).unwrap());
        let node = open(&engine, world.clone()).await;
        for (name, seconds) in [
            ("d", 40),
            ("b", 20),
            ("a", 10),
            ("x", 15),
            ("c", 99),
            ("c", 30),
        ] {
            wind(&node, "k", name, seconds).await;
        }
        let name = "x".to_owned();
        node.entity::<Clock>("k").send(Stop { name }).await.unwrap();
        world.sleep(Duration::from_secs(25)).await;
        assert_eq!(rang(&node, "k").await, ["a", "b"]);
        world.sleep(Duration::from_secs(200)).await;
        node.caught_up().await.unwrap();
        assert_eq!(rang(&node, "k").await, ["a", "b", "c", "d"]);
        let timers = node.handlers().await.unwrap()[0].timers;
        assert_eq!(timers, 0);
        node.close().await;
    });
}

/// Attacks: exactly once over crashes. Processes die at random moments, between a timer being set,
/// stored, fired, sent and finished; each rings once, none before its time.
#[test]
fn timers_fire_once_over_crashes_at_any_moment() {
    for seed in 0..60 {
        // Where every step takes its time, a process dies between any two of them.
        let settings = Settings {
            tick: Duration::from_millis([0, 1, 20][seed as usize % 3]),
            ..Settings::default()
        };
        let simulation = Simulation::with(seed, settings);
        let world = simulation.world();
        let engine: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 3).unwrap());
        let (mut set, mut first) = (Vec::new(), world.now());
        for life in 0..8 {
            let process = simulation.process(&format!("life {life}"));
            let node = simulation.run(open(&engine, process.world()));
            simulation.run(async {
                if life == 0 {
                    first = world.now();
                }
                for n in 0..world.random() % 5 {
                    let name = format!("{life}-{n}");
                    let seconds = world.random() % 12;
                    let clock = format!("clock {}", world.random() % 3);
                    wind(&node, &clock, name.clone(), seconds).await;
                    set.push(name);
                    let millis = world.random() % 900;
                    world.sleep(Duration::from_millis(millis)).await;
                }
                let millis = world.random() % 3000;
                world.sleep(Duration::from_millis(millis)).await;
            });
            process.kill();
        }
        simulation.run(async {
            let node = open(&engine, world.clone()).await;
            world.sleep(Duration::from_secs(20)).await;
            node.caught_up().await.unwrap();
            let mut all = Vec::new();
            for clock in 0..3 {
                all.extend(rang(&node, &format!("clock {clock}")).await);
            }
            all.sort();
            set.sort();
            assert_eq!(all, set, "seed {seed}");
            node.close().await;
        });
    }
}

/// Gives one record at a time.
struct Sipping {
    inner: Memory,
}

impl Engine for Sipping {
    fn read(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Chunk, ReadError>> {
        let limit = ReadLimit {
            records: 1,
            ..limit
        };
        self.inner.read(partition, after, limit)
    }

    everfold::engine::forward! {
        identity limits coordinator claim renew release confirm append safe_head wait indexes_entities
        read_entity find trim put get revision scan doctor durability close
    }
}

/// Attacks: a handler that begins anew, or comes back after a while, meets timers that are overdue
/// and reads only later that they were stopped. These do not fire; the others fire now.
#[test]
fn what_was_stopped_long_ago_does_not_fire_when_it_is_read_again() {
    let simulation = Simulation::new(5);
    let world = simulation.world();
    let memory = Memory::new(world.clone(), 1).unwrap();
    let engine: Arc<dyn Engine> = Arc::new(Sipping { inner: memory });
    let first = simulation.process("first");
    simulation.run(async {
        let silent = Application::new("clocks").entity::<Clock>();
        let opened = silent.open_on(engine.clone(), first.world(), NodeOptions::default());
        let node = opened.await.unwrap();
        for name in ["stopped", "kept"] {
            wind(&node, "k", name, 5).await;
        }
        let name = "stopped".to_owned();
        node.entity::<Clock>("k").send(Stop { name }).await.unwrap();
        world.sleep(Duration::from_secs(60)).await;
    });
    first.kill();
    simulation.run(async {
        let node = open(&engine, world.clone()).await;
        node.caught_up().await.unwrap();
        assert_eq!(rang(&node, "k").await, ["kept"]);
        node.close().await;
    });
}

/// Attacks: an event before it is not done with, so the event is read again after a crash; its timer
/// has fired and must not be set again.
#[test]
fn a_timer_that_has_fired_is_not_set_again_with_its_event() {
    let simulation = Simulation::new(2);
    let world = simulation.world();
    let engine: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 1).unwrap());
    let process = simulation.process("first");
    let node = simulation.run(open(&engine, process.world()));
    simulation.run(async {
        wind(&node, "k", "stuck", 0).await;
        wind(&node, "l", "a", 0).await;
        world.sleep(Duration::from_millis(300)).await;
        assert_eq!(rang(&node, "l").await, ["a"]);
        assert!(node.parked().is_empty(), "it is still being tried");
    });
    process.kill();
    simulation.run(async {
        let node = open(&engine, world.clone()).await;
        world.sleep(Duration::from_secs(10)).await;
        assert_eq!(node.parked().len(), 1);
        assert_eq!(rang(&node, "l").await, ["a"]);
        node.close().await;
    });
}

/// Attacks: a timer that is years away keeps nobody waiting, and outlives restarts.
#[test]
fn a_timer_years_away_waits() {
    let simulation = Simulation::new(3);
    let world = simulation.world();
    simulation.run(async {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 1).unwrap());
        const YEARS: u64 = 30 * 365 * 86_400;
        let node = open(&engine, world.clone()).await;
        wind(&node, "k", "late", YEARS).await;
        wind(&node, "k", "never", u64::MAX).await;
        wind(&node, "k", "soon", 1).await;
        world.sleep(Duration::from_secs(5)).await;
        node.caught_up().await.unwrap();
        assert_eq!(node.handlers().await.unwrap()[0].timers, 2);
        node.close().await;
        let node = open(&engine, world.clone()).await;
        node.caught_up().await.unwrap();
        assert_eq!(rang(&node, "k").await, ["soon"]);
        node.close().await;
        world.sleep(Duration::from_secs(YEARS)).await;
        let node = open(&engine, world.clone()).await;
        world.sleep(Duration::from_secs(2)).await;
        node.caught_up().await.unwrap();
        assert_eq!(rang(&node, "k").await, ["soon", "late"]);
        node.close().await;
    });
}

/// Attacks: in a played history timers count in its time, not in the world's.
#[test]
fn timers_follow_the_clock_of_the_data() {
    let simulation = Simulation::new(4);
    let world = simulation.world();
    simulation.run(async {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 2).unwrap());
        let day = |day| Timestamp::from_date(1997, 1, day);
        let clock = DataClock::at(day(1));
        let options = NodeOptions {
            timers: TimerClock::Driven(clock.clone()),
            ..NodeOptions::default()
        };
        let node = clocks().open_on(engine.clone(), world.clone(), options);
        let node = node.await.unwrap();
        let (name, seconds) = ("a".to_owned(), 86_400);
        let wind = Wind { name, seconds };
        node.entity::<Clock>("k")
            .send(wind)
            .at(day(2))
            .await
            .unwrap();
        world.sleep(Duration::from_secs(10 * 86_400)).await;
        node.caught_up().await.unwrap();
        assert!(rang(&node, "k").await.is_empty());
        clock.advance(day(3));
        node.caught_up().await.unwrap();
        assert_eq!(rang(&node, "k").await, ["a"]);
        // What a timer leads to happens when it is due.
        let events = node.stream("clock-k").read(1, 10).await.unwrap();
        assert_eq!(events.last().unwrap().portable.effective, day(3));
        node.close().await;
    });
}

/// Attacks: a timer whose command fails is set aside, visibly, and holds up no other entity's.
#[test]
fn a_failing_timer_is_parked_and_can_be_tried_again() {
    let simulation = Simulation::new(5);
    let world = simulation.world();
    simulation.run(async {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 1).unwrap());
        let node = open(&engine, world.clone()).await;
        wind(&node, "k", "broken", 1).await;
        wind(&node, "k", "after", 2).await;
        wind(&node, "l", "other", 1).await;
        wind(&node, "m", "refused", 1).await;
        world.sleep(Duration::from_secs(60)).await;
        assert_eq!(rang(&node, "l").await, ["other"]);
        assert_eq!(rang(&node, "k").await, ["after"]);
        let keys = |node: &Node| -> Vec<String> {
            let mut keys: Vec<_> = node.parked().into_iter().map(|it| it.key).collect();
            keys.sort();
            keys
        };
        let both = ["clock-k timer broken", "clock-m timer refused"];
        assert_eq!(keys(&node), both);
        assert!(
            node.parked()
                .iter()
                .any(|it| it.reason.contains("in the reaction to an event"))
        );
        node.close().await;
        BROKEN.store(false, Ordering::Relaxed);
        let node = open(&engine, world.clone()).await;
        world.sleep(Duration::from_secs(5)).await;
        assert_eq!(
            keys(&node),
            both,
            "parked timers stay parked over a restart"
        );
        assert!(node.retry_parked("ringing", "clock-k timer broken"));
        world.sleep(Duration::from_secs(5)).await;
        assert_eq!(rang(&node, "k").await, ["after", "broken"]);
        assert_eq!(keys(&node), ["clock-m timer refused"]);
        node.close().await;
    });
}
