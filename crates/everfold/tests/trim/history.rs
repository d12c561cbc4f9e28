//! Trimming through the node: baselines first, and nobody loses a state.

use std::path::Path;
use std::sync::Arc;

use crate::bank::*;
use crate::later::{self, *};
use everfold::engine::engine::ReadLimit;
use everfold::engine::record::Kind;
use everfold::engine::world::new_id;
use everfold::engine::{Offset, Partition, Timestamp};
use everfold::prelude::*;
use everfold::{Node, SendError, StateStore, TrimError};

/// States come from the log alone.
async fn open(path: &Path, days: u32) -> Node {
    open_as(bank(), path, days).await
}

async fn open_as(application: Application, path: &Path, days: u32) -> Node {
    later::open(application, path, days, StateStore::Memory).await
}

/// The records of all partitions.
async fn records(node: &Node) -> Vec<Arc<everfold::engine::Record>> {
    let mut records = Vec::new();
    for partition in [Partition(0), Partition(1)] {
        let mut after = Offset(0);
        loop {
            let read = node.engine().read(partition, after, ReadLimit::default());
            let chunk = read.await.unwrap();
            if chunk.next == after {
                break;
            }
            (after, _) = (chunk.next, records.extend(chunk.records));
        }
    }
    records
}

fn accounts() -> Vec<String> {
    (0..6).map(|n| format!("account {n}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_past_goes_and_states_stay() {
    let directory = tempfile::tempdir().unwrap();
    let node = open(directory.path(), 0).await;
    for account in accounts() {
        deposit(&node, &account, 30).await;
    }
    node.caught_up().await.unwrap();
    let now = node.world().now();
    assert!(matches!(
        node.trim_before(now).await,
        Err(TrimError::TooYoung)
    ));
    node.close().await;

    let node = open(directory.path(), 2).await;
    deposit(&node, "account 0", 5).await;
    node.caught_up().await.unwrap();
    let before = records(&node).await.len();
    // Handlers store what they have done when they close, and now and then.
    node.close().await;
    let node = open(directory.path(), 2).await;
    node.caught_up().await.unwrap();
    let day = DAY.as_micros() as i64;
    let trimmed = node.trim_before(Timestamp(now.0 + day / 2)).await.unwrap();
    assert!(trimmed.records > 100 && trimmed.bytes > 0, "{trimmed:?}");
    // Some are named by their baselines alone now.
    let found = node.entities::<Account>().before("b").await.unwrap();
    let found: Vec<String> = found.entities.iter().map(|it| it.id.to_string()).collect();
    assert_eq!(found, accounts());
    let left = records(&node).await;
    assert!(left.len() < before, "{} of {before}", left.len());
    assert!(left.iter().any(|record| record.kind == Kind::Baseline));
    node.close().await;

    let node = open(directory.path(), 3).await;
    assert_eq!(balance(&node, "account 0").await, (35, 35));
    assert_eq!(balance(&node, "account 3").await, (30, 30));
    assert_eq!(balance(&node, "nobody").await, (0, 0));
    deposit(&node, "account 3", 1).await;
    assert_eq!(balance(&node, "account 3").await, (31, 31));
    node.close().await;
    let found = everfold_log::verify(
        &everfold_log::Directory::new(directory.path()).unwrap(),
        &mut |_, _| {},
    );
    assert_eq!(found.unwrap().damage, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_account_is_trimmed_and_the_others_are_whole() {
    let directory = tempfile::tempdir().unwrap();
    let node = open(directory.path(), 0).await;
    for account in accounts() {
        deposit(&node, &account, 40).await;
    }
    node.caught_up().await.unwrap();
    node.close().await;
    let id = AccountId::from("account 1".to_owned());
    let node = open(directory.path(), 0).await;
    node.caught_up().await.unwrap();
    // Commands of today may be repeated, and the answers go with the events.
    let nothing = node.trim_entity::<Account>(id.clone()).await.unwrap();
    assert_eq!(nothing.records, 0);
    node.close().await;
    let node = open(directory.path(), 2).await;
    node.caught_up().await.unwrap();
    deposit(&node, "account 1", 1).await;
    let trimmed = node.trim_entity::<Account>(id.clone()).await.unwrap();
    assert!(trimmed.records > 10, "{trimmed:?}");
    node.close().await;
    let node = open(directory.path(), 2).await;
    assert_eq!(balance(&node, "account 1").await, (41, 41));
    assert_eq!(balance(&node, "account 2").await, (40, 40));
    let left = records(&node).await;
    let of = |account: &str| {
        let count = left
            .iter()
            .filter(|record| record.kind == Kind::Event && record.portable.entity.id == *account);
        count.count()
    };
    assert!(of("account 1") < 41 && of("account 2") == 40);
    node.close().await;
}

/// Attacks: what handlers have not stored as done they may read again, however old it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_handlers_may_read_again_stays() {
    let directory = tempfile::tempdir().unwrap();
    let node = open(directory.path(), 0).await;
    for account in accounts() {
        deposit(&node, &account, 40).await;
    }
    node.caught_up().await.unwrap();
    // What a process that ends here leaves: progress is not stored yet.
    let left = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), left.path().join(file.file_name())).unwrap();
    }
    node.close().await;
    let node = open(left.path(), 2).await;
    node.caught_up().await.unwrap();
    let id = AccountId::from("account 1".to_owned());
    let nothing = node.trim_entity::<Account>(id).await.unwrap();
    assert_eq!(nothing.records, 0);
    node.close().await;
}

/// Attacks: a refused command of today has its answer in an outcome, behind the events of old.
#[tokio::test(flavor = "multi_thread")]
async fn outcomes_of_today_stay() {
    let directory = tempfile::tempdir().unwrap();
    let node = open(directory.path(), 0).await;
    let now = node.world().now();
    for account in accounts() {
        deposit(&node, &account, 30).await;
    }
    node.caught_up().await.unwrap();
    node.close().await;
    let node = open(directory.path(), 2).await;
    let account = node.entity::<Account>("account 1");
    let mut ids = Vec::new();
    for _ in 0..600 {
        let id = new_id(&**node.world());
        let refused = account.send(Withdraw { amount: 1_000 }).id(id).await;
        assert!(matches!(refused, Err(SendError::Rejected(_))));
        ids.push(id);
    }
    node.caught_up().await.unwrap();
    node.close().await;
    let node = open(directory.path(), 2).await;
    node.caught_up().await.unwrap();
    let time = Timestamp(now.0 + DAY.as_micros() as i64 / 2);
    node.trim_before(time).await.unwrap();
    let account = node.entity::<Account>("account 1");
    account.send(Deposit { amount: 2_000 }).await.unwrap();
    node.close().await;
    // From the log alone: none of them is decided anew.
    let node = open(directory.path(), 2).await;
    let account = node.entity::<Account>("account 1");
    for id in ids {
        let again = account.send(Withdraw { amount: 1_000 }).id(id).await;
        assert!(matches!(again, Err(SendError::Rejected(_))));
    }
    assert_eq!(balance(&node, "account 1").await.0, 2_030);
    node.close().await;
}

/// Mirrors deposits, and then always fails.
fn failing() -> Application {
    let reactor = Reactor::named("failing").on(|event: &AccountEvent, at| match event {
        AccountEvent::Deposited { amount } if at.entity_id::<String>().starts_with("bad") => {
            let to = |id: &str| AccountId::from(id.to_owned());
            let mirrored = command::<Account, _>(to("kept"), Mirror { amount: *amount });
            let fails = command::<Account, _>(to("broken"), Deposit { amount: 666 });
            Reaction::from(mirrored).then(fails)
        }
        _ => nothing(),
    });
    Application::new("bank")
        .entity::<Account>()
        .reactor(reactor)
}

/// Attacks: a parked event of one partition, and what it has done already in another.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_reactor_may_send_again_is_still_known() {
    let directory = tempfile::tempdir().unwrap();
    let node = open_as(failing(), directory.path(), 0).await;
    let layout = node.engine().identity().layout;
    let kept = layout.partition("kept");
    let bad = (0..).map(|n| format!("bad {n}"));
    let bad = { bad }.find(|id| layout.partition(id) != kept).unwrap();
    deposit(&node, &bad, 1).await;
    node.caught_up().await.unwrap();
    assert_eq!(node.parked().len(), 1);
    deposit(&node, "kept", 300).await;
    node.caught_up().await.unwrap();
    node.close().await;
    let node = open_as(failing(), directory.path(), 2).await;
    node.caught_up().await.unwrap();
    let id = AccountId::from("kept".to_owned());
    let nothing = node.trim_entity::<Account>(id).await.unwrap();
    assert_eq!(nothing.records, 0);
    node.close().await;
}
