//! Runs a reactor: one lane per source partition.

mod job;
mod lane;
mod timers;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use everfold_engine::slot::Partition;
use everfold_engine::{Offset, Text, Timestamp};
use tokio::sync::{mpsc, watch};

use self::timers::Firing;
use super::{Ground, HandlerStatus, Parked, by_kind};
use crate::reactor::Reactor;
use crate::schema::Registry;

/// A reactor that can be started.
pub(crate) struct ReactorTask(pub(crate) Reactor);

/// A reactor that runs.
pub(crate) struct RunningReactor {
    name: Text,
    lanes: Vec<Arc<LaneStatus>>,
    finished: Vec<watch::Receiver<bool>>,
}

struct LaneStatus {
    partition: Partition,
    /// Every event up to here is finished, though perhaps not yet stored so.
    reached: watch::Sender<Offset>,
    parked: Mutex<BTreeMap<Text, ParkedKey>>,
    /// Timers that were set aside.
    parked_timers: Mutex<Vec<Firing>>,
    /// Everything up to here is stored as done, and nothing of it is parked.
    settled: AtomicU64,
    /// The same for timers that have fired, by their numbers.
    settled_timers: AtomicU64,
    /// Nothing up to here is read again, for timers neither.
    done: AtomicU64,
    /// Timers that are not due, those that fire, and when the next is due; `i64::MAX` if never.
    pending: AtomicU64,
    firing: AtomicU64,
    next_due: AtomicI64,
    retrying: AtomicU64,
    unmapped: AtomicU64,
    retry: mpsc::UnboundedSender<Text>,
}

#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
struct ParkedKey {
    /// Whose events they are.
    #[serde(default)]
    entity: String,
    reason: String,
    offsets: Vec<u64>,
    /// Those of them whose timers are not set, for it is not known what they ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unset: Vec<u64>,
}

impl ReactorTask {
    pub(crate) fn start(self, ground: &Ground, registry: &Registry) -> RunningReactor {
        let name = self.0.name;
        let subscriptions = self.0.subscriptions.into_iter().flat_map(|sub| {
            let kinds = match sub.kind {
                Some(kind) => vec![kind],
                None => registry.owners_of(sub.event),
            };
            kinds.into_iter().map(move |kind| (kind, sub.react.clone()))
        });
        let react = Arc::new(by_kind(subscriptions));
        let mut running = RunningReactor {
            name: name.clone(),
            lanes: Vec::new(),
            finished: Vec::new(),
        };
        for partition in ground.engine.identity().layout.all() {
            let (retry, retries) = mpsc::unbounded_channel();
            let status = Arc::new(LaneStatus {
                partition,
                reached: watch::Sender::new(Offset(0)),
                parked: Mutex::default(),
                parked_timers: Mutex::default(),
                settled: AtomicU64::new(0),
                settled_timers: AtomicU64::new(0),
                done: AtomicU64::new(0),
                pending: AtomicU64::new(0),
                firing: AtomicU64::new(0),
                next_due: AtomicI64::new(i64::MAX),
                retrying: AtomicU64::new(0),
                unmapped: AtomicU64::new(0),
                retry,
            });
            let (finished, finish) = watch::channel(false);
            running.lanes.push(status.clone());
            running.finished.push(finish);
            let (ground, react, name) = (ground.clone(), react.clone(), name.clone());
            let world = ground.world.clone();
            let task = async move {
                lane::run(name, partition, ground, react, status, retries).await;
                finished.send_replace(true);
            };
            world.spawn("reactor", Box::pin(task));
        }
        running
    }
}

impl RunningReactor {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn finished(&self) -> Vec<watch::Receiver<bool>> {
        self.finished.clone()
    }

    pub(crate) fn reached(&self, partition: Partition) -> Option<watch::Receiver<Offset>> {
        Some(self.lanes.get(partition.index())?.reached.subscribe())
    }

    /// Up to where a partition is stored as done, with nothing parked and no timer pending.
    pub(crate) fn done(&self, partition: Partition) -> Offset {
        let lane = self.lanes.get(partition.index());
        Offset(lane.map_or(0, |lane| lane.done.load(Ordering::Relaxed)))
    }

    /// Whether a timer of a partition is due by `now` and has not done its work.
    pub(crate) fn owes(&self, partition: Partition, now: Timestamp) -> bool {
        self.lanes.get(partition.index()).is_some_and(|lane| {
            let next = lane.next_due.load(Ordering::Acquire);
            let due = next != i64::MAX && next <= now.0;
            due || lane.firing.load(Ordering::Acquire) > 0
        })
    }

    pub(crate) fn status(&self, heads: &[Offset]) -> HandlerStatus {
        let behind = |lane: &Arc<LaneStatus>| {
            heads[lane.partition.index()]
                .0
                .saturating_sub(lane.reached.borrow().0)
        };
        let count = |of: fn(&LaneStatus) -> &AtomicU64| {
            self.lanes
                .iter()
                .map(|lane| of(lane).load(Ordering::Relaxed))
                .sum()
        };
        HandlerStatus {
            name: self.name.to_string(),
            kind: "reactor",
            version: 0,
            behind: self.lanes.iter().map(behind).sum(),
            parked: self
                .parked()
                .iter()
                .map(|parked| parked.offsets.len() as u64)
                .sum(),
            retrying: count(|lane| &lane.retrying),
            unmapped_rejections: count(|lane| &lane.unmapped),
            timers: count(|lane| &lane.pending),
        }
    }

    pub(crate) fn parked(&self) -> Vec<Parked> {
        let mut all = Vec::new();
        for lane in &self.lanes {
            let timers = lane.parked_timers.lock();
            for firing in timers.unwrap_or_else(PoisonError::into_inner).iter() {
                all.push(Parked {
                    handler: self.name.to_string(),
                    partition: lane.partition.0,
                    key: firing.key().to_string(),
                    entity: firing.entity.clone(),
                    offsets: vec![firing.due.offset.0],
                    reason: firing.parked.clone().unwrap_or_default(),
                });
            }
            for (key, parked) in lane
                .parked
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
            {
                all.push(Parked {
                    handler: self.name.to_string(),
                    partition: lane.partition.0,
                    key: shown(key),
                    entity: parked.entity.clone(),
                    offsets: parked.offsets.clone(),
                    reason: parked.reason.clone(),
                });
            }
        }
        all
    }

    /// Tries an entity's parked events again, in order. Says whether there were any.
    pub(crate) fn retry(&self, key: &str) -> bool {
        let mut found = false;
        for lane in &self.lanes {
            let events = lane.parked.lock().unwrap_or_else(PoisonError::into_inner);
            let events = events.keys().filter(|parked| shown(parked) == key);
            let events: Vec<Text> = events.cloned().collect();
            let timers = lane.parked_timers.lock();
            let timers = timers.unwrap_or_else(PoisonError::into_inner);
            let timers = timers.iter().map(Firing::key).filter(|it| **it == *key);
            for parked in events.into_iter().chain(timers) {
                found |= lane.retry.send(parked).is_ok();
            }
        }
        found
    }
}

/// Between an entity and the strand of what is done for it, where the order is kept by strand. Ids
/// of entities hold spaces.
const STRAND: char = '\0';

/// A key as people see and say it.
fn shown(key: &str) -> String {
    key.replace(STRAND, " ")
}
