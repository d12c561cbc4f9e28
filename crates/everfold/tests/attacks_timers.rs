//! Attacks on durable timers: none may be lost, come early, or come twice.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "in a test a fault is a panic; each test uses its part of what they share"
)]

use std::sync::Arc;
use std::time::Duration;

use everfold::engine::World;
use everfold::engine::engine::Engine;
use everfold::engine::memory::Memory;
use everfold::prelude::*;
use everfold::{Node, NodeOptions};
use everfold_sim::Simulation;

#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ClockId(String);

#[derive(Event, Clone, Debug, PartialEq)]
enum ClockEvent {
    Wound { name: String, seconds: u64 },
    Rang { name: String },
}

/// Rings as often as it was wound; keeps no count of its own.
#[derive(Entity, Default)]
#[entity(name = "clock", id = ClockId, event = ClockEvent)]
struct Clock {
    rang: Vec<String>,
}

impl Evolve for Clock {
    fn evolve(&mut self, event: &ClockEvent) {
        if let ClockEvent::Rang { name } = event {
            self.rang.push(name.clone());
        }
    }
}

#[derive(Command, Clone, Debug)]
struct Wind {
    name: String,
    seconds: u64,
}

#[derive(Command, Clone, Debug)]
struct Ring {
    name: String,
}

impl Decide<Wind> for Clock {
    type Reply = ();
    type Rejection = Never;

    fn decide(&self, command: &Wind, _: &Context) -> Decision<Self, Wind> {
        let Wind { name, seconds } = command.clone();
        emit(ClockEvent::Wound { name, seconds }).reply(())
    }
}

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
        ClockEvent::Rang { .. } => nothing(),
    });
    Application::new("clocks")
        .entity::<Clock>()
        .reactor(ringing)
}

async fn open(robust: bool, engine: &Arc<dyn Engine>, world: Arc<dyn World>) -> Node {
    let opened = clocks(robust).open_on(engine.clone(), world, NodeOptions::default());
    opened.await.unwrap()
}

async fn wind(node: &Node, clock: &str, name: impl Into<String>, seconds: u64) {
    let name = name.into();
    let clock = node.entity::<Clock>(clock);
    clock.send(Wind { name, seconds }).await.unwrap();
}

async fn rang(node: &Node, clock: &str) -> Vec<String> {
    let clock = node.entity::<Clock>(clock);
    clock.read(|clock, _| clock.rang.clone()).await.unwrap()
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
