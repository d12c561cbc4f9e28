//! Peers that keep to nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use everfold_cluster::transport::{Answers, Frame, Limits, Peers};
use everfold_cluster::{CallError, Kind, PeerName};
use everfold_engine::engine::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::raw::{Files, HELLO, receive, send};
use crate::world::{Cluster, Held, LONG, ask, echo, node, node_within};

/// Echoes, and tells of those who were not let in.
struct Watched(mpsc::UnboundedSender<String>);

impl Answers for Watched {
    fn answer(&self, _: &PeerName, request: Bytes) -> BoxFuture<'static, Bytes> {
        Box::pin(async { request })
    }

    fn refused(&self, _: SocketAddr, reason: &str) {
        let _ = self.0.send(reason.to_owned());
    }
}

fn watched() -> (Arc<dyn Answers>, mpsc::UnboundedReceiver<String>) {
    let (tell, told) = mpsc::unbounded_channel();
    (Arc::new(Watched(tell)), told)
}

fn files(cluster: &Cluster, name: &str) -> Files {
    Files::of(&cluster.folder.path().join(name))
}

#[tokio::test]
async fn what_is_no_peer_is_refused_and_disturbs_nobody() {
    let cluster = Cluster::new("orders");
    let (answers, mut told) = watched();
    let node = node(&cluster.node(), answers).await;
    let peers = Peers::new(&cluster.client());
    ask(&peers, &node, "x").await.unwrap();

    // Bytes that are no TLS.
    let mut garbage = TcpStream::connect(&node.address).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let _ = garbage.read_to_end(&mut Vec::new()).await;
    assert!(told.recv().await.unwrap().starts_with("not trusted"));

    // Nobody who is known.
    let console = files(&cluster, "console");
    let nobody = console.connect(&node.address, "orders", false).await;
    if let Ok(mut nobody) = nobody {
        assert!(receive(&mut nobody).await.is_err());
    }
    let reason = told.recv().await.unwrap();
    assert!(reason.contains("no certificates"), "{reason}");

    // Known, and says something else than hello.
    let mut strange = console
        .connect(&node.address, "orders", true)
        .await
        .unwrap();
    assert_eq!(receive(&mut strange).await.unwrap(), HELLO);
    send(&mut strange, &Frame::Last).await.unwrap();
    assert!(receive(&mut strange).await.is_err());
    assert!(told.recv().await.unwrap().contains("hello"));

    // Of a later version.
    let mut later = console
        .connect(&node.address, "orders", true)
        .await
        .unwrap();
    receive(&mut later).await.unwrap();
    let hello = Frame::Hello {
        lowest: 7,
        highest: 9,
    };
    send(&mut later, &hello).await.unwrap();
    assert!(receive(&mut later).await.is_err());
    assert!(told.recv().await.unwrap().contains("7 to 9"));

    // Frames that are none, after a good beginning.
    let too_long = (u32::MAX.to_be_bytes().to_vec(), "too long");
    let unknown = ([0, 0, 0, 2, 99, 0].to_vec(), "unknown kind");
    let empty = (vec![0, 0, 0, 0], "empty");
    let short = ([0, 0, 0, 2, 2, 0].to_vec(), "a call without a number");
    for (bytes, what) in [too_long, unknown, empty, short] {
        let mut bad = console
            .connect(&node.address, "orders", true)
            .await
            .unwrap();
        receive(&mut bad).await.unwrap();
        send(&mut bad, &HELLO).await.unwrap();
        bad.write_all(&bytes).await.unwrap();
        bad.flush().await.unwrap();
        while let Ok(frame) = receive(&mut bad).await {
            assert_eq!(frame, Frame::Alive, "{what}");
        }
    }
    assert_eq!(ask(&peers, &node, "x").await.unwrap(), "x");
}

#[tokio::test]
async fn who_says_nothing_keeps_nobody_out() {
    let cluster = Cluster::new("orders");
    let node = node(&cluster.node(), echo()).await;
    cluster.client();
    let console = files(&cluster, "console");
    let (mut silent, mut half) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        silent.push(TcpStream::connect(&node.address).await.unwrap());
        half.push(
            console
                .connect(&node.address, "orders", true)
                .await
                .unwrap(),
        );
    }
    let peers = Peers::new(&cluster.identity("other", Kind::Client));
    assert_eq!(ask(&peers, &node, "x").await.unwrap(), "x");
    // Nor does it hold up the end.
    node.stop.send_replace(true);
    for mut half in half {
        assert_eq!(receive(&mut half).await.unwrap(), HELLO);
        assert!(receive(&mut half).await.is_err());
    }
    node.ended.await.unwrap();
}

#[tokio::test]
async fn what_is_no_node_gets_no_call() {
    let cluster = Cluster::new("orders");
    let peers = Peers::new(&cluster.client());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        // The first hears nothing that is TLS, all others nothing at all.
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 mail ESMTP\r\n").await.unwrap();
        let mut kept = vec![stream];
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    let error = peers.call(&address, "x".into(), LONG).await.unwrap_err();
    assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
    let error = loop {
        let error = peers.call(&address, "x".into(), LONG).await.unwrap_err();
        if !error.to_string().contains("TLS") {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert!(error.to_string().contains("nobody answered"), "{error}");

    // One that speaks as a node, of another version; one with a certificate for clients.
    let answer = async |name, kind, hello: Frame| {
        cluster.identity(name, kind);
        let (listener, address, acceptor) = files(&cluster, name).listen().await;
        let served = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(tcp).await?.into();
            send(&mut stream, &hello).await?;
            receive(&mut stream).await
        });
        let error = peers.call(&address.to_string(), "x".into(), LONG).await;
        assert!(served.await.unwrap().is_err(), "a frame was sent");
        error.unwrap_err()
    };
    let hello = Frame::Hello {
        lowest: 2,
        highest: 3,
    };
    let error = answer("node-1", Kind::Node, hello).await;
    assert!(
        matches!(error, CallError::OtherVersion { theirs: (2, 3), .. }),
        "{error}"
    );
    let error = answer("node-2", Kind::Node, Frame::Last).await;
    assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
    let error = answer("guest", Kind::Client, HELLO).await;
    assert!(matches!(error, CallError::Untrusted { .. }), "{error}");
    assert!(error.to_string().contains("for clients"), "{error}");
}

/// A node by hand that takes one connection, says hello and that it is alive `lives` times, and reads
/// nothing.
async fn deaf(cluster: &Cluster, lives: usize) -> (String, tokio::task::JoinHandle<()>) {
    cluster.node();
    let (listener, address, acceptor) = files(cluster, "node-1").listen().await;
    let serving = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(tcp).await.unwrap().into();
        send(&mut stream, &HELLO).await.unwrap();
        for _ in 0..lives {
            if send(&mut stream, &Frame::Alive).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        std::future::pending::<()>().await;
    });
    (address.to_string(), serving)
}

#[tokio::test]
async fn a_peer_that_reads_nothing_fills_no_memory() {
    let cluster = Cluster::new("orders");
    let (address, serving) = deaf(&cluster, usize::MAX).await;
    let limits = Limits {
        calls: 64,
        call_bytes: 8 << 20,
        ..Limits::default()
    };
    let peers = Peers::within(&cluster.client(), limits);
    let body = Bytes::from(vec![7; 1 << 20]);
    let (mut calls, mut overloaded, mut late) = (JoinSet::new(), 0, [0, 0]);
    for _ in 0..200 {
        let (peers, address, body) = (peers.clone(), address.clone(), body.clone());
        calls.spawn(async move { peers.call(&address, body, Duration::from_millis(500)).await });
    }
    while let Some(outcome) = calls.join_next().await {
        assert!(peers.in_flight() <= 64);
        match outcome.unwrap().unwrap_err() {
            CallError::Overloaded { .. } => overloaded += 1,
            CallError::Deadline { sent, .. } => late[usize::from(sent)] += 1,
            other => panic!("{other}"),
        }
    }
    assert!(
        overloaded >= 136 && late[0] > 0 && late[1] > 0,
        "{overloaded} {late:?}"
    );
    assert_eq!(peers.in_flight(), 0);
    // Calls that never left gave their room back: others may wait in their place.
    let again = peers.call(&address, body, Duration::from_millis(50)).await;
    assert!(matches!(
        again,
        Err(CallError::Deadline { sent: false, .. })
    ));
    serving.abort();
}

#[tokio::test]
async fn a_peer_without_a_sign_of_life_is_given_up() {
    let cluster = Cluster::new("orders");
    let (address, serving) = deaf(&cluster, 1).await;
    let peers = Peers::new(&cluster.client());
    let lost = peers.call(&address, "x".into(), LONG).await.unwrap_err();
    assert!(matches!(lost, CallError::Lost { .. }), "{lost}");
    assert!(lost.to_string().contains("no sign of life"), "{lost}");
    serving.abort();
}

#[tokio::test]
async fn a_connection_without_calls_lives_on_signs_of_life() {
    let cluster = Cluster::new("orders");
    let held = Held::new();
    let node = Arc::new(node(&cluster.node(), held.answers()).await);
    let peers = Peers::new(&cluster.client());
    let calling = tokio::spawn({
        let (peers, node) = (peers.clone(), node.clone());
        async move { ask(&peers, &node, "held").await }
    });
    held.come(1).await;
    // Longer than silence is borne.
    tokio::time::sleep(Duration::from_secs(3)).await;
    held.go(1);
    assert_eq!(calling.await.unwrap().unwrap(), "held");
}

#[tokio::test]
async fn a_caller_that_reads_no_answers_gets_no_further_ones() {
    let cluster = Cluster::new("orders");
    let begun = Arc::new(AtomicUsize::new(0));
    let count = begun.clone();
    let answers = crate::world::By(move |_, request: Bytes| {
        let long = !request.is_empty();
        count.fetch_add(usize::from(long), Ordering::SeqCst);
        let answer = Bytes::from(vec![7; if long { 256 << 10 } else { 0 }]);
        Box::pin(async move { answer }) as BoxFuture<'static, Bytes>
    });
    let limits = Limits {
        answers: 8,
        ..Limits::default()
    };
    let node = node_within(&cluster.node(), Arc::new(answers), limits).await;
    cluster.client();
    let console = files(&cluster, "console");
    let mut greedy = console
        .connect(&node.address, "orders", true)
        .await
        .unwrap();
    send(&mut greedy, &HELLO).await.unwrap();
    let calls = 5_000;
    let mut bytes = BytesMut::new();
    for number in 0..calls {
        let body = Bytes::from_static(b"long");
        Frame::Call { number, body }.write(&mut bytes);
    }
    greedy.write_all(&bytes).await.unwrap();
    greedy.flush().await.unwrap();
    // Others are served meanwhile, until nothing moves on the greedy one's connection.
    let peers = Peers::new(&cluster.identity("other", Kind::Client));
    let mut before = usize::MAX;
    while before != begun.load(Ordering::SeqCst) {
        before = begun.load(Ordering::SeqCst);
        for _ in 0..500 {
            assert_eq!(ask(&peers, &node, "").await.unwrap(), "");
        }
    }
    // What the system holds in its buffers, and eight answers: not the gigabyte that was asked for.
    let begun = begun.load(Ordering::SeqCst);
    assert!((8..500).contains(&begun), "{begun}");
}
