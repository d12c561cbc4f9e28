//! What an application puts in front of an embedded store: one thread that takes all appends that
//! wait, checks their versions in memory, and commits them as one.
//!
//! The same front for every store whose commit blocks, and the same table of versions for
//! Everfold's owners, so that all embedded stores are asked for the same.

use std::sync::Mutex;
use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow};
use everfold_engine::Uuid;
use everfold_engine::map::{self, Map};
use tokio::sync::{mpsc, oneshot};

use crate::store::Refused;
use crate::workload::{Event, HISTORY};

/// Appends that may wait.
pub(crate) const QUEUE: usize = 16_384;
/// The most that are committed as one.
pub(crate) const GROUP: usize = 2_048;

/// Where each entity is.
pub(crate) struct Versions(Map<String, u64>);

impl Versions {
    pub(crate) fn new() -> Self {
        Self(map::seeded(0))
    }

    /// The version of an entity's next event, or a conflict.
    pub(crate) fn next(&mut self, entity: &str, expected: u64) -> Result<u64, Refused> {
        match self.0.get_mut(entity) {
            Some(version) if *version == expected => *version += 1,
            None if expected == 0 => {
                self.0.insert(entity.to_owned(), 1);
            }
            _ => return Err(Refused::Conflict),
        }
        Ok(expected + 1)
    }
}

/// An append on its way to a front.
pub(crate) struct Request {
    pub(crate) event: Event,
    pub(crate) expected: u64,
    pub(crate) done: oneshot::Sender<Result<u64, Refused>>,
}

/// Sends a request and waits for its end.
pub(crate) async fn ask(
    sender: &mpsc::Sender<Request>,
    event: Event,
    expected: u64,
) -> Result<u64, Refused> {
    let (done, answer) = oneshot::channel();
    let request = Request {
        event,
        expected,
        done,
    };
    let gone = "the store's front has ended";
    sender.send(request).await.ok().context(gone)?;
    answer.await.context(gone)?
}

/// An event that is to be committed.
pub(crate) struct Accepted {
    pub(crate) event: Event,
    /// Of its entity after it, from 1.
    pub(crate) version: u64,
    /// In the whole log, from 1.
    pub(crate) sequence: u64,
}

/// A store whose commit blocks until the events are durable.
pub(crate) trait Commit: Send + 'static {
    fn commit(&mut self, events: &[Accepted]) -> anyhow::Result<()>;
}

/// The front's thread and the way to it.
pub(crate) struct Front {
    sender: mpsc::Sender<Request>,
    thread: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Front {
    pub(crate) fn start(store: impl Commit) -> anyhow::Result<Self> {
        let (sender, inbox) = mpsc::channel(QUEUE);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("front".into())
            .spawn(move || run(store, inbox, stopped))?;
        Ok(Self {
            sender,
            thread: Mutex::new(Some((stop, thread))),
        })
    }

    pub(crate) async fn append(&self, event: Event, expected: u64) -> Result<u64, Refused> {
        ask(&self.sender, event, expected).await
    }

    /// Ends the thread, and drops the store with it. What comes later is refused.
    pub(crate) async fn close(&self) -> anyhow::Result<()> {
        let thread = self.thread.lock().map_or(None, |mut thread| thread.take());
        let Some((stop, thread)) = thread else {
            return Ok(());
        };
        drop(stop);
        let (done, _) = oneshot::channel();
        // Wakes the thread, which looks whether it is to stop; its answer does not matter.
        let event = Event {
            id: Uuid::nil(),
            entity: String::new(),
            payload: Vec::new(),
        };
        let wake = Request {
            event,
            expected: u64::MAX,
            done,
        };
        let _ = self.sender.send(wake).await;
        tokio::task::spawn_blocking(move || thread.join())
            .await?
            .map_err(|_| anyhow!("the front panicked"))
    }
}

fn run(
    mut store: impl Commit,
    mut inbox: mpsc::Receiver<Request>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut versions = Versions::new();
    let mut sequence = 0;
    let mut waiting = Vec::with_capacity(GROUP);
    let mut accepted = Vec::with_capacity(GROUP);
    let mut answers = Vec::with_capacity(GROUP);
    while inbox.blocking_recv_many(&mut waiting, GROUP) > 0 {
        for request in waiting.drain(..) {
            match versions.next(&request.event.entity, request.expected) {
                Ok(version) => {
                    sequence += 1;
                    accepted.push(Accepted {
                        event: request.event,
                        version,
                        sequence,
                    });
                    answers.push((request.done, version));
                }
                // Whoever asked may have gone away.
                Err(refused) => drop(request.done.send(Err(refused))),
            }
        }
        if !accepted.is_empty()
            && let Err(error) = store.commit(&accepted)
        {
            for (done, _) in answers.drain(..) {
                let _ = done.send(Err(Refused::Failed(anyhow!("not committed: {error:#}"))));
            }
            // What the table says is no longer what the store has.
            return;
        }
        accepted.clear();
        for (done, version) in answers.drain(..) {
            let _ = done.send(Ok(version));
        }
        if !matches!(stopped.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
            return;
        }
    }
}

/// An event as bytes for stores that know no events: id, version, names with their lengths, payload.
pub(crate) fn encode(accepted: &Accepted, event_type: &str) -> Vec<u8> {
    let Accepted { event, version, .. } = accepted;
    let names = event_type.len() + event.entity.len();
    let mut bytes = Vec::with_capacity(HEADER + names + event.payload.len());
    bytes.extend_from_slice(event.id.as_bytes());
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&(event_type.len() as u16).to_le_bytes());
    bytes.extend_from_slice(&(event.entity.len() as u16).to_le_bytes());
    bytes.extend_from_slice(event_type.as_bytes());
    bytes.extend_from_slice(event.entity.as_bytes());
    bytes.extend_from_slice(&event.payload);
    bytes
}

/// How many bytes of [`encode`]d bytes are the payload.
pub(crate) fn payload_length(bytes: &[u8]) -> anyhow::Result<usize> {
    let length = |at: usize| {
        let field = bytes
            .get(at..at + 2)
            .and_then(|field| field.try_into().ok());
        field.map(|field| usize::from(u16::from_le_bytes(field)))
    };
    let names = length(24).zip(length(26)).map(|(a, b)| a + b);
    let payload = names.and_then(|names| bytes.len().checked_sub(HEADER + names));
    payload.context("a stored event is cut")
}

const HEADER: usize = 28;

/// The key of an entity's event: its events lie together, in order.
pub(crate) fn entity_key(entity: &str, version: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(entity.len() + 9);
    key.extend_from_slice(entity.as_bytes());
    key.push(0);
    // Big-endian, so that byte order is the order of versions.
    key.extend_from_slice(&version.to_be_bytes());
    key
}

/// First and last key of an entity whose events are read.
pub(crate) fn entity_keys(entity: &str) -> (Vec<u8>, Vec<u8>) {
    (entity_key(entity, 0), entity_key(entity, HISTORY as u64))
}
