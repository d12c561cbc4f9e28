//! A state store beside a log that it does not belong to: it is ignored and made again, never
//! believed and never an error.

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
use everfold::engine::engine::{Area, Batch, Engine, Entries, Put, ReadLimit};
use everfold::engine::memory::Memory;
use everfold::engine::slot::Partition;
use everfold::engine::world::new_id;
use everfold::engine::{Bytes, Offset, Record, Uuid};
use everfold::{Node, PartitionPolicy, SnapshotPolicy, StateOptions, StateStore};
use everfold_sim::Simulation;
use hook::*;

const AREAS: [&str; 2] = ["entities", "partition"];
const COMMANDS: usize = 60;
const SEED: u64 = 11;

/// A log of one partition and what is stored beside it.
struct Kept {
    records: Vec<Arc<Record>>,
    areas: Vec<Entries>,
    ids: Vec<Uuid>,
}

fn area(name: &'static str) -> Area {
    Area {
        name: name.into(),
        partition: Partition(0),
    }
}

/// Everything is stored soon and hardly anything stays in memory.
fn eager() -> StateOptions {
    StateOptions {
        memory_bytes: 1,
        replay_on_return: 1,
        snapshots: SnapshotPolicy {
            events: 3,
            ..SnapshotPolicy::default()
        },
        partitions: PartitionPolicy {
            records: 5,
            bytes: u64::MAX,
        },
        ..StateOptions::default()
    }
}

async fn records(engine: &dyn Engine) -> Vec<Arc<Record>> {
    let all = ReadLimit {
        records: usize::MAX >> 1,
        bytes: usize::MAX,
    };
    let chunk = engine.read(Partition(0), Offset(0), all).await;
    chunk.unwrap().records
}

async fn areas(engine: &dyn Engine) -> Vec<Entries> {
    let mut all = Vec::new();
    for name in AREAS {
        all.push(engine.scan(&area(name), None, 10_000).await.unwrap());
    }
    all
}

/// Commands to a few accounts: each adds `amount` to one of three.
async fn work(node: &Node, ids: &[Uuid], amount: i64) {
    for (index, id) in ids.iter().enumerate() {
        let account = node.entity::<Account>(format!("account {}", index % 3));
        account.send(Deposit { amount }).id(*id).await.unwrap();
    }
}

/// A log with its store, as an orderly close leaves them.
fn kept() -> Kept {
    let simulation = Simulation::new(SEED);
    let world = simulation.world();
    let engine = memory(&world, 1);
    simulation.run(async {
        let ids: Vec<Uuid> = (0..COMMANDS).map(|_| new_id(world.as_ref())).collect();
        let node = open_with(accounts(), engine.clone(), &world, eager()).await;
        work(&node, &ids, 1).await;
        node.close().await;
        Kept {
            records: records(engine.as_ref()).await,
            areas: areas(engine.as_ref()).await,
            ids,
        }
    })
}

/// Makes a log of the first records, with another store beside it.
async fn restore(engine: &dyn Engine, records: &[Arc<Record>], areas: &[Entries]) {
    let epoch = engine.claim(Partition(0)).await.unwrap().epoch;
    for (index, record) in records.iter().enumerate() {
        let batch = Batch::new(index as u64 + 1, vec![Record::clone(record)]);
        engine.append(Partition(0), epoch, batch).await.unwrap();
    }
    put(engine, areas, epoch).await;
}

async fn put(engine: &dyn Engine, areas: &[Entries], epoch: everfold::engine::engine::Epoch) {
    for (name, entries) in AREAS.into_iter().zip(areas) {
        let changes = entries.iter().cloned();
        let put = Put {
            area: area(name),
            epoch,
            incarnation: engine.identity().incarnation,
            previous: engine.revision(&area(name)).await.unwrap(),
            clear: true,
            changes: changes.map(|(key, value)| (key, Some(value))).collect(),
        };
        engine.put(put).await.unwrap();
    }
}

/// On a log of `length` of the kept records with `changed` areas: the state is that of the log, ids
/// of the log are known and others are not. Returns how many records the start read.
fn start_on(seed: u64, length: usize, change: impl FnOnce(&mut Vec<Entries>)) -> u64 {
    let kept = kept();
    let simulation = Simulation::new(seed);
    let world = simulation.world();
    let engine: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 1).unwrap());
    let mut changed = kept.areas.clone();
    change(&mut changed);
    simulation.run(async {
        // The restored records are of the time before.
        world.sleep(Duration::from_secs(60)).await;
        restore(engine.as_ref(), &kept.records[..length], &changed).await;
        let node = open_with(accounts(), engine.clone(), &world, eager()).await;
        let replayed = node.owners().await.unwrap()[0].replayed;
        check(&node, length).await;
        // All are repeated: those of the log do nothing, the others are done.
        work(&node, &kept.ids, 1).await;
        check(&node, COMMANDS).await;
        node.close().await;
        // What was wrong has been made good.
        let node = open_with(accounts(), engine.clone(), &world, eager()).await;
        assert_eq!(node.owners().await.unwrap()[0].replayed, 0);
        work(&node, &kept.ids, 1).await;
        check(&node, COMMANDS).await;
        replayed
    })
}

async fn check(node: &Node, commands: usize) {
    for account in 0..3 {
        let expected = (0..commands).filter(|index| index % 3 == account).count();
        let account = node.entity::<Account>(format!("account {account}"));
        let read = account.read(|account, version| (account.balance as usize, version as usize));
        assert_eq!(read.await, Ok((expected, expected)));
    }
}

#[test]
fn the_store_of_this_log_is_taken() {
    assert_eq!(start_on(SEED, COMMANDS, |_| {}), 0);
}

/// Attacks: a log restored to an earlier moment, under a store that has gone on.
#[test]
fn a_store_ahead_of_the_log_is_discarded() {
    for length in [0, 1, 30, COMMANDS - 1] {
        assert_eq!(start_on(SEED, length, |_| {}), length as u64);
    }
}

#[test]
fn a_store_of_another_incarnation_is_discarded() {
    assert_eq!(start_on(SEED + 1, COMMANDS, |_| {}), COMMANDS as u64);
}

#[test]
fn a_damaged_store_is_discarded() {
    let kept = kept();
    for (area, entries) in kept.areas.iter().enumerate() {
        for (place, (_, value)) in entries.iter().enumerate() {
            let mut damaged = value.to_vec();
            let middle = damaged.len() / 2;
            damaged[middle] ^= 1;
            for value in [Bytes::from(damaged), Bytes::new(), value.slice(..middle)] {
                let replayed = start_on(SEED, COMMANDS, |areas| {
                    areas[area][place].1 = value;
                });
                let expected = if area == 1 { COMMANDS as u64 } else { 0 };
                assert_eq!(replayed, expected, "{} {place}", AREAS[area]);
            }
        }
    }
}

#[test]
fn a_store_with_something_missing_is_discarded() {
    let values = kept().areas[1].len();
    for place in 0..values {
        let replayed = start_on(SEED, COMMANDS, |areas| {
            areas[1].remove(place);
        });
        assert_eq!(replayed, COMMANDS as u64);
    }
    assert_eq!(
        start_on(SEED, COMMANDS, |areas| areas[1].clear()),
        COMMANDS as u64
    );
}

/// Attacks: a length is no proof. The log was restored, and has grown past what the store stands for
/// with other events.
#[test]
fn a_store_of_events_that_happened_otherwise_is_discarded() {
    happened_otherwise(kept());
}

/// Attacks: snapshots of entities are judged by themselves.
#[test]
fn snapshots_of_events_that_happened_otherwise_are_discarded() {
    let mut kept = kept();
    kept.areas[1].clear();
    happened_otherwise(kept);
}

fn happened_otherwise(kept: Kept) {
    let simulation = Simulation::new(SEED);
    let world = simulation.world();
    let engine = memory(&world, 1);
    simulation.run(async {
        world.sleep(Duration::from_secs(60)).await;
        restore(engine.as_ref(), &kept.records[..30], &[]).await;
        let nothing = StateOptions {
            store: StateStore::Memory,
            ..eager()
        };
        let node = open_with(accounts(), engine.clone(), &world, nothing).await;
        let others: Vec<Uuid> = (0..90).map(|_| new_id(world.as_ref())).collect();
        work(&node, &others, 100).await;
        node.close().await;
        let epoch = engine.claim(Partition(0)).await.unwrap().epoch;
        put(engine.as_ref(), &kept.areas, epoch).await;
        let node = open_with(accounts(), engine.clone(), &world, eager()).await;
        assert_eq!(node.owners().await.unwrap()[0].replayed, 120);
        // Known are the first thirty and the others, and nothing else.
        work(&node, &kept.ids[..30], 1).await;
        work(&node, &others, 100).await;
        let balances = async |expected: i64| {
            for account in 0..3 {
                let account = node.entity::<Account>(format!("account {account}"));
                let read = account.read(|account, _| account.balance);
                assert_eq!(read.await, Ok(expected));
            }
        };
        balances(10 + 3000).await;
        work(&node, &kept.ids, 1).await;
        balances(20 + 3000).await;
    });
}
