//! Faults of application code, lost areas and lost answers: what is at fault stands still alone.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test a fault is a panic"
)]

mod bank;
mod hook;

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bank::*;
use everfold::engine::engine::{Area, Engine};
use everfold::engine::slot::Partition;
use everfold::prelude::*;
use everfold::{CommandError, Expected, NewEvent, Open};
use hook::*;

/// Attacks: a fault fails its own question alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_looking_fails_the_read_alone() {
    let node = accounts().open("memory:").await.unwrap();
    let account = node.entity::<Account>("x");
    account.send(Deposit { amount: 1 }).await.unwrap();
    let looked = account.read(|_, _| -> u64 { panic!("look") }).await;
    assert!(
        matches!(looked, Err(CommandError::Panicked(_))),
        "{looked:?}"
    );
    assert_eq!(account.send(Deposit { amount: 1 }).await.unwrap().reply, 2);
}

/// Attacks: a fault stands still alone. `evolve` panics on a stored event; other entities of the
/// partition go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_loading_fails_its_entity_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let path = path.to_str().unwrap();
    let without_code = Application::new("old").open(path).await.unwrap();
    let event = NewEvent::json("Deposited", r#"{"amount":666}"#);
    let stream = without_code.stream("account-x");
    stream.append(vec![event], Expected::Any).await.unwrap();
    without_code.close().await;
    drop(without_code);
    let node = accounts().open(path).await.unwrap();
    let sent = node
        .entity::<Account>("x")
        .send(Deposit { amount: 1 })
        .await;
    assert!(sent.is_err());
    let partition = node.engine().identity().layout.partition("x");
    let other = id_in(partition.0, "other", node.engine().as_ref());
    let sent = node
        .entity::<Account>(other)
        .send(Deposit { amount: 1 })
        .await;
    assert_eq!(sent.unwrap().reply, 1);
    node.close().await;
}

/// Attacks: a fault in a reaction parks it. The fault is in what a rejection is mapped to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_the_mapping_of_a_rejection_parks_the_reaction() {
    let reactor = Reactor::named("mapping").on(|event: &AccountEvent, _| match event {
        AccountEvent::Deposited { .. } => {
            let poor = AccountId::from("poor".to_owned());
            command::<Account, _>(poor, Withdraw { amount: 1000 })
                .rejected(|_: Refused, _| -> Reaction { panic!("mapping") })
        }
        _ => nothing(),
    });
    let node = accounts().reactor(reactor).open("memory:").await.unwrap();
    let account = node.entity::<Account>("x");
    account.send(Deposit { amount: 1 }).await.unwrap();
    let patience = node.world().sleep(Duration::from_secs(20));
    tokio::select! { biased;
        caught_up = node.caught_up() => drop(caught_up.unwrap()),
        () = patience => panic!("the reaction is never done"),
    }
    let parked = node.parked();
    assert_eq!(parked.len(), 1);
    assert_eq!(
        (&*parked[0].handler, &*parked[0].key),
        ("mapping", "account-x")
    );
}

/// Attacks: areas can be remade from the log. Reactors start over and nothing is done twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reactions_are_done_once_also_after_the_areas_are_lost() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let address = path.to_str().unwrap();
    let node = bank().open(address).await.unwrap();
    let account = node.entity::<Account>("a");
    for _ in 0..10 {
        account.send(Deposit { amount: 1 }).await.unwrap();
    }
    node.caught_up().await.unwrap();
    // A checkpoint is stored meanwhile.
    let world = node.world().clone();
    world.sleep(Duration::from_millis(2500)).await;
    account.send(Deposit { amount: 1 }).await.unwrap();
    node.caught_up().await.unwrap();
    node.close().await;
    drop(node);
    std::fs::remove_file(path.join("areas.redb")).unwrap();
    let node = bank().open(address).await.unwrap();
    node.caught_up().await.unwrap();
    let mirror = node.entity::<Account>("mirror of a");
    let read = mirror.read(|account, version| (account.mirrored, version));
    assert_eq!(read.await, Ok((11, 11)));
    node.close().await;
}

fn fragile() -> View<String, Turnover> {
    View::named("fragile").on(
        |_: &AccountEvent, at| at.entity_id::<String>(),
        |row: &mut Turnover, _, at| {
            row.deposits += 1;
            assert!(
                !at.entity_id::<String>().starts_with("bad"),
                "a fault in a fold"
            );
        },
    )
}

/// Attacks: a row at fault stands still alone, and several at once do not begin the view anew for
/// ever.
#[test]
fn two_rows_at_fault_are_parked_and_the_rest_goes_on() {
    hooked(1, async |hook, world| {
        let node = open(accounts().view(fragile()), hook, &world).await;
        for id in ["bad 1", "bad 2", "good"] {
            node.entity::<Account>(id)
                .send(Deposit { amount: 1 })
                .await
                .unwrap();
        }
        let position = node.caught_up().await.unwrap();
        assert_eq!(node.parked().len(), 2);
        let row = node
            .view(&fragile())
            .get(&"good".to_owned())
            .after(&position);
        assert_eq!(row.await.unwrap().unwrap().deposits, 1);
    });
}

/// Attacks: rows and progress are stored as one. A fold faults while a commit is under way, and
/// half a stretch of events is in the rows.
#[test]
fn a_fault_while_rows_are_stored_counts_nothing_twice_or_never() {
    hooked(2, async |hook, world| {
        let [zero, good, bad] = [(0, "zero"), (1, "good"), (1, "bad")]
            .map(|(partition, name)| id_in(partition, name, hook.as_ref()));
        let node = open(accounts().view(fragile()), hook.clone(), &world).await;
        hook.mode().append_delay = Duration::from_millis(10);
        let [zero, healthy, faulty] =
            [&zero, &good, &bad].map(|id| node.entity::<Account>(id.clone()));
        zero.send(Deposit { amount: 1 }).await.unwrap();
        healthy.send(Deposit { amount: 1 }).await.unwrap();
        hook.mode().put_delay = Some((Partition(0), Duration::from_secs(2)));
        // By then a commit of the first partition is under way.
        world.sleep(Duration::from_millis(5500)).await;
        let stretch = [&healthy, &healthy, &faulty]
            .map(|account| account.send(Deposit { amount: 1 }).into_future());
        for sent in stretch {
            sent.await.unwrap();
        }
        world.sleep(Duration::from_secs(20)).await;
        let position = node.caught_up().await.unwrap();
        let row = node.view(&fragile()).get(&good).after(&position).await;
        assert_eq!(row.unwrap().unwrap().deposits, 3);
    });
}

/// Attacks: a query with a token reflects it, also while a fault makes the view begin anew.
#[test]
fn a_token_is_honoured_while_a_view_begins_anew() {
    hooked(2, async |hook, world| {
        let good = id_in(0, "good", hook.as_ref());
        let node = open(accounts().view(fragile()), hook.clone(), &world).await;
        let account = node.entity::<Account>(good.clone());
        let sent = account.send(Deposit { amount: 1 }).await.unwrap();
        let view = node.view(&fragile());
        let row = view.get(&good).after(sent.position()).await.unwrap();
        assert_eq!(row.unwrap().deposits, 1);
        hook.mode().scan_delay = Duration::from_millis(500);
        node.entity::<Account>("bad")
            .send(Deposit { amount: 1 })
            .await
            .unwrap();
        for _ in 0..30 {
            world.sleep(Duration::from_millis(100)).await;
            let ask = view.get(&good).after(sent.position());
            // In time or not: never without the write.
            if let Ok(row) = ask.within(Duration::from_millis(1)).await {
                assert_eq!(row.unwrap().deposits, 1);
            }
        }
    });
}

/// Attacks: progress goes on. Two puts happened, but their answers were lost, so revisions are not
/// what the handlers believe.
#[test]
fn handlers_go_on_storing_after_the_answer_of_a_put_was_lost() {
    hooked(1, async |hook, world| {
        let node = open(bank(), hook.clone(), &world).await;
        let revision = async |name: &'static str| {
            let area = Area {
                name: name.into(),
                partition: Partition(0),
            };
            hook.revision(&area).await.unwrap().0
        };
        hook.mode().lost_puts = 2;
        for _ in 0..5 {
            node.entity::<Account>("a")
                .send(Deposit { amount: 1 })
                .await
                .unwrap();
            world.sleep(Duration::from_secs(7)).await;
        }
        assert!(revision("view/turnover/1").await > 2);
        assert!(revision("reactor/mirror").await > 2);
    });
}

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
        let amount = command.amount;
        emit(PotEvent::Filled { amount }).reply(())
    }
}

/// Attacks: what was parked, tried again and done is not parked again. The put that was to forget
/// it failed.
#[test]
fn a_parked_reaction_that_was_done_stays_done_after_a_failed_put_and_a_restart() {
    hooked(1, async |hook, world| {
        let faulty = Arc::new(AtomicBool::new(true));
        let application = || {
            let faulty = faulty.clone();
            let fill = Reactor::named("fill").on(move |event: &AccountEvent, _| match event {
                AccountEvent::Deposited { amount } => {
                    assert!(*amount != 7 || !faulty.load(Ordering::SeqCst), "a fault");
                    let pot = PotId::from("pot".to_owned());
                    command::<Pot, _>(pot, Fill { amount: *amount }).into()
                }
                _ => nothing(),
            });
            accounts().entity::<Pot>().reactor(fill)
        };
        let node = open(application(), hook.clone(), &world).await;
        node.entity::<Account>("a")
            .send(Deposit { amount: 7 })
            .await
            .unwrap();
        node.caught_up().await.unwrap();
        assert_eq!(node.parked().len(), 1);
        world.sleep(Duration::from_secs(5)).await;
        faulty.store(false, Ordering::SeqCst);
        hook.mode().failing_puts = Some(("reactor/", 1));
        assert!(node.retry_parked("fill", "account-a"));
        world.sleep(Duration::from_secs(5)).await;
        assert_eq!(node.parked(), []);
        for amount in [1, 2] {
            node.entity::<Account>("b")
                .send(Deposit { amount })
                .await
                .unwrap();
            node.caught_up().await.unwrap();
            world.sleep(Duration::from_secs(5)).await;
        }
        node.close().await;
        let node = open(application(), hook, &world).await;
        node.caught_up().await.unwrap();
        assert_eq!(node.parked(), []);
        let read = node.entity::<Pot>("pot").read(|pot, _| pot.amounts.clone());
        assert_eq!(read.await, Ok(vec![7, 1, 2]));
    });
}
