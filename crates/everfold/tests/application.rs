//! Commands, reads, views and reactors on every engine of this build.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test a fault is a panic"
)]

mod bank;

use std::time::Duration;

use bank::*;
use everfold::engine::{Uuid, uuid7};
use everfold::{CommandError, Expected, NewEvent, Node, Open, QueryError, SendError};
use everfold_postgres::server::PrivateServer;

async fn on_each_engine<F: Future<Output = ()>>(test: impl Fn(Node) -> F) {
    test(bank().open("memory:").await.unwrap()).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    test(bank().open(path.to_str().unwrap()).await.unwrap()).await;
    let place = directory.path().join("server");
    let server = PrivateServer::start(&place, &[]).unwrap();
    let address = format!("{}?schema=bank&partitions=4", server.address("postgres"));
    test(bank().open(&address).await.unwrap()).await;
}

fn new_id(node: &Node) -> Uuid {
    uuid7(
        node.world().now(),
        node.world().random(),
        node.world().random(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_answered_with_its_typed_reply_or_rejection() {
    on_each_engine(|node| async move {
        let account = node.entity::<Account>("a");
        assert_eq!(
            account.send(Deposit { amount: 10 }).await.unwrap().reply,
            10
        );
        assert_eq!(account.send(Withdraw { amount: 4 }).await.unwrap().reply, 6);
        let refused = account.send(Withdraw { amount: 7 }).await.unwrap_err();
        assert_eq!(
            refused,
            SendError::Rejected(Refused::TooLittle { balance: 6 })
        );
        assert_eq!(
            account
                .read(|state, version| (state.balance, version))
                .await,
            Ok((6, 2))
        );
        node.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_command_gets_its_first_answer_and_changes_nothing() {
    on_each_engine(|node| async move {
        let account = node.entity::<Account>("a");
        let (deposit, withdraw) = (new_id(&node), new_id(&node));
        let first = account
            .send(Deposit { amount: 10 })
            .id(deposit)
            .await
            .unwrap();
        let refused = account
            .send(Withdraw { amount: 99 })
            .id(withdraw)
            .await
            .unwrap_err();
        account.send(Deposit { amount: 100 }).await.unwrap();
        let again = account
            .send(Deposit { amount: 10 })
            .id(deposit)
            .await
            .unwrap();
        assert_eq!(again, first);
        assert_eq!(
            account
                .send(Withdraw { amount: 99 })
                .id(withdraw)
                .await
                .unwrap_err(),
            refused
        );
        let other = account
            .send(Deposit { amount: 11 })
            .id(deposit)
            .await
            .unwrap_err();
        assert_eq!(other, SendError::Failed(CommandError::IdReused(deposit)));
        assert_eq!(account.read(|state, _| state.balance).await, Ok(110));
        let old = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
        let expired = account
            .send(Deposit { amount: 1 })
            .id(old)
            .await
            .unwrap_err();
        assert!(matches!(
            expired,
            SendError::Failed(CommandError::IdExpired { .. })
        ));
        node.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_answers_with_the_write_that_its_token_names() {
    on_each_engine(|node| async move {
        let view = turnover();
        for round in 1..=50 {
            let sent = node
                .entity::<Account>("a")
                .send(Deposit { amount: 2 })
                .await
                .unwrap();
            let row = node
                .view(&view)
                .get(&"a".to_owned())
                .after(sent.position())
                .await
                .unwrap();
            assert_eq!(row.unwrap().deposits, round);
        }
        let beyond = node.position().await.unwrap();
        let partition = everfold::engine::slot::Partition(0);
        let beyond = beyond
            .clone()
            .with(partition, everfold::engine::Offset(1 << 40));
        let ask = node.view(&view).get(&"a".to_owned()).after(&beyond);
        let behind = ask.within(Duration::from_millis(1)).await.unwrap_err();
        assert!(matches!(behind, QueryError::Behind { .. }), "{behind}");
        node.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reactor_turns_events_into_commands_of_other_partitions_exactly_once() {
    on_each_engine(|node| async move {
        for amount in (1..=20).filter(|amount| *amount != 13) {
            node.entity::<Account>("a")
                .send(Deposit { amount })
                .await
                .unwrap();
        }
        node.caught_up().await.unwrap();
        let mirror = node.entity::<Account>("mirror of a");
        assert_eq!(
            mirror
                .read(|state, version| (state.mirrored, version))
                .await,
            Ok((197, 19))
        );
        let status = node.handlers().await.unwrap();
        assert!(
            status
                .iter()
                .all(|handler| handler.behind == 0 && handler.parked == 0)
        );
        node.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entities_that_share_a_tag_change_together_or_not_at_all() {
    on_each_engine(|node| async move {
        let id = |name: &str| AccountId::from(format!("{{pair}}-{name}"));
        node.entity::<Account>(id("a"))
            .send(Deposit { amount: 10 })
            .await
            .unwrap();
        let transfer = Transfer {
            from: id("a"),
            to: id("b"),
            amount: 7,
        };
        let sent = node.together().send(transfer.clone()).await.unwrap();
        assert_eq!(sent.reply, 3);
        let refused = node.together().send(transfer).await.unwrap_err();
        assert_eq!(
            refused,
            SendError::Rejected(Refused::TooLittle { balance: 3 })
        );
        assert_eq!(
            node.entity::<Account>(id("b"))
                .read(|state, _| state.balance)
                .await,
            Ok(7)
        );
        let apart = Transfer {
            from: id("a"),
            to: "elsewhere".into(),
            amount: 1,
        };
        let apart = node.together().send(apart).await.unwrap_err();
        assert!(matches!(
            apart,
            SendError::Failed(CommandError::NotTogether(..))
        ));
        node.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_in_application_code_fails_its_command_alone() {
    on_each_engine(|node| async move {
        let account = node.entity::<Account>("a");
        account.send(Deposit { amount: 600 }).await.unwrap();
        let decide = account.send(Deposit { amount: 13 }).await.unwrap_err();
        assert!(matches!(
            decide,
            SendError::Failed(CommandError::Panicked(_))
        ));
        let evolve = account.send(Deposit { amount: 66 }).await.unwrap_err();
        assert!(matches!(
            evolve,
            SendError::Failed(CommandError::Panicked(_))
        ));
        assert_eq!(
            account.send(Deposit { amount: 1 }).await.unwrap().reply,
            601
        );
        node.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_takes_raw_events_as_expected_and_gives_them_back() {
    on_each_engine(|node| async move {
        let stream = node.stream("invoice-2024-7");
        let event = |n: u8| NewEvent::json("Line", vec![n, 0, 255]).label("n", n.to_string());
        let sent = stream
            .append(vec![event(1), event(2)], Expected::Nothing)
            .await
            .unwrap();
        assert_eq!(sent.reply, 2);
        let conflict = stream.append(vec![event(3)], Expected::Version(1)).await;
        assert!(matches!(conflict, Err(CommandError::Conflict(_))));
        stream
            .append(vec![event(3)], Expected::Version(2))
            .await
            .unwrap();
        let read = stream.read(1, 10).await.unwrap();
        let payloads: Vec<u8> = read
            .iter()
            .map(|record| record.portable.payload[0])
            .collect();
        assert_eq!(payloads, [2, 3]);
        // A stream of an entity with code takes only events that the code can read, and folds them.
        let account = node.stream("account-a");
        let foreign = account.append(vec![event(1)], Expected::Any).await;
        assert!(matches!(foreign, Err(CommandError::Encoding(_))));
        let deposited = NewEvent::of(&AccountEvent::Deposited { amount: 5 }).unwrap();
        account
            .append(vec![deposited], Expected::Any)
            .await
            .unwrap();
        assert_eq!(
            node.entity::<Account>("a")
                .read(|state, _| state.balance)
                .await,
            Ok(5)
        );
        node.close().await;
    })
    .await;
}
