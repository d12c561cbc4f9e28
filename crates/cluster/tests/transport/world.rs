//! A cluster's certificates, and nodes that answer.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use everfold_cluster::transport::{Answers, Limits, Listening, Peers, listen_within};
use everfold_cluster::{Authority, Identity, Kind, PeerName};
use everfold_engine::engine::BoxFuture;
use tempfile::TempDir;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// Longer than any test takes that does not fail.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A folder with an authority.
pub(crate) struct Cluster {
    pub(crate) folder: TempDir,
    pub(crate) authority: Authority,
}

impl Cluster {
    pub(crate) fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(folder.path(), name).unwrap();
        Self { folder, authority }
    }

    pub(crate) fn identity(&self, name: &str, kind: Kind) -> Identity {
        identity(&self.authority, &self.folder.path().join(name), name, kind)
    }

    pub(crate) fn node(&self) -> Identity {
        self.identity("node-1", Kind::Node)
    }

    pub(crate) fn client(&self) -> Identity {
        self.identity("console", Kind::Client)
    }
}

pub(crate) fn identity(authority: &Authority, folder: &Path, name: &str, kind: Kind) -> Identity {
    let issued = authority.issue(name, &[], kind).unwrap();
    issued.write(folder).unwrap();
    Identity::from_folder(folder).unwrap()
}

/// Answers by a function that may wait.
pub(crate) struct By<F>(pub(crate) F);

impl<F> Answers for By<F>
where
    F: Fn(PeerName, Bytes) -> BoxFuture<'static, Bytes> + Send + Sync + 'static,
{
    fn answer(&self, from: &PeerName, request: Bytes) -> BoxFuture<'static, Bytes> {
        (self.0)(from.clone(), request)
    }
}

/// What was asked is the answer.
pub(crate) fn echo() -> Arc<dyn Answers> {
    Arc::new(By(|_, request| {
        Box::pin(async { request }) as BoxFuture<'static, Bytes>
    }))
}

/// A node that runs until it is told to stop.
pub(crate) struct Node {
    pub(crate) address: String,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) ended: JoinHandle<()>,
}

pub(crate) async fn node(identity: &Identity, answers: Arc<dyn Answers>) -> Node {
    node_within(identity, answers, Limits::default()).await
}

pub(crate) async fn node_within(
    identity: &Identity,
    answers: Arc<dyn Answers>,
    limits: Limits,
) -> Node {
    let (stop, stopped) = watch::channel(false);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let Listening { address, ended } = listen_within(any, identity, answers, stopped, limits)
        .await
        .unwrap();
    Node {
        address: address.to_string(),
        stop,
        ended: tokio::spawn(ended),
    }
}

/// Calls, with a limit that only a test that fails reaches.
pub(crate) async fn ask(
    peers: &Peers,
    node: &Node,
    request: &'static str,
) -> Result<Bytes, everfold_cluster::CallError> {
    peers.call(&node.address, request.into(), LONG).await
}

/// Answers that say when a call has come, and wait until they may go.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) come: Arc<Semaphore>,
    pub(crate) go: Arc<Semaphore>,
}

impl Held {
    pub(crate) fn new() -> Self {
        let none = || Arc::new(Semaphore::new(0));
        Self {
            come: none(),
            go: none(),
        }
    }

    /// Holds what begins with "held", and answers everything with itself.
    pub(crate) fn answers(&self) -> Arc<dyn Answers> {
        let held = self.clone();
        Arc::new(By(move |_, request: Bytes| {
            let held = held.clone();
            Box::pin(async move {
                if request.starts_with(b"held") {
                    held.come.add_permits(1);
                    held.go.acquire().await.unwrap().forget();
                }
                request
            }) as BoxFuture<'static, Bytes>
        }))
    }

    /// Waits until so many more calls have come.
    pub(crate) async fn come(&self, calls: u32) {
        self.come.acquire_many(calls).await.unwrap().forget();
    }

    /// Lets so many go.
    pub(crate) fn go(&self, calls: usize) {
        self.go.add_permits(calls);
    }
}
