//! What callers get.

use std::sync::Arc;

use bytes::Bytes;
use everfold_cluster::transport::Peers;
use everfold_cluster::{Kind, PeerName};
use everfold_engine::engine::BoxFuture;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::world::{By, Cluster, LONG, ask, echo, node};

#[tokio::test]
async fn a_call_is_answered() {
    let cluster = Cluster::new("orders");
    let node = node(&cluster.node(), echo()).await;
    let peers = Peers::new(&cluster.client());
    assert_eq!(ask(&peers, &node, "hello").await.unwrap(), "hello");
    assert_eq!(ask(&peers, &node, "").await.unwrap(), "");
}
