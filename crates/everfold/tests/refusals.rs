//! A store that refuses, cannot be read or takes no more than its limits.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test a fault is a panic"
)]

mod bank;
mod hook;

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use bank::*;
use everfold::engine::Partition;
use everfold::engine::engine::{Limits, Refusal};
use everfold::engine::memory::Memory;
use everfold::engine::world::new_id;
use everfold::prelude::*;
use everfold::{CommandError, Expected, NewEvent, Open, SendError};
use everfold_sim::Simulation;
use hook::*;

fn unavailable<R>() -> SendError<R> {
    SendError::Failed(CommandError::Unavailable {
        partition: Partition(0),
        reason: Refusal::Full("no space".into()).to_string(),
    })
}

/// Attacks: a refused batch is undone whole. Behind it the next batch was full; were that
/// remembered, nothing would be decided again.
#[test]
fn a_full_batch_behind_a_refused_one_is_decided_again() {
    let simulation = Simulation::new(1);
    let world = simulation.world();
    let limits = Limits {
        batch_records: 4,
        ..Limits::default()
    };
    let memory = Memory::new(world.clone(), 1).unwrap().with_limits(limits);
    let hook = Hook::new(Arc::new(memory), world.clone());
    simulation.run(async {
        let node = open(accounts(), hook.clone(), &world).await;
        hook.mode().append_delay = Duration::from_millis(10);
        hook.mode().full = true;
        let account = node.entity::<Account>("a");
        let first = account.send(Deposit { amount: 1 }).into_future();
        world.sleep(Duration::from_millis(1)).await;
        let later: Vec<_> = (0..10)
            .map(|_| account.send(Deposit { amount: 1 }).into_future())
            .collect();
        assert_eq!(first.await.unwrap_err(), unavailable());
        hook.mode().full = false;
        for (before, later) in later.into_iter().enumerate() {
            assert_eq!(later.await.unwrap().reply, before as i64 + 1);
        }
        node.close().await;
    });
}

/// Attacks: `until` finds every durable state. What it was shown first was refused later.
#[test]
fn who_waits_for_a_state_finds_it_again_after_a_refusal() {
    hooked(1, async |hook, world| {
        let node = open(accounts(), hook.clone(), &world).await;
        let account = node.entity::<Account>("a");
        account.send(Deposit { amount: 1 }).await.unwrap();
        hook.mode().append_delay = Duration::from_millis(10);
        hook.mode().full = true;
        let refused = account.send(Deposit { amount: 1 }).into_future();
        world.sleep(Duration::from_millis(1)).await;
        let found = account.until(Duration::from_secs(5), |account| {
            (account.balance == 1).then_some(())
        });
        assert_eq!(refused.await.unwrap_err(), unavailable());
        assert_eq!(found.await, Ok(()));
    });
}

/// Attacks: a read fails for its own reasons alone. It shares a batch with a command that is
/// refused.
#[test]
fn a_read_in_a_refused_batch_is_made_again() {
    hooked(1, async |hook, world| {
        let node = open(accounts(), hook.clone(), &world).await;
        let account = node.entity::<Account>("a");
        account.send(Deposit { amount: 1 }).await.unwrap();
        hook.mode().append_delay = Duration::from_millis(10);
        let slow = account.send(Deposit { amount: 1 }).into_future();
        world.sleep(Duration::from_millis(1)).await;
        let refused = account.send(Deposit { amount: 5 }).into_future();
        let read = account.read(|account, _| account.balance);
        world.sleep(Duration::from_millis(1)).await;
        assert_eq!(slow.await.unwrap().reply, 2);
        hook.mode().full = true;
        assert_eq!(refused.await.unwrap_err(), unavailable());
        assert_eq!(read.await, Ok(2));
    });
}

/// Attacks: only what a person must look at is parked. A store that cannot be read for a while
/// comes back by itself.
#[test]
fn a_store_that_cannot_be_read_for_a_while_parks_nothing() {
    hooked(1, async |hook, world| {
        let node = open(bank(), hook.clone(), &world).await;
        let account = node.entity::<Account>("a");
        account.send(Withdraw { amount: 0 }).await.unwrap();
        hook.mode().unreadable = true;
        account.send(Deposit { amount: 1 }).await.unwrap();
        world.sleep(Duration::from_secs(10)).await;
        hook.mode().unreadable = false;
        node.caught_up().await.unwrap();
        assert_eq!(node.parked(), []);
        let mirror = node.entity::<Account>("mirror of a");
        assert_eq!(mirror.read(|account, _| account.mirrored).await, Ok(1));
    });
}

#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ParrotId(String);

#[derive(Event, Clone, Debug, PartialEq)]
enum ParrotEvent {
    Heard { bytes: u64 },
}

#[derive(Entity, Default)]
#[entity(name = "parrot", id = ParrotId, event = ParrotEvent)]
struct Parrot {
    heard: u64,
}

impl Evolve for Parrot {
    fn evolve(&mut self, event: &ParrotEvent) {
        let ParrotEvent::Heard { bytes } = event;
        self.heard += bytes;
    }
}

#[derive(Command)]
struct Say {
    bytes: u64,
}

impl Decide<Say> for Parrot {
    type Reply = String;
    type Rejection = Never;

    fn decide(&self, command: &Say, _: &Context) -> Decision<Self, Say> {
        let bytes = command.bytes;
        emit(ParrotEvent::Heard { bytes }).reply("x".repeat(bytes as usize))
    }
}

fn too_large<T: std::fmt::Debug, R: std::fmt::Debug>(result: Result<T, SendError<R>>) -> bool {
    matches!(result, Err(SendError::Failed(CommandError::TooLarge(_))))
}

/// Attacks: what is too large is refused before anything changes, wherever its bytes are. The log
/// behind the entity must go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_labels_and_principals_count_against_the_limits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let application = accounts().entity::<Parrot>();
    let node = application.open(path.to_str().unwrap()).await.unwrap();
    let parrot = node.entity::<Parrot>("p");
    for _ in 0..2 {
        let id = new_id(node.world().as_ref());
        assert!(too_large(parrot.send(Say { bytes: 64 << 20 }).id(id).await));
    }
    let by = "x".repeat(64 << 20);
    assert!(too_large(
        parrot.send(Say { bytes: 1 }).by(by.clone()).await
    ));
    assert!(too_large(parrot.send(Say { bytes: 1 }).trace(by).await));
    assert!(parrot.send(Say { bytes: 1 }).await.is_ok());
    assert_eq!(
        parrot.read(|state, version| (state.heard, version)).await,
        Ok((1, 1))
    );

    let stream = node.stream("foo-1");
    let small = NewEvent::json("Happened", "{}");
    let labelled = small.clone().label("x", "y".repeat(64 << 20));
    let named = NewEvent::json("y".repeat(64 << 20), "{}");
    for event in [labelled, named] {
        let refused = stream.append(vec![event], Expected::Any).await;
        assert!(matches!(refused, Err(CommandError::TooLarge(_))));
    }
    assert_eq!(
        stream
            .append(vec![small], Expected::Any)
            .await
            .unwrap()
            .reply,
        1
    );
    node.close().await;
}

/// Attacks: memory holds what exists. Whoever asks for ids that do not exist must not fill it, nor
/// who gives up waiting.
#[test]
fn reads_of_nothing_and_abandoned_waits_leave_nothing_in_memory() {
    hooked(1, async |hook, world| {
        let node = open(accounts(), hook, &world).await;
        let account = |number: usize| node.entity::<Account>(format!("nobody {number}"));
        for number in 0..1000 {
            let read = account(number).read(|_, version| version);
            assert_eq!(read.await, Ok(0));
            let refused = account(number).send(Withdraw { amount: 1 }).await;
            assert!(matches!(refused, Err(SendError::Rejected(_))));
            let never = account(number).until(Duration::from_millis(1), |_| None::<()>);
            assert_eq!(never.await, Err(CommandError::Deadline));
        }
        node.entity::<Account>("somebody")
            .send(Deposit { amount: 1 })
            .await
            .unwrap();
        let report = node.owners().await.unwrap()[0];
        assert!(report.entities <= 257, "{report:?}");
        assert_eq!(report.batches, 1);
    });
}
