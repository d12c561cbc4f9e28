//! What callers get.

use std::sync::Arc;

use bytes::Bytes;
use everfold_cluster::transport::{Limits, MAX_FRAME, Peers};
use everfold_cluster::{CallError, Kind, Side};
use everfold_engine::engine::BoxFuture;
use tokio::task::JoinSet;

use crate::world::{By, Cluster, Held, LONG, ask, echo, node};

#[tokio::test]
async fn answers_come_in_any_order() {
    let cluster = Cluster::new("orders");
    let held = Held::new();
    let node = Arc::new(node(&cluster.node(), held.answers()).await);
    let peers = Peers::new(&cluster.client());
    let slow = tokio::spawn({
        let (peers, node) = (peers.clone(), node.clone());
        async move { ask(&peers, &node, "held").await }
    });
    held.come(1).await;
    assert_eq!(ask(&peers, &node, "fast").await.unwrap(), "fast");
    assert_eq!(ask(&peers, &node, "").await.unwrap(), "");
    assert_eq!(peers.in_flight(), 1);
    held.go(1);
    assert_eq!(slow.await.unwrap().unwrap(), "held");
    assert_eq!(peers.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_at_once_get_their_own_answers() {
    let cluster = Cluster::new("orders");
    let twice = By(|_, request: Bytes| {
        Box::pin(async move { Bytes::from([&request[..], &request[..]].concat()) })
            as BoxFuture<'static, Bytes>
    });
    let node = node(&cluster.node(), Arc::new(twice)).await;
    let calls = 10_000;
    let limits = Limits {
        calls,
        ..Limits::default()
    };
    let peers = Peers::within(&cluster.client(), limits);
    let mut asked = JoinSet::new();
    for number in 0..calls {
        let (peers, address) = (peers.clone(), node.address.clone());
        // Lengths differ, so that frames lie across all borders.
        let request = format!("{number}{}", " ".repeat(number % 700));
        asked.spawn(async move {
            let answer = peers.call(&address, request.clone().into(), LONG).await;
            (answer.unwrap(), request.repeat(2))
        });
    }
    let mut count = 0;
    while let Some(answered) = asked.join_next().await {
        let (answer, wanted) = answered.unwrap();
        assert_eq!(answer, wanted);
        count += 1;
    }
    assert_eq!((count, peers.in_flight()), (calls, 0));
}

#[tokio::test]
async fn who_calls_is_what_the_certificate_says() {
    let cluster = Cluster::new("orders");
    let who = By(|from: everfold_cluster::PeerName, _| {
        Box::pin(async move { from.to_string().into() }) as BoxFuture<'static, Bytes>
    });
    let node = node(&cluster.node(), Arc::new(who)).await;
    let client = Peers::new(&cluster.client());
    assert_eq!(
        ask(&client, &node, "").await.unwrap(),
        "client console of orders"
    );
    let other = Peers::new(&cluster.identity("node-2", Kind::Node));
    assert_eq!(
        ask(&other, &node, "").await.unwrap(),
        "node node-2 of orders"
    );
}

#[tokio::test]
async fn a_panic_fails_its_call_alone() {
    let cluster = Cluster::new("orders");
    let held = Held::new();
    let answers = held.answers();
    let panics = By(move |from, request: Bytes| {
        assert_ne!(request, "panic", "as it was asked to");
        answers.answer(&from, request)
    });
    let node = Arc::new(node(&cluster.node(), Arc::new(panics)).await);
    let peers = Peers::new(&cluster.client());
    let beside = tokio::spawn({
        let (peers, node) = (peers.clone(), node.clone());
        async move { ask(&peers, &node, "held").await }
    });
    held.come(1).await;
    let failed = ask(&peers, &node, "panic").await.unwrap_err();
    assert!(matches!(failed, CallError::Lost { .. }), "{failed}");
    held.go(1);
    assert_eq!(beside.await.unwrap().unwrap(), "held");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_bodies_pass_and_longer_ones_are_refused() {
    let cluster = Cluster::new("orders");
    let node = node(&cluster.node(), echo()).await;
    let peers = Peers::new(&cluster.client());
    let longest = MAX_FRAME - 9;
    let body: Bytes = (0..longest).map(|at| (at * 31 % 251) as u8).collect();
    let (long, short) = tokio::join!(
        peers.call(&node.address, body.clone(), LONG),
        ask(&peers, &node, "short"),
    );
    assert!(long.unwrap() == body);
    assert_eq!(short.unwrap(), "short");
    let longer = Bytes::from(vec![0; longest + 1]);
    let refused = peers.call(&node.address, longer.clone(), LONG).await;
    let here = Side::Here;
    assert!(
        matches!(refused, Err(CallError::TooLarge { side, limit, .. }) if side == here && limit == longest)
    );

    let wordy = By(move |_, _| {
        let longer = longer.clone();
        Box::pin(async move { longer }) as BoxFuture<'static, Bytes>
    });
    let node = crate::world::node(&cluster.identity("node-2", Kind::Node), Arc::new(wordy)).await;
    let refused = ask(&peers, &node, "").await.unwrap_err();
    let there = Side::There;
    assert!(
        matches!(refused, CallError::TooLarge { side, bytes, .. } if side == there && bytes == longest + 1)
    );
    assert!(refused.may_be_done());
}
