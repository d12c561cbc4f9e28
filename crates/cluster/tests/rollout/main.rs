//! Nodes of one build are exchanged for nodes of a later one, which writes events that the first cannot
//! read, while clients and nodes send commands.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    reason = "in a test a fault is a panic"
)]

mod house;
mod new;
mod old;

use std::sync::Arc;
use std::time::Duration;

use everfold::engine::World;
use everfold::engine::memory::Memory;
use everfold::engine::world::System;
use everfold::prelude::*;
use everfold_postgres::server::PrivateServer;
use everfold_sim::Simulation;
use house::{Build, House, NAMES};

#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CounterId(String);

/// A row of the view, the same in both builds.
#[derive(Default, Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Row {
    total: u64,
    mirrored: u64,
}

/// Exchanges all nodes, one after the other.
async fn exchange_all(mut house: House) {
    for name in NAMES {
        house.join(name, Build::Old).await;
    }
    house.until_owned().await;
    let load = house.load().await;
    house.world.sleep(Duration::from_millis(500)).await;
    for (place, name) in NAMES.into_iter().enumerate() {
        house.leave(name).await;
        house.join(name, Build::New).await;
        house.until_owned().await;
        house.world.sleep(Duration::from_secs(2)).await;
        house.nothing_is_parked();
        if place == 0 {
            // It is in the middle of it: both builds live, and both versions are in the log.
            assert!(house.newer_events().await > 0);
            house.read_everywhere().await;
        }
    }
    let sent = load.end().await;
    assert!(sent.iter().all(|sent| *sent > 20), "{sent:?}");
    house.check(&sent).await;
    house.close().await;
}

/// Attacks: a node of the old build fails commands, sets events aside, or answers from half of a
/// history.
#[test]
fn builds_are_exchanged_under_load_over_the_engine_in_memory() {
    let simulation = Simulation::new(3);
    let world = simulation.world();
    let engine = Arc::new(Memory::new(world.clone(), 8).unwrap());
    simulation.run(exchange_all(House::over_one(engine, world)));
}

/// The same over a real database, on real threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn builds_are_exchanged_under_load_over_postgresql() {
    let directory = tempfile::tempdir().unwrap();
    let server = PrivateServer::start(&directory.path().join("server"), &[]).unwrap();
    server.create_database("counters").unwrap();
    let address = format!("{}?schema=log&partitions=8", server.address("counters"));
    let world: Arc<dyn World> = System::current();
    exchange_all(House::at(address, world)).await;
    server.stop().unwrap();
}

/// Attacks: when the only node of the later build ends, commands on what it wrote fail, though another
/// one is on its way.
#[test]
fn what_only_a_later_build_can_do_waits_for_one() {
    let simulation = Simulation::new(5);
    let world = simulation.world();
    let engine = Arc::new(Memory::new(world.clone(), 8).unwrap());
    simulation.run(async {
        let mut house = House::over_one(engine, world);
        house.join("a", Build::New).await;
        house.until_owned().await;
        let sent = house.count_each(3).await;
        assert!(house.newer_events().await > 0);
        house.join("b", Build::Old).await;
        house.until_shared(2).await;
        // Nobody else can read it, and yet somebody has to own it.
        house.end("a").await;
        let load = house.load().await;
        house.world.sleep(Duration::from_secs(5)).await;
        house.join("c", Build::New).await;
        house.world.sleep(Duration::from_secs(5)).await;
        house.nothing_is_parked();
        let later = load.end().await;
        let all: Vec<u64> = sent.iter().zip(&later).map(|(a, b)| a + b).collect();
        house.leave("b").await;
        house.check(&all).await;
    });
    let reached = simulation.reached();
    assert!(
        reached["owner: work waits for a node of a later build"] > 0,
        "{reached:?}"
    );
}
