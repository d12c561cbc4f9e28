//! What a view shows: whole units, what was stored, never less than it says.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test a fault is a panic"
)]

mod bank;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bank::*;
use everfold::engine::World;
use everfold::engine::engine::Engine;
use everfold::engine::memory::Memory;
use everfold::prelude::*;
use everfold::{Node, NodeOptions, Open};
use everfold_sim::Simulation;
use serde::{Deserialize, Serialize};

fn id(name: usize) -> AccountId {
    AccountId::from(format!("{{bank}}-{name}"))
}

/// Attacks: half a transfer. Money moves between rows while somebody adds them up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_part_of_a_unit_whichever_rows_it_changes() {
    let node = Arc::new(bank().open("memory:").await.unwrap());
    node.entity::<Account>(id(0))
        .send(Deposit { amount: 100 })
        .await
        .unwrap();
    let moving = node.clone();
    let (done, mut over) = tokio::sync::oneshot::channel();
    let moves = async move {
        for n in 0..400 {
            let transfer = Transfer {
                from: id(n % 7),
                to: id((n + 1) % 7),
                amount: 100,
            };
            moving.together().send(transfer).await.unwrap();
        }
        let _ = done.send(());
    };
    node.world().spawn("transfers", Box::pin(moves));
    let position = node.position().await.unwrap();
    let mut looks = 0;
    while over.try_recv().is_err() {
        let sum = |sum: &mut i64, _: &String, row: &Turnover| *sum += row.deposited - row.withdrawn;
        let total = node
            .view(&turnover())
            .fold(0, sum)
            .after(&position)
            .await
            .unwrap();
        assert_eq!(total, 100, "after {looks} looks");
        looks += 1;
        tokio::task::yield_now().await;
    }
    assert!(looks > 0);
    node.close().await;
}

/// Attacks: an empty answer because the rows were not loaded yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_question_after_a_start_finds_the_stored_rows() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let path = path.to_str().unwrap();
    let node = bank().open(path).await.unwrap();
    node.entity::<Account>("a")
        .send(Deposit { amount: 5 })
        .await
        .unwrap();
    node.caught_up().await.unwrap();
    node.close().await;
    for _ in 0..5 {
        let node = bank().open(path).await.unwrap();
        let row = node.view(&turnover()).get(&"a".to_owned()).await.unwrap();
        assert_eq!(row.map(|row| row.deposited), Some(5));
        node.close().await;
    }
}

fn simulated(test: impl AsyncFn(Arc<dyn Engine>, Arc<dyn World>)) {
    let simulation = Simulation::new(5);
    let world = simulation.world();
    let engine: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 4).unwrap());
    simulation.run(test(engine, world));
}

async fn start(application: Application, engine: &Arc<dyn Engine>, world: &Arc<dyn World>) -> Node {
    application
        .open_on(engine.clone(), world.clone(), NodeOptions::default())
        .await
        .unwrap()
}

#[derive(Default, Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pairs {
    /// JSON has no keys but text: this cannot be written.
    seen: BTreeMap<(i64, i64), u64>,
}

/// Attacks: stored progress that passes a row which was not stored.
#[test]
fn a_row_that_cannot_be_stored_is_shown_and_not_forgotten_by_a_restart() {
    let view = || {
        View::<String, Pairs>::named("pairs").on(
            |_: &AccountEvent, at| at.entity_id::<String>(),
            |row: &mut Pairs, _, at| *row.seen.entry((1, at.version() as i64)).or_default() += 1,
        )
    };
    let application = || Application::new("bank").entity::<Account>().view(view());
    simulated(async |engine, world| {
        for life in 1..=3 {
            let node = start(application(), &engine, &world).await;
            node.entity::<Account>("a")
                .send(Deposit { amount: 1 })
                .await
                .unwrap();
            let position = node.caught_up().await.unwrap();
            let row = node
                .view(&view())
                .get(&"a".to_owned())
                .after(&position)
                .await
                .unwrap();
            assert_eq!(row.unwrap().seen.len(), life);
            world.sleep(Duration::from_secs(10)).await;
            let parked = node.parked();
            assert_eq!(parked.len(), 1);
            assert!(
                parked[0].reason.contains("cannot be stored"),
                "{}",
                parked[0].reason
            );
            node.close().await;
        }
    });
}

#[test]
fn a_handler_may_listen_twice_to_the_same_events() {
    let view = || {
        View::<String, Turnover>::named("twice")
            .on(
                |_: &AccountEvent, at| at.entity_id::<String>(),
                |row: &mut Turnover, _, _| row.deposits += 1,
            )
            .on(
                |_: &AccountEvent, _| "all".to_owned(),
                |row: &mut Turnover, _, _| row.deposits += 1,
            )
    };
    let echo = |name: &'static str| {
        move |event: &AccountEvent, at: &everfold::At| match event {
            AccountEvent::Deposited { amount } => {
                let target = AccountId::from(format!("{name} of {}", at.entity_id::<String>()));
                command::<Account, _>(target, Mirror { amount: *amount }).into()
            }
            _ => nothing(),
        }
    };
    simulated(async |engine, world| {
        let reactor = Reactor::named("both").on(echo("first")).on(echo("second"));
        let application = Application::new("bank").entity::<Account>().view(view());
        let node = start(application.reactor(reactor), &engine, &world).await;
        node.entity::<Account>("a")
            .send(Deposit { amount: 3 })
            .await
            .unwrap();
        let position = node.caught_up().await.unwrap();
        for name in ["first of a", "second of a"] {
            assert_eq!(
                node.entity::<Account>(name)
                    .read(|state, _| state.mirrored)
                    .await,
                Ok(3)
            );
        }
        let row = |key: &str| node.view(&view()).get(&key.to_owned()).after(&position);
        assert_eq!(row("a").await.unwrap().unwrap().deposits, 1);
        assert_eq!(row("all").await.unwrap().unwrap().deposits, 3);
        node.close().await;
    });
}
