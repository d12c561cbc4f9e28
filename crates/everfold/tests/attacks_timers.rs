//! Attacks on durable timers: none may be lost, come early, or come twice.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test a fault is a panic"
)]

mod clock;
mod faulty;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clock::{Clock, ClockEvent, ClockId, Ring, Wind, rang, wind};
use everfold::engine::engine::*;
use everfold::engine::memory::Memory;
use everfold::engine::slot::Partition;
use everfold::engine::{Offset, World};
use everfold::prelude::*;
use everfold::{Node, NodeOptions};
use everfold_sim::Simulation;
use faulty::{Faulty, Odds};

impl Decide<Ring> for Clock {
    type Reply = ();
    type Rejection = Never;

    fn decide(&self, command: &Ring, _: &Context) -> Decision<Self, Ring> {
        let name = command.name.clone();
        emit(ClockEvent::Rang { name }).reply(())
    }
}

/// A build that cannot handle what is fragile, and one that can.
fn clocks(robust: bool) -> Application {
    let ringing = Reactor::named("ringing").on(move |event: &ClockEvent, at| match event {
        ClockEvent::Wound { name, seconds } => {
            assert!(robust || !name.contains("fragile"), "fragile");
            let ring = Ring {
                name: format!("{name} {seconds}"),
            };
            command::<Clock, _>(at.entity_id::<ClockId>(), ring)
                .after(name.replace("fragile ", ""), Duration::from_secs(*seconds))
        }
        ClockEvent::Stopped { .. } | ClockEvent::Rang { .. } => nothing(),
    });
    Application::new("clocks")
        .entity::<Clock>()
        .reactor(ringing)
}

async fn open(robust: bool, engine: &Arc<dyn Engine>, world: Arc<dyn World>) -> Node {
    let opened = clocks(robust).open_on(engine.clone(), world, NodeOptions::default());
    opened.await.unwrap()
}

/// Attacks: an event that was set aside has lost its timers, for they were thought to be set; or it
/// takes the place of a later timer of the same name when it is tried again. The process dies at
/// any moment in between.
#[test]
fn timers_of_events_that_were_set_aside_are_set_when_these_are_tried_again() {
    for seed in 0..40 {
        let simulation = Simulation::new(seed);
        let world = simulation.world();
        let engine: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 1).unwrap());
        let process = simulation.process("fragile");
        simulation.run(async {
            let node = open(false, &engine, process.world()).await;
            wind(&node, "k", "before", 3600).await;
            wind(&node, "k", "fragile a", 20).await;
            wind(&node, "k", "a", 40).await;
            wind(&node, "k", "fragile b", 30).await;
            wind(&node, "l", "other", 1).await;
            let millis = world.random() % 3000;
            world.sleep(Duration::from_millis(millis)).await;
            std::mem::forget(node);
        });
        process.kill();
        simulation.run(async {
            let node = open(true, &engine, world.clone()).await;
            world.sleep(Duration::from_secs(3)).await;
            let _ = node.retry_parked("ringing", "clock-k");
            world.sleep(Duration::from_secs(5000)).await;
            node.caught_up().await.unwrap();
            assert!(node.parked().is_empty(), "seed {seed}");
            let all = ["fragile b 30", "a 40", "before 3600"];
            assert_eq!(rang(&node, "k").await, all, "seed {seed}");
            assert_eq!(rang(&node, "l").await, ["other 1"]);
            assert_eq!(node.handlers().await.unwrap()[0].timers, 0);
            node.close().await;
        });
    }
}

/// Attacks: a node that was without its partition for a while goes on from what it remembers. Its
/// appends have no known outcome, another node takes over, lets timers fire and sets others, and
/// then the first one claims again.
#[test]
fn a_node_that_claims_again_knows_what_another_did_meanwhile() {
    for seed in 0..10 {
        let simulation = Simulation::new(seed);
        let world = simulation.world();
        simulation.run(async {
            let inner: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 1).unwrap());
            let faulty = Arc::new(Faulty::new(inner.clone(), world.clone(), Odds::default()));
            let engine: Arc<dyn Engine> = faulty.clone();
            let first = open(true, &engine, world.clone()).await;
            wind(&first, "k", "a", 10).await;
            wind(&first, "k", "late", 300).await;
            world.sleep(Duration::from_secs(3)).await;
            let second = open(true, &inner, world.clone()).await;
            for name in ["b", "c", "d"] {
                wind(&second, "k", name, 10).await;
            }
            world.sleep(Duration::from_secs(30)).await;
            for seconds in 1..=6 {
                wind(&second, "k", "often", seconds).await;
                world.sleep(Duration::from_secs(10)).await;
            }
            wind(&second, "k", "late", 600).await;
            second.caught_up().await.unwrap();
            world.sleep(Duration::from_secs(3)).await;
            let mut expected: Vec<String> =
                ["a", "b", "c", "d"].map(|it| format!("{it} 10")).into();
            expected.extend((1..=6).map(|seconds| format!("often {seconds}")));
            assert_eq!(rang(&second, "k").await, expected);
            let lost_append = 100;
            faulty.now(Odds {
                lost_append,
                ..Odds::default()
            });
            let name = "lost".to_owned();
            let lost = Wind { name, seconds: 1 };
            first.entity::<Clock>("k").send(lost).await.unwrap_err();
            faulty.now(Odds::default());
            world.sleep(Duration::from_secs(2)).await;
            for name in ["e", "f"] {
                wind(&first, "k", name, 10).await;
                expected.push(format!("{name} 10"));
            }
            world.sleep(Duration::from_secs(200)).await;
            assert_eq!(rang(&first, "k").await, expected, "seed {seed}");
            world.sleep(Duration::from_secs(1000)).await;
            expected.push("late 600".to_owned());
            assert_eq!(rang(&first, "k").await, expected, "seed {seed}");
            second.close().await;
            first.close().await;
        });
    }
}

/// An engine whose log seems to be empty for the first one that asks, if a test says so.
struct Behind {
    inner: Arc<dyn Engine>,
    lies: AtomicBool,
}

impl Engine for Behind {
    fn safe_head(&self, partition: Partition) -> BoxFuture<'_, Result<Offset, ReadError>> {
        if self.lies.swap(false, Ordering::SeqCst) {
            return Box::pin(async { Ok(Offset(0)) });
        }
        self.inner.safe_head(partition)
    }

    everfold::engine::forward! {
        identity limits coordinator claim renew release confirm append put read wait indexes_entities read_entity revision get scan doctor durability close
    }
}

/// Attacks: timers of another log come back. What is stored is ahead of the log, as after a restore
/// of the log alone, and the lane begins anew beside it.
#[test]
fn timers_stored_of_another_log_do_not_come_back() {
    let simulation = Simulation::new(1);
    let world = simulation.world();
    let memory: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 1).unwrap());
    let process = simulation.process("first");
    simulation.run(async {
        let node = open(true, &memory, process.world()).await;
        wind(&node, "k", "a", 100).await;
        world.sleep(Duration::from_secs(3)).await;
        wind(&node, "k", "a", 1000).await;
        std::mem::forget(node);
    });
    process.kill();
    simulation.run(async {
        let behind: Arc<dyn Engine> = Arc::new(Behind {
            inner: memory.clone(),
            lies: AtomicBool::new(true),
        });
        let node = open(true, &behind, world.clone()).await;
        world.sleep(Duration::from_secs(3)).await;
        node.close().await;
        let node = open(true, &memory, world.clone()).await;
        world.sleep(Duration::from_secs(500)).await;
        assert!(rang(&node, "k").await.is_empty());
        world.sleep(Duration::from_secs(1000)).await;
        assert_eq!(rang(&node, "k").await, ["a 1000"]);
        node.close().await;
    });
}
