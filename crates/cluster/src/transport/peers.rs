//! Whom this process calls.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use everfold_engine::Text;
use everfold_engine::map::{Map, seeded};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::connect::{connect, unreachable};
use super::connection::Connection;
use super::error::{CallError, Side};
use super::frame::MAX_BODY;
use super::limits::Limits;
use crate::authority::Identity;

/// The first pause after an attempt that failed, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Calls to nodes by their addresses, over one connection for each. Clones share the connections,
/// which end with the last of them, and which live on the tokio runtime of whoever called first.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Identity,
    limits: Limits,
    peers: Mutex<Map<Text, Arc<Peer>>>,
}

struct Peer {
    address: Text,
    link: Mutex<Link>,
    waiting: AtomicUsize,
}

/// How it stands with a peer.
enum Link {
    /// Nothing is known against it.
    Idle,
    /// An attempt is under way, the only one. `last`: what the one before came to.
    Making {
        made: watch::Receiver<Option<Made>>,
        last: Option<CallError>,
    },
    /// There is a connection, made after so many failures.
    Up {
        failures: u32,
        connection: Arc<Connection>,
    },
    /// The last attempt failed, and the next is not made before a moment.
    Down {
        failures: u32,
        error: CallError,
        until: Instant,
    },
}

type Made = Result<Arc<Connection>, CallError>;

impl Peers {
    /// Calls under this identity, within the usual limits.
    pub fn new(identity: &Identity) -> Self {
        Self::within(identity, Limits::default())
    }

    /// The same, within other limits.
    pub fn within(identity: &Identity, limits: Limits) -> Self {
        Self {
            inner: Arc::new(Inner {
                identity: identity.clone(),
                limits,
                peers: Mutex::new(seeded(0)),
            }),
        }
    }

    /// Asks the node at `address`, which is `host:port`, and waits for its answer. Whoever drops the
    /// future gives the answer up; what was sent may be carried out nevertheless.
    ///
    /// The first call to an address makes the connection. After an attempt that failed, calls fail at
    /// once with its reason, until a pause is over that grows from 50 ms to a second; then one call
    /// tries again.
    ///
    /// # Errors
    /// See [`CallError`]; [`CallError::may_be_done`] says which leave the outcome open.
    pub async fn call(
        &self,
        address: &str,
        request: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        if request.len() > MAX_BODY {
            return Err(CallError::TooLarge {
                side: Side::Here,
                bytes: request.len(),
                limit: MAX_BODY,
            });
        }
        let peer = self.peer(address);
        let over = sleep(deadline);
        tokio::pin!(over);
        loop {
            let late = |sent| CallError::Deadline {
                address: peer.address.clone(),
                after: deadline,
                sent,
            };
            let connection = tokio::select! {
                biased;
                connection = self.connection(&peer) => connection?,
                () = &mut over => return Err(late(false)),
            };
            // `None`: it ended meanwhile, so nothing was sent.
            if let Some(mut left) = connection.leave(request.clone())? {
                let outcome = tokio::select! {
                    biased;
                    outcome = left.outcome() => Some(outcome),
                    () = &mut over => None,
                };
                return outcome.unwrap_or_else(|| Err(late(left.is_sent())));
            }
            peer.ended(&connection, "the connection was ended");
        }
    }

    /// How many calls wait for an answer, of all peers.
    pub fn in_flight(&self) -> usize {
        let peers: Vec<_> = self.inner.peers().values().cloned().collect();
        let count = |peer: Arc<Peer>| match &*peer.link() {
            Link::Up { connection, .. } => connection.in_flight(),
            _ => peer.waiting.load(Ordering::Relaxed),
        };
        peers.into_iter().map(count).sum()
    }

    fn peer(&self, address: &str) -> Arc<Peer> {
        let mut peers = self.inner.peers();
        if let Some(peer) = peers.get(address) {
            return peer.clone();
        }
        // Nodes come and go under new addresses; those that nobody asks any more are forgotten.
        peers.retain(|_, peer| !peer.is_unused());
        let address = Text::from(address);
        let peer = Arc::new(Peer {
            address: address.clone(),
            link: Mutex::new(Link::Idle),
            waiting: AtomicUsize::new(0),
        });
        peers.insert(address, peer.clone());
        peer
    }

    /// The peer's connection, made if need be.
    async fn connection(&self, peer: &Arc<Peer>) -> Made {
        let made = {
            let mut link = peer.link();
            let before = match &*link {
                // One that is not open any more is noticed by whoever leaves a call.
                Link::Up { connection, .. } => return Ok(connection.clone()),
                Link::Making {
                    last: Some(error), ..
                } => return Err(error.clone()),
                Link::Making { made, last: None } => Err(made.clone()),
                Link::Down { error, until, .. } if Instant::now() < *until => {
                    return Err(error.clone());
                }
                Link::Down {
                    failures, error, ..
                } => Ok((*failures, Some(error.clone()))),
                Link::Idle => Ok((0, None)),
            };
            match before {
                Err(made) => made,
                Ok((failures, last)) => {
                    let (tell, made) = watch::channel(None);
                    *link = Link::Making {
                        made: made.clone(),
                        last,
                    };
                    let caller = Caller {
                        inner: Arc::downgrade(&self.inner),
                        identity: self.inner.identity.clone(),
                        limits: self.inner.limits,
                    };
                    tokio::spawn(live(caller, peer.clone(), failures, tell));
                    made
                }
            }
        };
        self.wait(peer, made).await
    }

    async fn wait(&self, peer: &Peer, mut made: watch::Receiver<Option<Made>>) -> Made {
        let _place = Place::take(peer, self.inner.limits.calls)?;
        let outcome = made.wait_for(Option::is_some).await;
        let outcome = outcome.ok().and_then(|made| made.clone());
        outcome.unwrap_or_else(|| Err(unreachable(&peer.address, "the attempt was given up")))
    }
}

/// A place among those who wait for a connection.
struct Place<'a>(&'a Peer);

impl<'a> Place<'a> {
    fn take(peer: &'a Peer, most: usize) -> Result<Self, CallError> {
        let before = peer.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(peer);
        if before >= most {
            return Err(CallError::Overloaded {
                address: peer.address.clone(),
                in_flight: before,
                // An attempt that fails frees all places, and so does one that does not.
                retry_after: PAUSES.0,
            });
        }
        Ok(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an attempt works for. It keeps nobody alive who has given up calling.
struct Caller {
    inner: Weak<Inner>,
    identity: Identity,
    limits: Limits,
}

/// Makes a connection and keeps it to its end.
async fn live(caller: Caller, peer: Arc<Peer>, failures: u32, tell: watch::Sender<Option<Made>>) {
    let wire = match connect(&peer.address, &caller.identity).await {
        Ok(wire) => wire,
        Err(error) => {
            *peer.link() = Link::after(failures, error.clone());
            tell.send_replace(Some(Err(error)));
            return;
        }
    };
    let connection = Arc::new(Connection::new(peer.address.clone(), caller.limits));
    *peer.link() = Link::Up {
        failures,
        connection: connection.clone(),
    };
    if caller.inner.strong_count() == 0 {
        connection.finish();
    }
    tell.send_replace(Some(Ok(connection.clone())));
    drop(tell);
    let reason = connection.drive(wire).await;
    peer.ended(&connection, &reason);
}

impl Link {
    /// How it stands after one more failure.
    fn after(failures: u32, error: CallError) -> Self {
        let (first, longest) = PAUSES;
        let pause = first.saturating_mul(1 << failures.min(10)).min(longest);
        Self::Down {
            failures: failures + 1,
            error,
            until: Instant::now() + pause,
        }
    }
}

impl Peer {
    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection takes no further calls.
    fn ended(&self, ended: &Arc<Connection>, reason: &str) {
        let mut link = self.link();
        if let Link::Up {
            failures,
            connection,
        } = &*link
            && Arc::ptr_eq(connection, ended)
        {
            // A peer that takes connections and serves nothing is not pressed.
            *link = if ended.has_answered() {
                Link::Idle
            } else {
                Link::after(*failures, unreachable(&self.address, reason))
            };
        }
    }

    fn is_unused(&self) -> bool {
        match &*self.link() {
            Link::Idle => true,
            Link::Down { until, .. } => Instant::now() > *until + 60 * PAUSES.1,
            Link::Making { .. } | Link::Up { .. } => false,
        }
    }
}

impl Inner {
    fn peers(&self) -> MutexGuard<'_, Map<Text, Arc<Peer>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for peer in self.peers().values() {
            if let Link::Up { connection, .. } = &*peer.link() {
                connection.finish();
            }
        }
    }
}
