//! Whom both sides trust.

use std::fs;
use std::path::Path;

use everfold_cluster::transport::Peers;
use everfold_cluster::{CallError, Identity, Kind, Side};

use crate::certificates::Pki;
use crate::world::{Cluster, ask, echo, node};

#[tokio::test]
async fn another_authority_is_not_trusted() {
    // Clusters of one name, but not of one authority.
    let (ours, theirs) = (Cluster::new("orders"), Cluster::new("orders"));
    assert_ne!(ours.authority.cluster(), theirs.authority.cluster());
    let node = node(&theirs.node(), echo()).await;
    let peers = Peers::new(&ours.client());
    for _ in 0..2 {
        let error = ask(&peers, &node, "x").await.unwrap_err();
        let here = Side::Here;
        assert!(
            matches!(&error, CallError::Untrusted { side, .. } if *side == here),
            "{error}"
        );
        assert!(error.to_string().contains("not trusted here"), "{error}");
        assert!(!error.may_be_done());
    }
}

#[tokio::test]
async fn a_node_does_not_trust_whom_another_authority_sent() {
    let (ours, theirs) = (Cluster::new("orders"), Cluster::new("orders"));
    let node = node(&theirs.node(), echo()).await;
    // We trust both authorities, as while one replaces the other; the node trusts its own.
    ours.client();
    let folder = ours.folder.path().join("console");
    let both = folder.join("both.pem");
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let theirs = read(&theirs.folder.path().join("authority/certificate.pem"));
    fs::write(&both, read(&folder.join("authority.pem")) + &theirs).unwrap();
    let files = ["certificate.pem", "key.pem"].map(|name| folder.join(name));
    let identity = Identity::from_files(&both, &files[0], &files[1]).unwrap();
    assert_eq!(identity.cluster(), ours.authority.cluster());
    let error = ask(&Peers::new(&identity), &node, "x").await.unwrap_err();
    let there = Side::There;
    assert!(
        matches!(&error, CallError::Untrusted { side, .. } if *side == there),
        "{error}"
    );
    assert!(error.to_string().contains("does not trust us"), "{error}");
}

#[tokio::test]
async fn clusters_of_one_authority_stay_apart() {
    let pki = Pki::new();
    let node = node(&pki.identity("node-1.nodes.orders", true), echo()).await;
    let ours = Peers::new(&pki.identity("console.clients.orders", false));
    assert_eq!(ask(&ours, &node, "x").await.unwrap(), "x");
    let other = Peers::new(&pki.identity("node-1.nodes.billing", true));
    let error = ask(&other, &node, "x").await.unwrap_err();
    let CallError::OtherCluster { ours, theirs, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!((&**ours, &**theirs), ("billing", "orders"));
}

#[tokio::test]
async fn a_node_tells_whom_it_has_in_another_cluster() {
    // A caller by hand that does not ask for its own cluster.
    let pki = Pki::new();
    let node = node(&pki.identity("node-1.nodes.orders", true), echo()).await;
    pki.identity("console.clients.billing", false);
    let files = crate::raw::Files::of(&pki.folder("console.clients.billing"));
    let mut stream = files.connect(&node.address, "orders", true).await.unwrap();
    let frame = crate::raw::receive(&mut stream).await.unwrap();
    let cluster = "orders".to_owned();
    assert_eq!(
        frame,
        everfold_cluster::transport::Frame::OtherCluster { cluster }
    );
}

#[tokio::test]
async fn addresses_decide_nothing() {
    let cluster = Cluster::new("orders");
    let node = node(&cluster.identity("far-away", Kind::Node), echo()).await;
    let peers = Peers::new(&cluster.client());
    let port = node.address.rsplit(':').next().unwrap();
    for host in ["127.0.0.1", "localhost", "127.0.0.2"] {
        let answer = peers
            .call(&format!("{host}:{port}"), "x".into(), crate::world::LONG)
            .await;
        // Only the first is listened on, everywhere.
        match answer {
            Ok(answer) => assert_eq!(answer, "x"),
            Err(error) => assert!(
                matches!(error, CallError::Unreachable { .. }) && host != "127.0.0.1",
                "{error}"
            ),
        }
    }
}
