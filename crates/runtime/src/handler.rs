//! What views and reactors have in common: they read partitions up to a watermark, catch-up and
//! live tail in one loop, and keep a checkpoint that is fenced like the partition.

mod feed;
mod reactor;
mod schema_check;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use everfold_engine::engine::{Engine, Epoch, OwnerError};
use everfold_engine::map::{Map, seeded};
use everfold_engine::slot::Partition;
use everfold_engine::{Offset, Text, World};
use serde::Serialize;
use tokio::sync::watch;

use crate::owner::Router;
use crate::timers::TimerClock;

pub(crate) use feed::{Delivered, Fed, Feed};
pub(crate) use reactor::{ReactorTask, RunningReactor};
pub(crate) use schema_check::{check_schemas, foreign_kind};

/// The state of an ownership as others may see it: unknown yet, held, or lost.
pub(crate) type Ownership = Option<Result<Epoch, OwnerError>>;

/// What a handler runs on.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) world: Arc<dyn World>,
    pub(crate) router: Router,
    pub(crate) feeds: Arc<[Arc<Feed>]>,
    pub(crate) owners: Arc<[watch::Receiver<Ownership>]>,
    pub(crate) timers: TimerClock,
    pub(crate) stop: watch::Receiver<bool>,
}

impl Ground {
    /// The epoch under which this node owns a partition, if it does.
    pub(crate) fn epoch(&self, partition: Partition) -> Option<Epoch> {
        let state = self.owners.get(partition.index())?.borrow();
        state
            .as_ref()
            .and_then(|state| state.as_ref().ok().copied())
    }

    /// Waits until this node owns a partition.
    pub(crate) async fn owned(&self, partition: Partition) {
        if let Some(mut owner) = self.owners.get(partition.index()).cloned() {
            let _ = owner.wait_for(|state| matches!(state, Some(Ok(_)))).await;
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        // Without its sender the node is gone.
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }
}

/// How a handler is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HandlerStatus {
    /// The handler's name.
    pub name: String,
    /// `view` or `reactor`.
    pub kind: &'static str,
    /// A view's version; 0 for reactors.
    pub version: u32,
    /// Records of all partitions that it has not read yet.
    pub behind: u64,
    /// Events set aside for a person; more than 0 asks for attention.
    pub parked: u64,
    /// Commands being tried again.
    pub retrying: u64,
    /// Rejections that the handler does not map, counted since the start.
    pub unmapped_rejections: u64,
    /// Timers that are not due yet.
    pub timers: u64,
}

/// Events that a handler could not process, set aside in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parked {
    /// The handler's name.
    pub handler: String,
    /// The partition the events come from.
    pub partition: u16,
    /// The entity, perhaps with a part of it, or the row, that nothing more is done for.
    pub key: String,
    /// The entity that the events belong to; empty for rows.
    pub entity: String,
    /// The events' offsets.
    pub offsets: Vec<u64>,
    /// Why the first of them failed.
    pub reason: String,
}

/// Where a handler stands in each partition.
pub(crate) type Vector = Vec<Offset>;

pub(crate) fn encode_vector(vector: &[Offset]) -> Vec<u8> {
    vector
        .iter()
        .flat_map(|offset| offset.0.to_le_bytes())
        .collect()
}

pub(crate) fn decode_vector(bytes: &[u8], partitions: usize) -> Option<Vector> {
    let (offsets, rest) = bytes.as_chunks::<8>();
    let whole = rest.is_empty() && offsets.len() == partitions;
    whole.then(|| {
        offsets
            .iter()
            .map(|offset| Offset(u64::from_le_bytes(*offset)))
            .collect()
    })
}

/// The subscriptions of a handler to each entity type, by name.
pub(crate) type ByKind<T> = Map<Text, Vec<T>>;

pub(crate) fn by_kind<T>(entries: impl IntoIterator<Item = (Text, T)>) -> ByKind<T> {
    let mut map: ByKind<T> = seeded(0);
    for (kind, entry) in entries {
        map.entry(kind).or_default().push(entry);
    }
    map
}

/// Set once; tells the tasks of a handler to begin anew.
#[derive(Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Completes when the signal is raised, or can never be.
pub(crate) async fn raised(signal: &mut watch::Receiver<bool>) {
    let _ = signal.wait_for(|raised| *raised).await;
}
