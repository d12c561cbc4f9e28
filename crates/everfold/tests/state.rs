//! The state store: what leaves memory comes back as it was, what is stored never leads the log, and
//! what does not belong to the log is ignored.

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
use everfold::engine::engine::{Area, Engine, Entries};
use everfold::engine::slot::Partition;
use everfold::engine::world::new_id;
use everfold::engine::{Uuid, World};
use everfold::{
    Node, OwnerReport, PartitionPolicy, SendError, SnapshotPolicy, StateOptions, StateStore,
};
use hook::*;

const NEVER: SnapshotPolicy = SnapshotPolicy {
    events: u64::MAX,
    bytes: u64::MAX,
    age: Duration::MAX,
    replay: Duration::MAX,
};

/// Hardly one entity per partition.
fn tiny() -> StateOptions {
    StateOptions {
        memory_bytes: 1,
        replay_on_return: 2,
        snapshots: NEVER,
        ..StateOptions::default()
    }
}

fn roomy(snapshots: SnapshotPolicy) -> StateOptions {
    StateOptions {
        snapshots,
        ..StateOptions::default()
    }
}

fn every(records: u64) -> StateOptions {
    StateOptions {
        partitions: PartitionPolicy {
            records,
            bytes: u64::MAX,
        },
        ..StateOptions::default()
    }
}

async fn stored(engine: &dyn Engine, name: &'static str) -> Entries {
    let area = Area {
        name: name.into(),
        partition: Partition(0),
    };
    engine.scan(&area, None, 10_000).await.unwrap()
}

async fn report(node: &Node) -> OwnerReport {
    node.owners().await.unwrap()[0]
}

async fn deposit(node: &Node, account: &str, times: u64) {
    let account = node.entity::<Account>(account);
    for _ in 0..times {
        account.send(Deposit { amount: 1 }).await.unwrap();
    }
}

/// Whatever is on its way into an area has arrived.
async fn settled(world: &Arc<dyn World>) {
    world.sleep(Duration::from_secs(1)).await;
}

/// Attacks: memory within the budget, and a state that comes back is the one that left.
#[test]
fn entities_leave_memory_and_come_back_as_they_were() {
    hooked(1, async |hook, world| {
        let budget = 2000;
        let options = StateOptions {
            memory_bytes: budget,
            ..tiny()
        };
        let node = open_with(accounts(), hook.clone(), &world, options).await;
        for round in 1..=5 {
            for account in 0..30 {
                let account = node.entity::<Account>(format!("account {account}"));
                let sent = account.send(Deposit { amount: 1 }).await.unwrap();
                assert_eq!(sent.reply, round);
            }
            settled(&world).await;
        }
        let report = report(&node).await;
        assert!(report.entity_bytes <= budget as u64, "{report:?}");
        assert!((1..=8).contains(&report.entities), "{report:?}");
        assert!(report.passivations > 100, "{report:?}");
        assert!(
            report.snapshots > 0 && report.snapshot_hits > 0,
            "{report:?}"
        );
        assert!(!stored(hook.as_ref(), "entities").await.is_empty());
        for account in 0..30 {
            let account = node.entity::<Account>(format!("account {account}"));
            let read = account.read(|account, version| (account.balance, version));
            assert_eq!(read.await, Ok((5, 5)));
        }
    });
}

/// Attacks: the budget is of states. Many events make no large state.
#[test]
fn a_state_that_does_not_grow_is_not_counted_as_if_it_did() {
    hooked(1, async |hook, world| {
        let node = open_with(accounts(), hook.clone(), &world, roomy(NEVER)).await;
        deposit(&node, "a", 600).await;
        let counted = report(&node).await.entity_bytes;
        assert!((256..2000).contains(&counted), "{counted}");
        // The same after it was read from the log.
        let node = open_with(accounts(), hook.clone(), &world, roomy(NEVER)).await;
        deposit(&node, "a", 1).await;
        let counted = report(&node).await.entity_bytes;
        assert!((256..2000).contains(&counted), "{counted}");
    });
}

/// Attacks: what is not durable stays. Other entities press for room while a batch is on its way.
#[test]
fn what_a_batch_on_its_way_has_changed_stays_in_memory() {
    hooked(1, async |hook, world| {
        let node = open_with(accounts(), hook.clone(), &world, tiny()).await;
        hook.mode().append_delay = Duration::from_millis(20);
        let mut sent = Vec::new();
        for round in 1..=6 {
            for account in 0..20 {
                let account = node.entity::<Account>(format!("account {account}"));
                sent.push((round, account.send(Deposit { amount: 1 }).into_future()));
            }
            // The next round is decided while this one is on its way.
            world.sleep(Duration::from_millis(5)).await;
        }
        for (round, sent) in sent {
            assert_eq!(sent.await.unwrap().reply, round);
        }
        assert!(report(&node).await.passivations > 0);
    });
}

/// Attacks: only durable state is stored. A batch is refused after a snapshot of its state was due.
#[test]
fn a_refused_batch_leaves_nothing_in_the_store() {
    hooked(1, async |hook, world| {
        let policy = SnapshotPolicy { events: 3, ..NEVER };
        let options = StateOptions {
            snapshots: policy,
            ..tiny()
        };
        let node = open_with(accounts(), hook.clone(), &world, options).await;
        deposit(&node, "a", 2).await;
        hook.mode().full = true;
        let refused = node
            .entity::<Account>("a")
            .send(Deposit { amount: 1 })
            .await;
        assert!(matches!(refused, Err(SendError::Failed(_))));
        settled(&world).await;
        assert_eq!(stored(hook.as_ref(), "entities").await, []);
        hook.mode().full = false;
        deposit(&node, "a", 1).await;
        settled(&world).await;
        assert_eq!(stored(hook.as_ref(), "entities").await.len(), 1);
        let read = node.entity::<Account>("a").read(|a, v| (a.balance, v));
        assert_eq!(read.await, Ok((3, 3)));
    });
}

/// Attacks: an entity that somebody waits for stays, or the wait never ends.
#[test]
fn whoever_waits_for_an_entity_is_told_also_when_memory_is_short() {
    hooked(1, async |hook, world| {
        let node = open_with(accounts(), hook.clone(), &world, tiny()).await;
        deposit(&node, "waited for", 1).await;
        let account = node.entity::<Account>("waited for");
        let patience = Duration::from_secs(60);
        let wait = account.until(patience, |a| (a.balance == 2).then_some(a.balance));
        for other in 0..20 {
            deposit(&node, &format!("other {other}"), 1).await;
        }
        deposit(&node, "waited for", 1).await;
        assert_eq!(wait.await, Ok(2));
    });
}

#[test]
fn in_memory_only_nothing_is_stored_and_what_left_is_folded_again() {
    hooked(1, async |hook, world| {
        let options = StateOptions {
            store: StateStore::Memory,
            snapshots: SnapshotPolicy { events: 1, ..NEVER },
            partitions: PartitionPolicy {
                records: 1,
                bytes: 1,
            },
            ..tiny()
        };
        let id = new_id(world.as_ref());
        for round in 1..=2 {
            let node = open_with(accounts(), hook.clone(), &world, options).await;
            assert_eq!(report(&node).await.replayed, (round - 1) * 61);
            if round == 1 {
                deposit_once(&node, "once", id).await;
            }
            deposit_once(&node, "once", id).await;
            for _ in 0..6 {
                for account in 0..10 {
                    deposit(&node, &format!("account {account}"), 1).await;
                }
            }
            let report = report(&node).await;
            assert!(report.passivations > 50, "{report:?}");
            assert_eq!((report.snapshots, report.snapshot_hits), (0, 0));
            let account = node.entity::<Account>("account 3");
            let read = account.read(|account, version| (account.balance as u64, version));
            assert_eq!(read.await, Ok((6 * round, 6 * round)));
            node.close().await;
            for area in ["entities", "partition"] {
                assert_eq!(stored(hook.as_ref(), area).await, []);
            }
        }
    });
}

async fn deposit_once(node: &Node, account: &str, id: Uuid) {
    let account = node.entity::<Account>(account);
    let sent = account.send(Deposit { amount: 1 }).id(id).await.unwrap();
    assert_eq!(sent.reply, 1);
}

/// Whether the changes of one entity led to a stored snapshot, under a policy.
fn takes_a_snapshot(
    snapshots: SnapshotPolicy,
    change: impl AsyncFnOnce(&Node, Arc<Hook>, Arc<dyn World>),
) -> bool {
    let taken = std::cell::Cell::new(false);
    hooked(1, async |hook, world| {
        let node = open_with(accounts(), hook.clone(), &world, roomy(snapshots)).await;
        change(&node, hook.clone(), world.clone()).await;
        settled(&world).await;
        taken.set(!stored(hook.as_ref(), "entities").await.is_empty());
    });
    taken.get()
}

#[test]
fn a_snapshot_is_due_by_count() {
    let policy = SnapshotPolicy { events: 5, ..NEVER };
    assert!(!takes_a_snapshot(policy, async |node, _, _| deposit(
        node, "a", 4
    )
    .await));
    assert!(takes_a_snapshot(policy, async |node, _, _| deposit(
        node, "a", 5
    )
    .await));
}

#[test]
fn a_snapshot_is_due_by_bytes() {
    // An event is `{"amount":1}`: 12 bytes.
    let policy = SnapshotPolicy { bytes: 36, ..NEVER };
    assert!(!takes_a_snapshot(policy, async |node, _, _| deposit(
        node, "a", 2
    )
    .await));
    assert!(takes_a_snapshot(policy, async |node, _, _| deposit(
        node, "a", 3
    )
    .await));
}

#[test]
fn a_snapshot_is_due_by_age() {
    let age = Duration::from_secs(60);
    let policy = SnapshotPolicy { age, ..NEVER };
    let after = |pause: u64| {
        takes_a_snapshot(policy, async move |node, _, world| {
            deposit(node, "a", 1).await;
            world.sleep(Duration::from_secs(pause)).await;
            deposit(node, "a", 1).await;
        })
    };
    assert!(!after(59));
    assert!(after(60));
}

#[test]
fn a_snapshot_is_due_by_the_time_it_took_to_replay() {
    let replay = Duration::from_millis(50);
    let policy = SnapshotPolicy { replay, ..NEVER };
    let with_reads_of = |millis| {
        takes_a_snapshot(policy, async move |node, hook, world| {
            deposit(node, "a", 20).await;
            hook.mode().read_delay = Duration::from_millis(millis);
            let other = open_with(accounts(), hook.clone(), &world, roomy(policy)).await;
            let read = other.entity::<Account>("a").read(|a, v| (a.balance, v));
            assert_eq!(read.await, Ok((20, 20)));
        })
    };
    assert!(!with_reads_of(10));
    assert!(with_reads_of(50));
}

/// Attacks: a start reads only what the log has gained, and knows every id all the same.
#[test]
fn a_start_reads_above_the_stored_state_and_repeats_answers() {
    hooked(1, async |hook, world| {
        let ids: Vec<Uuid> = (0..100).map(|_| new_id(world.as_ref())).collect();
        let account = |index: usize| format!("account {index}");
        let node = open_with(accounts(), hook.clone(), &world, every(10)).await;
        for (index, id) in ids.iter().enumerate() {
            deposit_once(&node, &account(index), *id).await;
            settled(&world).await;
        }
        assert!(report(&node).await.stored >= 90);
        // Taken over without an orderly close.
        hook.mode().failing_puts = Some(("partition", u32::MAX));
        let node = open_with(accounts(), hook.clone(), &world, every(10)).await;
        assert!(report(&node).await.replayed < 10);
        for (index, id) in ids.iter().enumerate() {
            deposit_once(&node, &account(index), *id).await;
        }
        hook.mode().failing_puts = None;
        node.close().await;
        // The close stores the rest; nothing is left to read.
        let node = open_with(accounts(), hook.clone(), &world, every(10)).await;
        assert_eq!(report(&node).await.safe_head, 100);
        node.close().await;
        let node = open_with(accounts(), hook.clone(), &world, every(10)).await;
        assert_eq!(report(&node).await.replayed, 0);
        for (index, id) in ids.iter().enumerate() {
            deposit_once(&node, &account(index), *id).await;
        }
        let reused = node.entity::<Account>(account(1));
        let reused = reused.send(Deposit { amount: 2 }).id(ids[1]).await;
        assert!(matches!(
            reused,
            Err(SendError::Failed(everfold::CommandError::IdReused(_)))
        ));
        deposit(&node, "new", 1).await;
        assert_eq!(
            report(&node).await.safe_head,
            101,
            "an id was decided twice"
        );
    });
}

/// Attacks: a store that lags does no harm. Every put of the first life fails, or is believed to.
#[test]
fn a_store_that_lags_behind_the_log_is_made_up_for() {
    for lost in [false, true] {
        hooked(1, async |hook, world| {
            let options = StateOptions {
                partitions: every(3).partitions,
                snapshots: SnapshotPolicy { events: 2, ..NEVER },
                ..tiny()
            };
            let node = open_with(accounts(), hook.clone(), &world, options).await;
            let ids: Vec<Uuid> = (0..40).map(|_| new_id(world.as_ref())).collect();
            for (index, id) in ids.iter().enumerate() {
                if index == 20 && lost {
                    hook.mode().lost_puts = 5;
                } else if index == 20 {
                    hook.mode().failing_puts = Some(("", u32::MAX));
                }
                deposit_once(&node, &format!("account {index}"), *id).await;
                deposit(&node, "all", 1).await;
                settled(&world).await;
            }
            node.close().await;
            hook.mode().failing_puts = None;
            let node = open_with(accounts(), hook.clone(), &world, options).await;
            let replayed = report(&node).await.replayed;
            assert!(
                if lost { replayed == 0 } else { replayed > 30 },
                "{replayed}"
            );
            for (index, id) in ids.iter().enumerate() {
                deposit_once(&node, &format!("account {index}"), *id).await;
            }
            let read = node.entity::<Account>("all").read(|a, v| (a.balance, v));
            assert_eq!(read.await, Ok((40, 40)));
            assert_eq!(report(&node).await.safe_head, 80);
        });
    }
}

/// Attacks: the stored table forgets as the one in memory does, and what is forgotten is refused.
#[test]
fn stored_ids_are_dropped_when_their_time_is_over() {
    hooked(1, async |hook, world| {
        let day = Duration::from_secs(24 * 3600);
        let options = every(5);
        let mut ids = Vec::new();
        for _ in 0..4 {
            let node = open_with(accounts(), hook.clone(), &world, options).await;
            for index in 0..20 {
                let id = new_id(world.as_ref());
                deposit_once(&node, &format!("account {}", ids.len() + index), id).await;
                settled(&world).await;
            }
            ids.push(new_id(world.as_ref()));
            deposit_once(
                &node,
                &format!("of day {}", ids.len()),
                *ids.last().unwrap(),
            )
            .await;
            ids.extend((0..20).map(|_| Uuid::nil()));
            node.close().await;
            let pages = stored(hook.as_ref(), "partition").await.len() - 1;
            assert!((1..=6).contains(&pages), "{pages} pages");
            world.sleep(day + Duration::from_secs(60)).await;
        }
        let node = open_with(accounts(), hook.clone(), &world, options).await;
        let expired = node.entity::<Account>("of day 1");
        let expired = expired.send(Deposit { amount: 1 }).id(ids[0]).await;
        assert!(matches!(
            expired,
            Err(SendError::Failed(everfold::CommandError::IdExpired { .. }))
        ));
    });
}

/// Attacks: ids of handlers' commands and ids that do not say when they were made are stored too.
#[test]
fn commands_of_handlers_and_opaque_ids_are_remembered_by_the_store() {
    hooked(2, async |hook, world| {
        let options = every(2);
        let opaque = Uuid::from_u128(7);
        let issued = world.now();
        let send = async |node: &Node| {
            let account = node.entity::<Account>("opaque");
            let sent = account
                .send(Deposit { amount: 5 })
                .id(opaque)
                .issued(issued);
            assert_eq!(sent.await.unwrap().reply, 5);
        };
        let node = open_with(bank(), hook.clone(), &world, options).await;
        send(&node).await;
        deposit(&node, "a", 5).await;
        node.caught_up().await.unwrap();
        settled(&world).await;
        // Nobody is told how far the reactor came: it begins anew, above what the store knows.
        hook.mode().failing_puts = Some(("", u32::MAX));
        for _ in 0..3 {
            let node = open_with(bank(), hook.clone(), &world, options).await;
            node.caught_up().await.unwrap();
            send(&node).await;
            let mirror = node.entity::<Account>("mirror of a");
            let read = mirror.read(|account, version| (account.mirrored, version));
            assert_eq!(read.await, Ok((5, 5)));
        }
    });
}
