//! The way between nodes, and from clients to nodes: one connection for each pair, over which a call
//! comes once or not at all.

use std::sync::{Arc, Weak};
use std::time::Duration;

use everfold::engine::engine::BoxFuture;
use everfold::engine::{Bytes, Text, World};
use everfold_cluster::{CallError, PeerName, Road};
use tokio::sync::oneshot;

use crate::cluster::{Cluster, Member};
use crate::network::{Message, Place};

/// How long somebody tries to get a connection.
const CONNECTING: Duration = Duration::from_millis(1000);
/// A peer from which nothing was heard for so long is given up, and what was asked of it.
const SILENCE: Duration = Duration::from_millis(1500);

/// How one node, or one client, calls nodes.
pub(crate) struct Way {
    pub(crate) here: Place,
    pub(crate) name: PeerName,
    pub(crate) world: Arc<dyn World>,
    /// Which holds the nodes that hold this.
    pub(crate) cluster: Weak<Cluster>,
}

impl Road for Way {
    fn call(
        &self,
        address: &str,
        message: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let call = Call {
            here: self.here,
            name: self.name.clone(),
            world: self.world.clone(),
            address: address.into(),
            patience,
        };
        let cluster = self.cluster.upgrade();
        Box::pin(async move {
            match cluster {
                Some(cluster) => call.make(&cluster, message).await,
                None => Err(call.unreachable("the run is over")),
            }
        })
    }
}

struct Call {
    here: Place,
    name: PeerName,
    world: Arc<dyn World>,
    address: Text,
    patience: Duration,
}

/// What has come of something that was sent.
enum Came {
    Answer(Bytes),
    /// The peer has ended.
    Broken,
    /// Nothing in time.
    Silence,
}

impl Call {
    async fn make(self, cluster: &Arc<Cluster>, message: Bytes) -> Result<Bytes, CallError> {
        let network = cluster.network.clone();
        let begun = self.world.elapsed();
        let Some(peer) = cluster.listening(&self.address) else {
            self.world.sleep(Duration::from_millis(1)).await;
            return Err(self.unreachable("nobody listens there"));
        };
        let there = Place::Node(peer.number);
        if !network.is_connected(self.here, there) {
            let knock = self.exchange(cluster, &peer, self.patience.min(CONNECTING), None);
            match knock.await {
                Came::Answer(_) => network.connect(self.here, there),
                Came::Broken => return Err(self.unreachable("nobody listens there any more")),
                Came::Silence => {
                    cluster
                        .counts
                        .count("peer was not reached, nothing was sent");
                    return Err(self.unreachable("it does not answer"));
                }
            }
        }
        let left = (begun + self.patience).saturating_sub(self.world.elapsed());
        let sent = self.exchange(cluster, &peer, left.min(SILENCE), Some(message));
        match sent.await {
            Came::Answer(answer) => Ok(answer),
            Came::Silence if left < SILENCE => {
                cluster.counts.count("peer did not answer in time");
                Err(CallError::Deadline {
                    address: self.address,
                    after: self.patience,
                    sent: true,
                })
            }
            broken => {
                network.disconnect(self.here, there);
                cluster.counts.count("connection broke with calls on it");
                Err(CallError::Lost {
                    address: self.address,
                    reason: match broken {
                        Came::Broken => "the peer ended".into(),
                        _ => "nothing is heard of the peer".into(),
                    },
                })
            }
        }
    }

    /// Has a node answer a message; without one it says that it is there.
    async fn exchange(
        &self,
        cluster: &Arc<Cluster>,
        peer: &Member,
        patience: Duration,
        message: Option<Bytes>,
    ) -> Came {
        let (tell, told) = oneshot::channel();
        let there = Place::Node(peer.number);
        let ways = cluster.network.travel(self.here, there, Message::Request);
        match ways.into_iter().min() {
            Some(delay) => {
                let (cluster, peer) = (cluster.clone(), peer.clone());
                let from = (self.here, self.name.clone());
                cluster.network.clone().after(delay, move || {
                    serve(&cluster, peer, from, message, tell);
                });
            }
            None => cluster.network.never_answer(tell),
        }
        let mut over = self.world.sleep(patience);
        tokio::select! { biased;
            told = told => told.map_or(Came::Broken, Came::Answer),
            () = &mut over => Came::Silence,
        }
    }

    fn unreachable(&self, reason: &'static str) -> CallError {
        CallError::Unreachable {
            address: self.address.clone(),
            reason: Text::from_static(reason),
        }
    }
}

/// What a node does with what has arrived. If the node is gone, `tell` goes too.
fn serve(
    cluster: &Arc<Cluster>,
    peer: Member,
    (from, name): (Place, PeerName),
    message: Option<Bytes>,
    tell: oneshot::Sender<Bytes>,
) {
    let Some(clustered) = cluster.clustered(peer.number) else {
        return;
    };
    let network = cluster.network.clone();
    let here = Place::Node(peer.number);
    let served = async move {
        let answer = match message {
            Some(message) => clustered.answer(&name, message),
            None => Box::pin(async { Bytes::new() }),
        };
        // Whoever closes the node needs it alone.
        drop(clustered);
        let answer = answer.await;
        match network
            .travel(here, from, Message::Answer)
            .into_iter()
            .min()
        {
            Some(delay) => network.after(delay, move || drop(tell.send(answer))),
            None => network.never_answer(tell),
        }
    };
    peer.process
        .world()
        .spawn("answer a peer", Box::pin(served));
}
