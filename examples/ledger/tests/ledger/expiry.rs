//! Holds that end by themselves, by a durable timer.

use std::sync::Arc;
use std::time::Duration;

use everfold::NodeOptions;
use everfold::engine::World;
use everfold::engine::memory::Memory;
use everfold_ledger::account::{Account, HoldEnd, HoldState, PlaceHold, Release};
use everfold_ledger::transfer::Capture;
use everfold_sim::Simulation;

use crate::running::{Ledger, amount};

fn place(hold: &str, seconds: Option<u32>) -> PlaceHold {
    PlaceHold {
        hold: hold.into(),
        amount: amount(10),
        expires_after: seconds,
    }
}

async fn held(ledger: &Ledger) -> i128 {
    ledger.node.caught_up().await.unwrap();
    let account = ledger.node.entity::<Account>("{t}a");
    let read = account.read(|account, _| account.held().minor());
    read.await.unwrap()
}

#[test]
fn a_hold_expires_when_its_time_is_over_unless_it_has_ended_before() {
    let simulation = Simulation::new(1);
    let world = simulation.world();
    simulation.run(async {
        let ledger = Ledger::within(world.clone(), 16).await;
        ledger.open("{t}a", 100).await;
        ledger.open("{t}b", 0).await;
        for (hold, seconds) in [
            ("short", Some(60)),
            ("long", Some(600)),
            ("for-ever", None),
            ("released", Some(60)),
            ("captured", Some(60)),
        ] {
            let placed = ledger.account("{t}a", place(hold, seconds)).await;
            assert_eq!(placed, Ok(HoldState::Placed));
        }
        let release = |hold: &str| Release { hold: hold.into() };
        ledger.account("{t}a", release("released")).await.unwrap();
        let capture = Capture {
            transfer: "t-1".into(),
            hold: "captured".into(),
            from: "{t}a".into(),
            to: "{t}b".into(),
            amount: amount(10),
        };
        ledger.together(capture).await.unwrap();
        // Only what can still expire waits.
        ledger.node.caught_up().await.unwrap();
        let timers = ledger.node.handlers().await.unwrap();
        let timers: u64 = timers.iter().map(|handler| handler.timers).sum();
        assert_eq!(timers, 2);
        world.sleep(Duration::from_secs(59)).await;
        assert_eq!(held(&ledger).await, 30);
        world.sleep(Duration::from_secs(2)).await;
        assert_eq!(held(&ledger).await, 20);
        let ended = ledger.account("{t}a", release("short")).await;
        assert_eq!(ended, Ok(HoldEnd::Expired));
        let ended = ledger.account("{t}a", release("released")).await;
        assert_eq!(ended, Ok(HoldEnd::Released));
        world.sleep(Duration::from_secs(600)).await;
        assert_eq!(held(&ledger).await, 10);
        assert_eq!(ledger.balance("{t}b").await, 10);
        ledger.books().await;
    });
}

/// Attacks: a process that dies before a hold is over, and one that starts after it.
#[test]
fn a_hold_expires_though_the_process_was_dead_when_its_time_came() {
    for seed in 0..10 {
        let simulation = Simulation::new(seed);
        let world = simulation.world();
        let engine = Arc::new(Memory::new(world.clone(), 3).unwrap());
        let open = async |world: Arc<dyn World>| {
            let application = everfold_ledger::application();
            let opened = application.open_on(engine.clone(), world, NodeOptions::default());
            Ledger {
                node: Arc::new(opened.await.unwrap()),
            }
        };
        let process = simulation.process("first");
        simulation.run(async {
            let ledger = open(process.world()).await;
            ledger.open("{t}a", 100).await;
            ledger.account("{t}a", place("h", Some(60))).await.unwrap();
            let micros = world.random() % 2_000;
            world.sleep(Duration::from_micros(micros)).await;
            std::mem::forget(ledger);
        });
        process.kill();
        simulation.run(async {
            world.sleep(Duration::from_secs(3600)).await;
            let ledger = open(world.clone()).await;
            assert_eq!(held(&ledger).await, 0, "seed {seed}");
            ledger.node.close().await;
        });
    }
}
