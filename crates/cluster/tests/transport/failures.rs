//! Calls that fail, and what is said of their outcome.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use everfold_cluster::transport::{Limits, Peers, listen};
use everfold_cluster::{CallError, Kind, ListenError};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::watch;

use crate::world::{Cluster, Held, LONG, ask, echo, node, node_within};

#[tokio::test]
async fn a_deadline_leaves_the_outcome_open_and_the_place_free() {
    let cluster = Cluster::new("orders");
    let held = Held::new();
    let node = node(&cluster.node(), held.answers()).await;
    let limits = Limits {
        calls: 1,
        ..Limits::default()
    };
    let peers = Peers::within(&cluster.client(), limits);
    ask(&peers, &node, "first").await.unwrap();
    let short = Duration::from_millis(50);
    let late = peers.call(&node.address, "held".into(), short).await;
    let late = late.unwrap_err();
    assert!(
        matches!(late, CallError::Deadline { sent: true, .. }),
        "{late}"
    );
    assert!(late.may_be_done());
    // Its answer comes when another call has its place, and is nobody's.
    held.come(1).await;
    held.go(1);
    assert_eq!(ask(&peers, &node, "next").await.unwrap(), "next");
}

#[tokio::test]
async fn a_call_that_is_given_up_frees_its_place() {
    let cluster = Cluster::new("orders");
    let held = Held::new();
    let node = Arc::new(node(&cluster.node(), held.answers()).await);
    let limits = Limits {
        calls: 2,
        ..Limits::default()
    };
    let peers = Peers::within(&cluster.client(), limits);
    let mut callers: Vec<_> = (0..2)
        .map(|_| {
            let (peers, node) = (peers.clone(), node.clone());
            tokio::spawn(async move { ask(&peers, &node, "held").await })
        })
        .collect();
    held.come(2).await;
    let full = ask(&peers, &node, "third").await.unwrap_err();
    assert!(
        matches!(full, CallError::Overloaded { in_flight: 2, .. }),
        "{full}"
    );
    assert!(!full.may_be_done());
    let given_up = callers.remove(0);
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    assert_eq!(ask(&peers, &node, "fourth").await.unwrap(), "fourth");
    held.go(2);
    assert_eq!(callers.remove(0).await.unwrap().unwrap(), "held");
}

#[tokio::test]
async fn bytes_that_wait_are_bounded() {
    let cluster = Cluster::new("orders");
    let node = node(&cluster.node(), echo()).await;
    let limits = Limits {
        call_bytes: 1000,
        ..Limits::default()
    };
    let peers = Peers::within(&cluster.client(), limits);
    ask(&peers, &node, "first").await.unwrap();
    // On this runtime of one thread, the connection's task runs when all of them have been left.
    let body = || vec![0; 400].into();
    let call = || peers.call(&node.address, body(), LONG);
    let (one, two, three) = tokio::join!(call(), call(), call());
    assert!(one.is_ok() && two.is_ok());
    assert!(matches!(
        three,
        Err(CallError::Overloaded { in_flight: 2, .. })
    ));
    let large = peers.call(&node.address, vec![0; 5000].into(), LONG).await;
    assert_eq!(large.unwrap().len(), 5000);
}

#[tokio::test]
async fn a_node_that_vanishes_loses_what_was_sent() {
    let cluster = Cluster::new("orders");
    let held = Held::new();
    let elsewhere = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (identity, answers) = (cluster.node(), held.answers());
    let there = elsewhere.spawn(async move { node(&identity, answers).await });
    let node = Arc::new(there.await.unwrap());
    let peers = Peers::new(&cluster.client());
    let calling = tokio::spawn({
        let (peers, node) = (peers.clone(), node.clone());
        async move { ask(&peers, &node, "held").await }
    });
    held.come(1).await;
    elsewhere.shutdown_background();
    let lost = calling.await.unwrap().unwrap_err();
    assert!(matches!(lost, CallError::Lost { .. }), "{lost}");
    assert!(lost.may_be_done());
    let gone = ask(&peers, &node, "again").await.unwrap_err();
    assert!(matches!(gone, CallError::Unreachable { .. }), "{gone}");
    assert!(!gone.may_be_done());
}

#[tokio::test]
async fn where_nobody_listens_nothing_is_sent() {
    let cluster = Cluster::new("orders");
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    let peers = Peers::new(&cluster.client());
    for _ in 0..3 {
        let error = peers.call(&address.to_string(), "x".into(), LONG).await;
        let error = error.unwrap_err();
        assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("refused"), "{error}");
    }
    let error = peers.call("no-such-host.invalid:1", "x".into(), LONG).await;
    assert!(matches!(error, Err(CallError::Unreachable { .. })));
    let error = peers.call("nonsense", "x".into(), LONG).await;
    assert!(matches!(error, Err(CallError::Unreachable { .. })));

    // Once somebody listens there, calls get through when the pause is over.
    let (stop, stopped) = watch::channel(false);
    let listening = listen(address, &cluster.node(), echo(), stopped)
        .await
        .unwrap();
    loop {
        match peers.call(&address.to_string(), "x".into(), LONG).await {
            Ok(answer) => break assert_eq!(answer, "x"),
            Err(error) => assert!(!error.may_be_done(), "{error}"),
        }
        tokio::task::yield_now().await;
    }
    stop.send_replace(true);
    listening.ended.await;
}

#[tokio::test]
async fn a_node_that_stops_answers_what_it_has_begun() {
    let cluster = Cluster::new("orders");
    let held = Held::new();
    let mut node = node(&cluster.node(), held.answers()).await;
    let ended = std::mem::replace(&mut node.ended, tokio::spawn(async {}));
    let node = Arc::new(node);
    let peers = Peers::new(&cluster.client());
    let calling = tokio::spawn({
        let (peers, node) = (peers.clone(), node.clone());
        async move { ask(&peers, &node, "held").await }
    });
    held.come(1).await;
    node.stop.send_replace(true);
    // Whatever comes now is answered, or was not sent.
    loop {
        match ask(&peers, &node, "x").await {
            Ok(answer) => assert_eq!(answer, "x"),
            Err(error) => break assert!(matches!(error, CallError::Unreachable { .. }), "{error}"),
        }
    }
    held.go(1);
    assert_eq!(calling.await.unwrap().unwrap(), "held");
    ended.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_lost_to_nodes_that_stop_in_order() {
    let cluster = Cluster::new("orders");
    let identity = cluster.node();
    let peers = Peers::new(&cluster.client());
    for _ in 0..10 {
        let node = node(&identity, echo()).await;
        ask(&peers, &node, "first").await.unwrap();
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let (peers, address) = (peers.clone(), node.address.clone());
                tokio::spawn(async move {
                    loop {
                        if let Err(error) = peers.call(&address, "x".into(), LONG).await {
                            break error;
                        }
                    }
                })
            })
            .collect();
        node.stop.send_replace(true);
        for caller in callers {
            let error = caller.await.unwrap();
            assert!(!error.may_be_done(), "{error}");
        }
        node.ended.await.unwrap();
    }
}

#[tokio::test]
async fn a_node_takes_so_many_connections() {
    let cluster = Cluster::new("orders");
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let node = node_within(&cluster.node(), echo(), limits).await;
    let first = Peers::new(&cluster.client());
    ask(&first, &node, "x").await.unwrap();
    let second = Peers::new(&cluster.identity("second", Kind::Client));
    let full = ask(&second, &node, "x").await.unwrap_err();
    assert!(full.to_string().contains("as many connections"), "{full}");
    drop(first);
    while let Err(error) = ask(&second, &node, "x").await {
        assert!(!error.may_be_done(), "{error}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_node_needs_an_address_of_its_own_and_a_certificate_for_nodes() {
    let cluster = Cluster::new("orders");
    let node = node(&cluster.node(), echo()).await;
    let address: SocketAddr = node.address.parse().unwrap();
    let (_stop, stopped) = watch::channel(false);
    let identity = cluster.identity("node-2", Kind::Node);
    let taken = listen(address, &identity, echo(), stopped.clone()).await;
    assert!(matches!(taken, Err(ListenError::Bind { .. })));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let client = listen(any, &cluster.client(), echo(), stopped).await;
    let client = client.err().unwrap();
    assert!(
        client.to_string().contains("the client console"),
        "{client}"
    );
}
