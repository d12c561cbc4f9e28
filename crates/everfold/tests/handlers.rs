//! Views and reactors over restarts, crashes and faults.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test a fault is a panic"
)]

mod bank;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bank::*;
use everfold::engine::World;
use everfold::engine::engine::Engine;
use everfold::engine::memory::Memory;
use everfold::prelude::*;
use everfold::{NodeOptions, Open, SendError};
use everfold_sim::Simulation;

/// Attacks: exactly-once over crashes. A process dies at a random moment, again and again, between
/// event, command, checkpoint and rows; nothing is lost and nothing is done twice.
#[test]
fn reactors_and_views_survive_crashes_at_any_moment() {
    for seed in 0..40 {
        let simulation = Simulation::new(seed);
        let world = simulation.world();
        let engine: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 4).unwrap());
        let mut acknowledged = 0;
        for life in 0..6 {
            let process = simulation.process(&format!("life {life}"));
            let inner = process.world();
            let node = simulation.run(async {
                let node = bank()
                    .open_on(engine.clone(), inner, NodeOptions::default())
                    .await;
                Arc::new(node.unwrap())
            });
            let lasts = world.random() % 8;
            acknowledged += simulation.run(async {
                let mut done = 0;
                for _ in 0..lasts {
                    let account = node.entity::<Account>("a");
                    done += u64::from(account.send(Deposit { amount: 1 }).await.is_ok());
                    world
                        .sleep(Duration::from_millis(world.random() % 1500))
                        .await;
                }
                done
            });
            process.kill();
        }
        simulation.run(async {
            let node = bank()
                .open_on(engine.clone(), world.clone(), NodeOptions::default())
                .await;
            let node = node.unwrap();
            let position = node.caught_up().await.unwrap();
            let count = acknowledged;
            let look = |account: &Account, version| (account.mirrored, version);
            let mirrored = node.entity::<Account>("mirror of a").read(look).await;
            assert_eq!(mirrored, Ok((count as i64, count)), "seed {seed}");
            let row = node
                .view(&turnover())
                .get(&"a".to_owned())
                .after(&position)
                .await
                .unwrap();
            assert_eq!(row.map_or(0, |row| row.deposits), count, "seed {seed}");
            node.close().await;
        });
    }
}

/// Attacks: progress that is ahead of the rows, or rows ahead of progress, after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_goes_on_from_its_rows_after_a_restart_and_a_new_version_starts_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let path = path.to_str().unwrap();
    for round in 1..=3u64 {
        let node = bank().open(path).await.unwrap();
        for n in 0..30 {
            let account = format!("account {n}");
            node.entity::<Account>(account)
                .send(Deposit { amount: 1 })
                .await
                .unwrap();
        }
        let position = node.caught_up().await.unwrap();
        let rows = node
            .view(&turnover())
            .select(|_, row| row.deposits > 0)
            .after(&position)
            .await;
        let rows = rows.unwrap();
        assert_eq!(rows.len(), 30);
        assert!(rows.iter().all(|(_, row)| row.deposits == round));
        node.close().await;
    }
    let second = || turnover().version(2);
    let application = Application::new("bank").entity::<Account>().view(second());
    let node = application.open(path).await.unwrap();
    let position = node.caught_up().await.unwrap();
    let sum = |sum: &mut u64, _: &String, row: &Turnover| *sum += row.deposits;
    assert_eq!(
        node.view(&second()).fold(0, sum).after(&position).await,
        Ok(90)
    );
    node.close().await;
}

static POT_BROKEN: AtomicBool = AtomicBool::new(true);

#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PotId(String);

#[derive(Event, Clone, Debug, PartialEq)]
enum PotEvent {
    Filled { amount: i64 },
}

#[derive(Entity, Default)]
#[entity(name = "pot", id = PotId, event = PotEvent)]
struct Pot {
    amounts: Vec<i64>,
}

impl Evolve for Pot {
    fn evolve(&mut self, event: &PotEvent) {
        let PotEvent::Filled { amount } = event;
        self.amounts.push(*amount);
    }
}

#[derive(Command)]
struct Fill {
    amount: i64,
}

impl Decide<Fill> for Pot {
    type Reply = ();
    type Rejection = Never;

    fn decide(&self, command: &Fill, _: &Context) -> Decision<Self, Fill> {
        assert!(
            command.amount != 7 || !POT_BROKEN.load(Ordering::SeqCst),
            "the pot is broken"
        );
        emit(PotEvent::Filled {
            amount: command.amount,
        })
        .reply(())
    }
}

fn fill_pot() -> Reactor {
    Reactor::named("fill-pot").on(|event: &AccountEvent, at| match event {
        AccountEvent::Deposited { amount } => {
            let pot = PotId::from(format!("pot of {}", at.entity_id::<String>()));
            command::<Pot, _>(pot, Fill { amount: *amount }).into()
        }
        _ => nothing(),
    })
}

/// Attacks: a failing event that blocks everything, is skipped, or comes back out of order.
#[test]
fn a_failing_reaction_parks_its_entity_in_order_and_can_be_tried_again() {
    let simulation = Simulation::new(1);
    let world = simulation.world();
    let engine: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 4).unwrap());
    let application = || {
        Application::new("pots")
            .entity::<Account>()
            .entity::<Pot>()
            .reactor(fill_pot())
    };
    let deposits = |world: Arc<dyn World>, engine: Arc<dyn Engine>, amounts: Vec<i64>| async move {
        let node = application()
            .open_on(engine, world, NodeOptions::default())
            .await
            .unwrap();
        for amount in amounts {
            for account in ["bad", "good"] {
                let amount = if account == "good" && amount == 7 {
                    70
                } else {
                    amount
                };
                let sent = node
                    .entity::<Account>(account)
                    .send(Deposit { amount })
                    .await;
                sent.map_err(|error: SendError<Refused>| error.to_string())
                    .unwrap();
            }
        }
        node.caught_up().await.unwrap();
        node
    };
    let amounts = |node: &everfold::Node, pot: &str| {
        let pot = node.entity::<Pot>(pot);
        simulation
            .run(pot.read(|pot, _| pot.amounts.clone()))
            .unwrap()
    };
    let node = simulation.run(deposits(world.clone(), engine.clone(), vec![1, 7, 2, 3]));
    assert_eq!(amounts(&node, "pot of good"), [1, 70, 2, 3]);
    assert_eq!(amounts(&node, "pot of bad"), [1]);
    let parked = node.parked();
    assert_eq!(parked.len(), 1);
    assert_eq!(
        (parked[0].key.as_str(), parked[0].offsets.len()),
        ("account-bad", 3)
    );
    simulation.run(node.close());

    // It is still parked after a restart, and what comes later goes behind it.
    let node = simulation.run(deposits(world.clone(), engine.clone(), vec![4]));
    assert_eq!(node.parked()[0].offsets.len(), 4);
    assert!(node.retry_parked("fill-pot", "account-bad"));
    simulation.advance(Duration::from_secs(120));
    assert_eq!(
        node.parked()[0].offsets.len(),
        4,
        "nothing was repaired yet"
    );

    POT_BROKEN.store(false, Ordering::SeqCst);
    assert!(node.retry_parked("fill-pot", "account-bad"));
    simulation.advance(Duration::from_secs(120));
    assert_eq!(amounts(&node, "pot of bad"), [1, 7, 2, 3, 4]);
    assert_eq!(amounts(&node, "pot of good"), [1, 70, 2, 3, 4]);
    assert_eq!(node.parked(), []);
    simulation.run(node.close());
}

static FOLD_BROKEN: AtomicBool = AtomicBool::new(true);

/// Attacks: a fold that panics half way takes the whole view down, or leaves a half changed row.
#[test]
fn a_fold_that_panics_parks_its_row_alone() {
    let view = || {
        View::<String, Turnover>::named("fragile").on(
            |_: &AccountEvent, at| at.entity_id::<String>(),
            |row: &mut Turnover, event, _| {
                row.deposits += 1;
                let seven = *event == AccountEvent::Deposited { amount: 7 };
                assert!(
                    !seven || !FOLD_BROKEN.load(Ordering::SeqCst),
                    "the fold is broken"
                );
            },
        )
    };
    let simulation = Simulation::new(2);
    let world = simulation.world();
    let engine: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 4).unwrap());
    let application = Application::new("bank").entity::<Account>().view(view());
    simulation.run(async {
        let node = application
            .open_on(engine, world.clone(), NodeOptions::default())
            .await
            .unwrap();
        for amount in [1, 7, 2] {
            for account in ["bad", "good"] {
                let amount = if account == "good" { 1 } else { amount };
                node.entity::<Account>(account)
                    .send(Deposit { amount })
                    .await
                    .unwrap();
            }
            world.sleep(Duration::from_secs(7)).await;
        }
        let position = node.caught_up().await.unwrap();
        let row = |key: &str| node.view(&view()).get(&key.to_owned()).after(&position);
        assert_eq!(row("good").await.unwrap().unwrap().deposits, 3);
        assert_eq!(row("bad").await.unwrap().unwrap().deposits, 1);
        let parked = node.parked();
        assert_eq!((parked.len(), parked[0].offsets.len()), (1, 2));
        assert_eq!(parked[0].key, "bad");
        node.close().await;
    });
}

/// Two reactors that answer each other.
#[test]
fn a_loop_of_reactions_is_parked_and_named() {
    let echo = Reactor::named("echo").on(|event: &AccountEvent, at| match event {
        AccountEvent::Deposited { amount } => {
            let id = AccountId::from(at.entity_id::<String>());
            command::<Account, _>(id, Deposit { amount: *amount }).into()
        }
        _ => nothing(),
    });
    let simulation = Simulation::new(3);
    let world = simulation.world();
    let engine: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 4).unwrap());
    let application = Application::new("bank").entity::<Account>().reactor(echo);
    simulation.run(async {
        let node = application
            .open_on(engine, world.clone(), NodeOptions::default())
            .await
            .unwrap();
        node.entity::<Account>("a")
            .send(Deposit { amount: 1 })
            .await
            .unwrap();
        node.caught_up().await.unwrap();
        let parked = node.parked();
        assert_eq!(parked.len(), 1);
        assert!(parked[0].reason.contains("loop"), "{}", parked[0].reason);
        assert_eq!(
            node.entity::<Account>("a").read(|_, version| version).await,
            Ok(65)
        );
        node.close().await;
    });
}
