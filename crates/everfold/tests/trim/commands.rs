//! Trimming through the node beside what it promises of commands.

use std::path::Path;

use crate::bank::*;
use crate::later::{self, *};
use everfold::engine::world::new_id;
use everfold::engine::{EntityKey, Uuid};
use everfold::{Application, Node, StateStore, TrimError};

async fn open(path: &Path, days: u32, store: StateStore) -> Node {
    later::open(bank(), path, days, store).await
}

/// A command of the last minute, to an entity whose old history is trimmed.
async fn trimmed(path: &Path, store: StateStore) -> (Node, Uuid, u64) {
    let node = open(path, 0, store).await;
    deposit(&node, "account 1", 60).await;
    node.caught_up().await.unwrap();
    node.close().await;
    let node = open(path, 2, store).await;
    let id = new_id(&**node.world());
    let account = node.entity::<Account>("account 1");
    account.send(Deposit { amount: 100 }).id(id).await.unwrap();
    deposit(&node, "account 1", 40).await;
    for n in 2..6 {
        deposit(&node, &format!("account {n}"), 40).await;
    }
    node.caught_up().await.unwrap();
    node.close().await;
    let node = open(path, 2, store).await;
    node.caught_up().await.unwrap();
    let account = node.entity::<Account>("account 1");
    // Known, and answered as before.
    account.send(Deposit { amount: 100 }).id(id).await.unwrap();
    assert_eq!(balance(&node, "account 1").await.0, 200);
    let trimmed = node.trim_entity::<Account>("account 1").await.unwrap();
    (node, id, trimmed.records)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_today_is_answered_after_its_entity_was_trimmed() {
    let directory = tempfile::tempdir().unwrap();
    let (node, id, records) = trimmed(directory.path(), StateStore::Disk).await;
    assert!(records > 10, "{records}");
    let account = node.entity::<Account>("account 1");
    let again = account.send(Deposit { amount: 100 }).id(id).await;
    assert!(again.is_ok(), "{:?}", again.err());
    assert_eq!(balance(&node, "account 1").await.0, 200);
    node.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_today_is_not_executed_again_after_its_entity_was_trimmed() {
    let directory = tempfile::tempdir().unwrap();
    let (node, id, records) = trimmed(directory.path(), StateStore::Memory).await;
    assert!(records > 10, "{records}");
    node.close().await;
    let node = open(directory.path(), 2, StateStore::Memory).await;
    let account = node.entity::<Account>("account 1");
    let _ = account.send(Deposit { amount: 100 }).id(id).await;
    assert_eq!(balance(&node, "account 1").await.0, 200);
    node.close().await;
}

/// The stored table of ids ends with a record that is trimmed; then the process ends early. What is
/// stored is still of this log: ids of trimmed records can be had from nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn the_stored_table_of_ids_outlives_the_record_that_it_ends_with() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let node = open(path, 0, StateStore::Disk).await;
    for n in 2..10 {
        deposit(&node, &format!("account {n}"), 20).await;
    }
    deposit(&node, "account 1", 40).await;
    node.caught_up().await.unwrap();
    let of_account = usize::from(node.engine().identity().layout.partition("account 1").0);
    node.close().await;
    let node = open(path, 2, StateStore::Disk).await;
    let report = &node.owners().await.unwrap()[of_account];
    let stored = report.safe_head - report.replayed;
    for n in 2..10 {
        deposit(&node, &format!("account {n}"), 60).await;
    }
    node.caught_up().await.unwrap();
    let trimmed = node.trim_entity::<Account>("account 1").await.unwrap();
    assert_eq!(trimmed.records, 40, "its last event is not gone");
    // What a process that ends here leaves.
    let left = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(path).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), left.path().join(file.file_name())).unwrap();
    }
    node.close().await;
    let node = open(left.path(), 2, StateStore::Disk).await;
    let report = &node.owners().await.unwrap()[of_account];
    assert_eq!(report.replayed, report.safe_head - stored);
    assert_eq!(balance(&node, "account 1").await.0, 40);
    node.close().await;
}

/// Attacks: an application that has no code for an entity lets its history go, and nothing that the
/// entity could be made of again stands for it.
#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_another_application_is_not_trimmed() {
    let directory = tempfile::tempdir().unwrap();
    let node = open(directory.path(), 0, StateStore::Disk).await;
    deposit(&node, "account 1", 60).await;
    node.caught_up().await.unwrap();
    node.close().await;
    let other = Application::new("other");
    let node = later::open(other, directory.path(), 2, StateStore::Disk).await;
    let entity = EntityKey::new("account", "account 1");
    let foreign = TrimError::OtherApplication("account".into());
    assert_eq!(node.trim_key(entity).await, Err(foreign.clone()));
    let time = node.world().now().plus_days(-2);
    assert_eq!(node.trim_before(time).await, Err(foreign));
    node.close().await;
    let node = open(directory.path(), 2, StateStore::Disk).await;
    assert_eq!(balance(&node, "account 1").await.0, 60);
    node.close().await;
}
