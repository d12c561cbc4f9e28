//! Many nodes over one engine: work reaches the owner from everywhere, and what moves is not lost.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test a fault is a panic"
)]

#[path = "../bank/mod.rs"]
mod bank;
mod cluster;
mod questions;
mod remembered;

use std::sync::Arc;
use std::time::Duration;

use bank::*;
use cluster::*;
use everfold::engine::slot::Slot;
use everfold::{CommandError, Expected, NewEvent, Node, SendError};

/// Attacks: an entity is asked at a node that does not own it.
#[test]
fn work_of_every_sort_reaches_the_owner_from_any_node() {
    in_a_world(async |world| {
        let cluster = Cluster::of(bank, 4, 3, world).await;
        let (near, far) = (cluster.node(1), cluster.node(3));
        let sent = far.entity::<Account>("a").send(Deposit { amount: 5 }).await;
        assert_eq!(sent.unwrap().reply, 5);
        let refused = far.entity::<Account>("a").send(Withdraw { amount: 9 });
        let refused = refused.await.unwrap_err();
        assert_eq!(
            refused,
            SendError::Rejected(Refused::TooLittle { balance: 5 })
        );
        let seen = far
            .entity::<Account>("a")
            .read(|a, version| (a.balance, version));
        assert_eq!(seen.await.unwrap(), (5, 1));
        let transfer = Transfer {
            from: AccountId::from("{x}1".to_owned()),
            to: AccountId::from("{x}2".to_owned()),
            amount: 3,
        };
        let begun = far.entity::<Account>("{x}1").send(Deposit { amount: 4 });
        begun.await.unwrap();
        assert_eq!(far.together().send(transfer).await.unwrap().reply, 1);
        let event = NewEvent::json("noted", "{}");
        let appended = far
            .stream("log-1")
            .append(vec![event.clone()], Expected::Nothing);
        assert_eq!(appended.await.unwrap().reply, 1);
        let again = far
            .stream("log-1")
            .append(vec![event], Expected::Nothing)
            .await;
        assert!(matches!(again, Err(CommandError::Conflict(_))));
        let (patience, watched) = (Duration::from_secs(5), far.clone());
        let late = async move {
            let account = watched.entity::<Account>("a");
            account
                .until(patience, |a| (a.balance > 5).then_some(a.balance))
                .await
        };
        let deposit = async {
            near.entity::<Account>("a")
                .send(Deposit { amount: 2 })
                .await
                .unwrap();
        };
        let (found, ()) = tokio::join!(late, deposit);
        assert_eq!(found.unwrap(), 7);
        assert!(cluster.asked() > 7);
    });
}

/// Attacks: a planned move fails, repeats or loses a command.
#[test]
fn a_partition_moves_under_load_without_a_failed_command() {
    let reached = in_a_world(async |world| {
        let cluster = Arc::new(Cluster::of(bank, 1, 3, world.clone()).await);
        cluster.plan(0, 1, &[2, 3], &[1, 2, 3]);
        let mut clients = Vec::new();
        for client in 0..6_u128 {
            let node = cluster.node(client % 3 + 1);
            let (world, id) = (world.clone(), format!("account {}", client / 3));
            clients.push(async move {
                for _ in 0..200 {
                    let sent = node
                        .entity::<Account>(id.clone())
                        .send(Deposit { amount: 1 });
                    sent.await.unwrap();
                    world.sleep(Duration::from_millis(1)).await;
                }
            });
        }
        let moves = async {
            // Told one after the other: for a while some know more than others.
            for (owner, standbys, told) in [
                (2, [1, 3], [1, 2, 3]),
                (3, [1, 2], [3, 2, 1]),
                (1, [2, 3], [2, 1, 3]),
                (2, [1, 3], [2, 3, 1]),
            ] {
                for node in told {
                    world.sleep(Duration::from_millis(15)).await;
                    cluster.plan(0, owner, &standbys, &[node]);
                }
            }
        };
        futures_util::future::join(futures_util::future::join_all(clients), moves).await;
        for account in ["account 0", "account 1"] {
            for node in 1..=3 {
                let node = cluster.node(node);
                let balance = node.entity::<Account>(account);
                let balance = balance.read(|a, version| (a.balance, version)).await;
                assert_eq!(balance.unwrap(), (600, 600));
            }
        }
    });
    assert!(reached["owner: takes over warm"] > 0, "{reached:?}");
    assert!(reached["owner: partition moved away"] > 0, "{reached:?}");
}

/// Attacks: an owner that nobody reaches any more goes on, and its clients are told what is not so.
#[test]
fn an_owner_that_is_cut_off_can_neither_append_nor_answer() {
    let reached = in_a_world(async |world| {
        let cluster = Cluster::of(bank, 1, 3, world.clone()).await;
        cluster.plan(0, 1, &[2], &[1, 2, 3]);
        let account = |node: Arc<Node>, amount| async move {
            let sent = node.entity::<Account>("a").send(Deposit { amount });
            sent.await.map(|sent| sent.reply)
        };
        assert_eq!(account(cluster.node(3), 1).await.unwrap(), 1);
        let zombie = cluster.cut_off(1);
        cluster.plan(0, 2, &[3], &[2, 3]);
        assert_eq!(account(cluster.node(3), 2).await.unwrap(), 3);
        // It has not heard of the new plan: the store tells it, and it passes the command on as
        // soon as it knows to whom.
        let late = account(zombie.clone(), 4);
        let told = async {
            world.sleep(Duration::from_millis(100)).await;
            cluster.plan(0, 2, &[3], &[1]);
        };
        let (late, ()) = tokio::join!(late, told);
        assert_eq!(late.unwrap(), 7);
        let read = zombie.entity::<Account>("a").read(|a, _| a.balance).await;
        assert_eq!(read.unwrap(), 7);
    });
    assert!(reached["owner: fenced"] > 0);
    assert!(reached["owner: takes over warm"] > 0);
}

/// Attacks: a command whose answer was lost is done twice.
#[test]
fn a_lost_answer_is_asked_for_again_and_given_once() {
    in_a_world(async |world| {
        let cluster = Cluster::of(bank, 2, 2, world).await;
        let far = cluster.node(2);
        cluster.weather(Weather::LosesAnswers(3));
        let sent = far.entity::<Account>("a").send(Deposit { amount: 5 }).await;
        assert_eq!(sent.unwrap().reply, 5);
        let seen = far
            .entity::<Account>("a")
            .read(|a, version| (a.balance, version));
        assert_eq!(seen.await.unwrap(), (5, 1));
    });
}

/// Attacks: a command that was done is said to have failed, because its repetition did.
#[test]
fn what_may_have_been_done_is_never_said_to_have_failed() {
    in_a_world(async |world| {
        let cluster = Cluster::of(bank, 2, 2, world).await;
        let far = cluster.node(2);
        cluster.weather(Weather::LosesAnswerAndCloses);
        let sent = far.entity::<Account>("a").send(Deposit { amount: 5 }).await;
        let error = sent.unwrap_err();
        let unknown = matches!(&error, SendError::Failed(CommandError::Unknown(_)));
        assert!(unknown, "{error:?}");
        cluster.weather(Weather::Closed);
        let refused = far.entity::<Account>("a").send(Deposit { amount: 1 }).await;
        let error = refused.unwrap_err();
        let overloaded = matches!(&error, SendError::Failed(CommandError::Overloaded { .. }));
        assert!(overloaded, "{error:?}");
        cluster.weather(Weather::Fair);
        let seen = far
            .entity::<Account>("a")
            .read(|a, version| (a.balance, version));
        assert_eq!(seen.await.unwrap(), (5, 1));
    });
}

/// Attacks: views and reactors stay behind when their partition moves, or work twice.
#[test]
fn handlers_move_with_their_partitions() {
    in_a_world(async |world| {
        let cluster = Cluster::of(bank, 2, 2, world.clone()).await;
        let deposit = |node: u128, amount| {
            let node = cluster.node(node);
            async move {
                for n in 0..20 {
                    let account = format!("account {n}");
                    let sent = node.entity::<Account>(account).send(Deposit { amount });
                    sent.await.unwrap();
                }
            }
        };
        deposit(1, 1).await;
        cluster.plan(0, 2, &[1], &[1, 2]);
        cluster.plan(1, 2, &[1], &[2, 1]);
        deposit(1, 10).await;
        cluster.plan(1, 1, &[2], &[1, 2]);
        deposit(2, 100).await;
        for n in 0..20 {
            let (account, mirror) = (format!("account {n}"), format!("mirror of account {n}"));
            for node in 1..=2 {
                let node = cluster.node(node);
                let mirrored = node.entity::<Account>(mirror.clone());
                let patience = Duration::from_secs(30);
                let mirrored =
                    mirrored.until(patience, |a| (a.mirrored >= 111).then_some(a.mirrored));
                assert_eq!(mirrored.await.unwrap(), 111);
                let here = node.position().await.unwrap();
                let row = node.view(&turnover()).get(&account).after(&here).await;
                let row = row.unwrap().unwrap();
                assert_eq!((row.deposits, row.deposited), (3, 111));
            }
        }
        // What is stored is what both have in memory, whoever has stored it.
        world.sleep(Duration::from_secs(12)).await;
        let fresh = {
            let mut cluster = cluster;
            cluster.join(3).await;
            cluster.node(3)
        };
        let row = fresh.view(&turnover()).get(&"account 3".to_owned()).await;
        assert_eq!(row.unwrap().unwrap().deposited, 111);
        assert_ne!(Slot::of("account 1"), Slot::of("account 2"));
    });
}
