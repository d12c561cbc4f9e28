//! Nodes that lose their partitions, their engine or their owner.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test a fault is a panic"
)]

mod bank;
mod hook;

use std::sync::Arc;
use std::time::Duration;

use bank::*;
use everfold::engine::engine::Engine;
use everfold::engine::slot::Partition;
use everfold::prelude::*;
use everfold::{CommandError, NodeOptions, SendError, StartError};
use everfold_sim::{Settings, Simulation};
use hook::*;

/// Attacks: closing ends. Handlers of a node that was fenced can store nothing any more.
#[test]
fn a_node_that_was_fenced_closes() {
    hooked(2, async |hook, world| {
        let old = open(bank(), hook.clone(), &world).await;
        let account = old.entity::<Account>("x");
        account.send(Deposit { amount: 1 }).await.unwrap();
        let new = open(bank(), hook, &world).await;
        let refused = account.send(Deposit { amount: 1 }).await;
        assert!(matches!(
            refused,
            Err(SendError::Failed(CommandError::Fenced(_)))
        ));
        old.close().await;
        let sent = new.entity::<Account>("x").send(Deposit { amount: 1 }).await;
        assert_eq!(sent.unwrap().reply, 2);
    });
}

/// Attacks: closing ends, also over an engine that has stopped for good.
#[test]
fn a_node_whose_engine_has_stopped_closes() {
    hooked(2, async |hook, world| {
        let node = open(bank(), hook.clone(), &world).await;
        let account = node.entity::<Account>("x");
        account.send(Deposit { amount: 1 }).await.unwrap();
        hook.mode().stopped = true;
        let unknown = account.send(Deposit { amount: 1 }).await;
        assert!(matches!(
            unknown,
            Err(SendError::Failed(CommandError::Unknown(_)))
        ));
        node.close().await;
    });
}

/// Attacks: a node that is dropped leaves nothing behind that runs.
#[test]
fn a_node_dropped_without_closing_comes_to_rest() {
    let settings = Settings {
        steps: 200_000,
        ..Settings::default()
    };
    let simulation = Simulation::with(1, settings);
    let world = simulation.world();
    simulation.run(async {
        let application = accounts().view(turnover());
        let node = open(application, memory(&world, 2), &world).await;
        let account = node.entity::<Account>("x");
        account.send(Deposit { amount: 1 }).await.unwrap();
    });
    simulation.advance(Duration::from_secs(1));
    let before = simulation.steps();
    simulation.advance(Duration::from_secs(3600));
    assert!(simulation.steps() - before < 100);
}

/// Attacks: after closing no reaction goes on, and the engine is let go of. A reaction is being
/// tried again when the node closes.
#[test]
fn a_reaction_that_is_tried_again_ends_with_its_node() {
    let simulation = Simulation::new(4);
    let world = simulation.world();
    let hook = Hook::new(memory(&world, 1), world.clone());
    let engine = Arc::downgrade(&hook);
    simulation.run(async {
        let node = open(bank(), hook.clone(), &world).await;
        let account = node.entity::<Account>("x");
        account.send(Deposit { amount: 1 }).await.unwrap();
        hook.mode().full = true;
        world.sleep(Duration::from_secs(3)).await;
        node.close().await;
    });
    drop(hook);
    simulation.advance(Duration::from_secs(3600));
    assert_eq!(engine.strong_count(), 0);
}

/// Attacks: a session reads its own writes, whichever node it asks. One node was fenced and has
/// not noticed.
#[test]
fn a_fenced_node_answers_nothing_older_than_the_token() {
    hooked(1, async |hook, world| {
        let old = open(accounts(), hook.clone(), &world).await;
        let there = old.entity::<Account>("x");
        there.send(Deposit { amount: 1 }).await.unwrap();
        let new = open(accounts(), hook, &world).await;
        let here = new.entity::<Account>("x");
        let sent = here.send(Deposit { amount: 1 }).await.unwrap();
        let patience = Duration::from_secs(1);
        let balance = |account: &Account, _| account.balance;
        let seen = there.read_after(sent.position(), patience, balance).await;
        assert_eq!(seen, Err(CommandError::Fenced(Partition(0))));
        let seen = here.read_after(sent.position(), patience, balance).await;
        assert_eq!(seen, Ok(2));
    });
}

/// Attacks: a session read ends. The token is of a log that never came so far.
#[test]
fn a_token_ahead_of_the_log_is_waited_for_until_the_deadline() {
    hooked(1, async |hook, world| {
        let ahead = memory(&world, 1);
        let node = open(accounts(), ahead.clone(), &world).await;
        for _ in 0..3 {
            node.entity::<Account>("x")
                .send(Deposit { amount: 1 })
                .await
                .unwrap();
        }
        let head = node.position().await.unwrap().offset(Partition(0));
        let behind = open(accounts(), hook.clone(), &world).await;
        let token = hook.identity().start().with(Partition(0), head);
        let account = behind.entity::<Account>("x");
        let read = account.read_after(&token, Duration::from_secs(1), |_, version| version);
        assert_eq!(read.await, Err(CommandError::Deadline));
    });
}

mod changed {
    use everfold::prelude::*;

    #[derive(Event, Clone, Debug, PartialEq)]
    pub enum AccountEvent {
        Deposited { amount: i64, currency: String },
    }

    #[derive(Entity, Default)]
    #[entity(name = "account", id = super::AccountId, event = AccountEvent)]
    pub struct Account {
        deposits: u64,
    }

    impl Evolve for Account {
        fn evolve(&mut self, _: &AccountEvent) {
            self.deposits += 1;
        }
    }
}

/// Attacks: a start that fails changes nothing. The build is not fit to run next to what is noted.
#[test]
fn a_start_that_fails_leaves_the_running_node_alone() {
    hooked(1, async |hook, world| {
        let node = open(accounts(), hook.clone(), &world).await;
        let unfit = Application::new("bank").entity::<changed::Account>();
        let started = unfit.open_on(hook, world.clone(), NodeOptions::default());
        assert!(matches!(
            started.await,
            Err(StartError::SchemaChanged { .. })
        ));
        let sent = node
            .entity::<Account>("a")
            .send(Deposit { amount: 1 })
            .await;
        assert_eq!(sent.unwrap().reply, 1);
    });
}
