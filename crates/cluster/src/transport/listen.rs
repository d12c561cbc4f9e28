//! A node that can be called.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use everfold_engine::Text;
use everfold_engine::engine::BoxFuture;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::error::ListenError;
use super::frame::{Frame, agreed};
use super::limits::Limits;
use super::session::Session;
use super::wire::{Wire, told};
use crate::authority::{Identity, PROTOCOL, PeerName};

/// What a node says to those who call it.
pub trait Answers: Send + Sync + 'static {
    /// Answers one call. Runs in a task of its own, beside others of the same peer; it is dropped if
    /// the peer's connection ends. A panic fails this call alone.
    fn answer(&self, from: &PeerName, request: Bytes) -> BoxFuture<'static, Bytes>;

    /// Somebody came who was not let in; says why. For logs: it may come often.
    fn refused(&self, from: SocketAddr, reason: &str) {
        let _ = (from, reason);
    }
}

/// A node that listens.
pub struct Listening {
    /// Where, with the port that was given if none was asked for.
    pub address: SocketAddr,
    /// Completes when all connections have ended after it was told to stop.
    pub ended: BoxFuture<'static, ()>,
}

/// How long somebody who has just come may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many of those there may be.
const STRANGERS: usize = 256;
/// How long it waits when the system has no room for a connection.
const REST: Duration = Duration::from_millis(50);

/// Listens on an address, port 0 for any, and answers whoever has a certificate of the cluster's
/// authority, within the usual [`Limits`]. It listens nowhere but there.
///
/// When `stop` becomes true, or its sender is dropped, no connection is taken any more; callers are
/// told to send no further calls, and those under way are answered, for five seconds at most.
///
/// # Errors
/// The identity is that of a client, or the address cannot be had.
pub async fn listen(
    address: SocketAddr,
    identity: &Identity,
    answers: Arc<dyn Answers>,
    stop: watch::Receiver<bool>,
) -> Result<Listening, ListenError> {
    listen_within(address, identity, answers, stop, Limits::default()).await
}

/// As [`listen`], within other limits.
///
/// # Errors
/// As for [`listen`].
pub async fn listen_within(
    address: SocketAddr,
    identity: &Identity,
    answers: Arc<dyn Answers>,
    stop: watch::Receiver<bool>,
    limits: Limits,
) -> Result<Listening, ListenError> {
    let config = identity.listens()?;
    let failed = |error: io::Error| ListenError::Bind {
        address,
        reason: error.to_string().into(),
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let door = Arc::new(Door {
        config,
        cluster: identity.name().cluster.clone(),
        answers,
        limits,
        connections: Semaphore::new(limits.connections),
        strangers: Semaphore::new(STRANGERS),
    });
    let (done, ended) = oneshot::channel();
    tokio::spawn(async move {
        accept(listener, door, stop).await;
        let _ = done.send(());
    });
    Ok(Listening {
        address,
        ended: Box::pin(async move { drop(ended.await) }),
    })
}

struct Door {
    config: Arc<ServerConfig>,
    cluster: Text,
    answers: Arc<dyn Answers>,
    limits: Limits,
    connections: Semaphore,
    strangers: Semaphore,
}

async fn accept(listener: TcpListener, door: Arc<Door>, mut stop: watch::Receiver<bool>) {
    let mut sessions = JoinSet::new();
    let for_sessions = stop.clone();
    loop {
        let come = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = sessions.join_next() => continue,
            come = listener.accept() => come,
        };
        match come {
            Ok((stream, from)) => {
                let (door, stop) = (door.clone(), for_sessions.clone());
                sessions.spawn(async move {
                    if let Err(reason) = door.welcome(stream, stop).await {
                        door.answers.refused(from, &reason);
                    }
                });
            }
            Err(_) => sleep(REST).await,
        }
    }
    drop(listener);
    while sessions.join_next().await.is_some() {}
}

impl Door {
    /// Lets somebody in, if so, and serves it to the end. Says why not.
    async fn welcome(
        &self,
        stream: TcpStream,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), String> {
        let for_session = stop.clone();
        // Whoever is not in yet holds up no end.
        let (wire, peer, _place) = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Err("this node ends".into()),
            entered = self.enter(stream) => entered?,
        };
        let session = Session::new(wire, peer, self.answers.clone(), self.limits, for_session);
        // How a connection ends is no news for a node: its peers come again.
        let _ = session.serve().await;
        Ok(())
    }

    /// Lets somebody in, up to the first call.
    async fn enter(
        &self,
        stream: TcpStream,
    ) -> Result<(Wire, PeerName, SemaphorePermit<'_>), String> {
        let stranger = self.strangers.try_acquire();
        let _stranger = stranger.map_err(|_| "too many come at once".to_owned())?;
        let met = timeout(PATIENCE, self.meet(stream)).await;
        let (mut wire, peer) = met.map_err(|_| format!("it said nothing for {PATIENCE:?}"))??;
        let Ok(place) = self.connections.try_acquire() else {
            return Err(farewell(&mut wire, &Frame::Full, "there are too many connections").await);
        };
        let greeted = timeout(PATIENCE, greet(&mut wire)).await;
        greeted.map_err(|_| format!("{peer} said no hello for {PATIENCE:?}"))??;
        Ok((wire, peer, place))
    }

    /// Learns who it is.
    async fn meet(&self, stream: TcpStream) -> Result<(Wire, PeerName), String> {
        stream.set_nodelay(true).map_err(|error| told(&error))?;
        let acceptor = TlsAcceptor::from(self.config.clone());
        let tls = acceptor.accept(stream).await;
        let tls = tls.map_err(|error| format!("not trusted: {}", told(&error)))?;
        let (_, session) = tls.get_ref();
        let protocol = session.alpn_protocol();
        let certificates = session.peer_certificates().unwrap_or_default();
        let peer = certificates.first().and_then(PeerName::of);
        if protocol != Some(PROTOCOL) {
            return Err("it speaks another protocol".into());
        }
        let peer = peer.ok_or("its certificate names neither a node nor a client")?;
        let mut wire = Wire::new(tls.into());
        if peer.cluster != self.cluster {
            let cluster = self.cluster.to_string();
            let reason = format!("{peer} is not of {cluster}");
            let frame = Frame::OtherCluster { cluster };
            return Err(farewell(&mut wire, &frame, &reason).await);
        }
        Ok((wire, peer))
    }
}

/// Exchanges hellos.
async fn greet(wire: &mut Wire) -> Result<(), String> {
    wire.put(&Frame::hello());
    let failed = |error: io::Error| told(&error);
    poll_fn(|cx| wire.poll_write(cx)).await.map_err(failed)?;
    match poll_fn(|cx| wire.poll_frame(cx)).await.map_err(failed)? {
        Frame::Hello { lowest, highest } if agreed((lowest, highest)).is_some() => Ok(()),
        Frame::Hello { lowest, highest } => Err(format!(
            "it speaks versions {lowest} to {highest} of the protocol"
        )),
        _ => Err("it does not begin with a hello".into()),
    }
}

/// Says why somebody is not let in; gives the reason back.
async fn farewell(wire: &mut Wire, frame: &Frame, reason: &str) -> String {
    wire.put(frame);
    let _ = timeout(PATIENCE, poll_fn(|cx| wire.poll_close(cx))).await;
    reason.to_owned()
}
