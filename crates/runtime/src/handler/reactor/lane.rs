//! One lane: the events of one partition, many entities at once, each in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use everfold_engine::engine::{Area, Put, PutError, ReadError, ReadLimit, Revision};
use everfold_engine::map::{Map, seeded};
use everfold_engine::record::Kind;
use everfold_engine::slot::Partition;
use everfold_engine::{Bytes, Offset, Text};
use tokio::sync::mpsc;

use super::job::Job;
use super::{LaneStatus, ParkedKey};
use crate::event::DecodeError;
use crate::handler::{ByKind, Delivered, Fed, Feed, Ground, raised};
use crate::owner::guard;
use crate::reactor::Reaction;

/// Entities of one partition worked on at once.
const MOST_KEYS: usize = 256;
/// Events between the checkpoint and the newest one read.
const MOST_OPEN: usize = 8192;
/// Pause between attempts to read.
const PAUSE: Duration = Duration::from_secs(1);
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

pub(super) type React =
    ByKind<Arc<dyn Fn(&Delivered) -> Result<Reaction, DecodeError> + Send + Sync>>;

struct Lane {
    name: &'static str,
    partition: Partition,
    ground: Ground,
    react: Arc<React>,
    status: Arc<LaneStatus>,
    /// Read up to here.
    cursor: Offset,
    /// Events read and not all finished, ascending.
    open: VecDeque<(Offset, bool)>,
    /// Waiting events of entities that are worked on.
    keys: Map<Text, VecDeque<Arc<Delivered>>>,
    finished: mpsc::UnboundedSender<(Text, Offset, Result<(), String>)>,
    /// The lowest position that commands may be sent for again.
    settled: Arc<AtomicU64>,
    revision: Revision,
    stored: Offset,
    parked_changed: bool,
    removed: Vec<Text>,
}

pub(super) async fn run(
    name: &'static str,
    partition: Partition,
    ground: Ground,
    react: Arc<React>,
    status: Arc<LaneStatus>,
    mut retries: mpsc::UnboundedReceiver<Text>,
) {
    let mut stop = ground.stop.clone();
    let (finished, mut finishes) = mpsc::unbounded_channel();
    let mut lane = Lane {
        name,
        partition,
        cursor: Offset(0),
        open: VecDeque::new(),
        keys: seeded(ground.world.random()),
        finished,
        settled: status.settled.clone(),
        revision: Revision(0),
        stored: Offset(0),
        parked_changed: false,
        removed: Vec::new(),
        ground: ground.clone(),
        react,
        status,
    };
    let loaded = async {
        ground.owned(partition).await;
        while lane.load().await.is_err() {
            ground.world.sleep(PAUSE).await;
        }
    };
    tokio::select! { biased;
        () = raised(&mut stop) => return,
        () = loaded => {}
    }
    let Some(feed) = ground.feeds.get(partition.index()).cloned() else {
        return;
    };
    let mut tick = ground.world.sleep(CHECKPOINT_EVERY);
    let mut next = Box::pin(read(feed.clone(), lane.cursor, ground.clone()));
    loop {
        let room = lane.open.len() < MOST_OPEN && lane.keys.len() < MOST_KEYS;
        tokio::select! { biased;
            () = raised(&mut stop) => break,
            Some((key, offset, result)) = finishes.recv() => lane.finish(key, offset, result),
            Some(key) = retries.recv() => lane.retry(key).await,
            () = &mut tick => {
                lane.store().await;
                tick = ground.world.sleep(CHECKPOINT_EVERY);
            }
            fed = &mut next, if room => {
                for delivered in fed.after(lane.cursor) {
                    lane.take(delivered.clone());
                }
                lane.cursor = fed.next;
                lane.advance();
                next = Box::pin(read(feed.clone(), lane.cursor, ground.clone()));
            }
        }
    }
    // What was sent is known by its id; what is not finished is sent again after the next start.
    lane.store().await;
}

async fn read(feed: Arc<Feed>, cursor: Offset, ground: Ground) -> Arc<Fed> {
    loop {
        match feed.next(cursor).await {
            Ok(fed) => return fed,
            Err(_) => ground.world.sleep(PAUSE).await,
        }
    }
}

impl Lane {
    fn area(&self) -> Area {
        Area {
            name: format!("reactor/{}", self.name).into(),
            partition: self.partition,
        }
    }

    async fn load(&mut self) -> Result<(), ReadError> {
        let engine = self.ground.engine.clone();
        let area = self.area();
        self.revision = engine.revision(&area).await?;
        let checkpoint = engine.get(&area, b"c").await?;
        let stored =
            checkpoint.and_then(|bytes| Some(u64::from_le_bytes(bytes[..].try_into().ok()?)));
        // Ahead of the log: it was made from another one.
        let head = engine.safe_head(self.partition).await?;
        self.stored = stored
            .map(Offset)
            .filter(|stored| *stored <= head)
            .unwrap_or_default();
        self.cursor = self.stored;
        let mut last: Option<Bytes> = Some(Bytes::from_static(b"p"));
        while let Some(after) = last.take() {
            for (key, value) in engine.scan(&area, Some(&after), 1024).await? {
                let name = key
                    .strip_prefix(b"p")
                    .and_then(|name| std::str::from_utf8(name).ok());
                if let (Some(name), Ok(parked)) = (name, serde_json::from_slice(&value)) {
                    self.parked().insert(name.into(), parked);
                }
                last = Some(key);
            }
        }
        self.status.reached.send_replace(self.cursor);
        self.settle();
        Ok(())
    }

    fn parked(&self) -> std::sync::MutexGuard<'_, BTreeMap<Text, ParkedKey>> {
        self.status
            .parked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event up: to be worked on now, after its predecessors, or set aside with them.
    fn take(&mut self, delivered: Arc<Delivered>) {
        let record = delivered.record();
        let entity = &record.portable.entity;
        if record.kind != Kind::Event || !self.react.contains_key(&entity.kind) {
            return;
        }
        let key = Text::from(entity.to_string());
        let offset = record.local.offset;
        if let Some(parked) = self.parked().get_mut(&key) {
            if !parked.offsets.contains(&offset.0) {
                parked.offsets.push(offset.0);
            }
        } else {
            self.open.push_back((offset, false));
            match self.keys.get_mut(&key) {
                Some(waiting) => waiting.push_back(delivered),
                None => {
                    if self.begin(&key, delivered) {
                        self.keys.insert(key, VecDeque::new());
                    } else {
                        self.done(offset);
                    }
                }
            }
            return;
        }
        self.parked_changed = true;
    }

    /// Starts to work on an event; says whether there is anything to do.
    fn begin(&self, key: &Text, delivered: Arc<Delivered>) -> bool {
        let record = delivered.record().clone();
        let react = self.react.clone();
        let first = guard(&record.portable.entity, || react_to(&react, &delivered));
        if matches!(&first, Ok(Ok(reaction)) if reaction.outgoing.is_empty()) {
            return false;
        }
        let job = Job {
            name: self.name,
            partition: self.partition,
            ground: self.ground.clone(),
            status: self.status.clone(),
            settled: self.settled.clone(),
            record,
        };
        let (key, finished) = (key.clone(), self.finished.clone());
        let work = async move {
            let offset = job.record.local.offset;
            let again = || guard(&job.record.portable.entity, || react_to(&react, &delivered));
            let result = job.run(first, again).await;
            let _ = finished.send((key, offset, result));
        };
        self.ground.world.spawn("reaction", Box::pin(work));
        true
    }

    fn finish(&mut self, key: Text, offset: Offset, result: Result<(), String>) {
        let Some(mut waiting) = self.keys.remove(&key) else {
            return;
        };
        if let Err(reason) = result {
            let mut offsets = vec![offset.0];
            offsets.extend(
                waiting
                    .drain(..)
                    .map(|delivered| delivered.record().local.offset.0),
            );
            self.park(&key, reason, &offsets);
            offsets
                .into_iter()
                .for_each(|offset| self.done(Offset(offset)));
        } else {
            self.succeed(&key, offset);
            while let Some(next) = waiting.pop_front() {
                let offset = next.record().local.offset;
                if self.begin(&key, next) {
                    self.keys.insert(key, waiting);
                    self.advance();
                    return;
                }
                self.succeed(&key, offset);
            }
            if self.parked().contains_key(&key) {
                // Events that came while the parked ones were tried again.
                let _ = self.status.retry.send(key);
            }
        }
        self.advance();
    }

    fn park(&mut self, key: &Text, reason: String, offsets: &[u64]) {
        let mut parked = self.parked();
        let entry = parked.entry(key.clone()).or_insert_with(|| ParkedKey {
            reason: String::new(),
            offsets: Vec::new(),
        });
        entry.reason = reason;
        entry.offsets.extend_from_slice(offsets);
        entry.offsets.sort_unstable();
        entry.offsets.dedup();
        drop(parked);
        self.parked_changed = true;
    }

    fn succeed(&mut self, key: &Text, offset: Offset) {
        self.done(offset);
        let mut parked = self.parked();
        let Some(entry) = parked.get_mut(key) else {
            return;
        };
        entry.offsets.retain(|parked| *parked != offset.0);
        let empty = entry.offsets.is_empty();
        if empty {
            parked.remove(key);
        }
        drop(parked);
        if empty {
            self.removed.push(key.clone());
        }
        self.parked_changed = true;
    }

    fn done(&mut self, offset: Offset) {
        let place = self
            .open
            .binary_search_by_key(&offset, |(offset, _)| *offset);
        if let Ok(index) = place {
            self.open[index].1 = true;
        }
    }

    /// Moves the finished prefix on.
    fn advance(&mut self) {
        while self.open.front().is_some_and(|(_, done)| *done) {
            self.open.pop_front();
        }
        let reached = self
            .open
            .front()
            .map_or(self.cursor, |(offset, _)| Offset(offset.0 - 1));
        if reached > *self.status.reached.borrow() {
            self.status.reached.send_replace(reached);
        }
    }

    /// Commands for events up to here will never be sent again: the lower of the stored checkpoint
    /// and the oldest parked event.
    fn settle(&self) {
        let oldest = self
            .parked()
            .values()
            .flat_map(|parked| parked.offsets.first().copied())
            .min();
        let settled = oldest.map_or(self.stored.0, |oldest| self.stored.0.min(oldest - 1));
        self.settled.store(settled, Ordering::Relaxed);
    }

    async fn store(&mut self) {
        let reached = *self.status.reached.borrow();
        if reached == self.stored && !self.parked_changed {
            return;
        }
        let Some(epoch) = self.ground.epoch(self.partition) else {
            return;
        };
        let checkpoint = Bytes::copy_from_slice(&reached.0.to_le_bytes());
        let mut changes = vec![(Bytes::from_static(b"c"), Some(checkpoint))];
        let removed = std::mem::take(&mut self.removed);
        for key in &removed {
            changes.push((parked_key(key), None));
        }
        for (key, parked) in self.parked().iter() {
            if let Ok(value) = serde_json::to_vec(parked) {
                changes.push((parked_key(key), Some(value.into())));
            }
        }
        let put = Put {
            area: self.area(),
            epoch,
            incarnation: self.ground.engine.identity().incarnation,
            previous: self.revision,
            clear: false,
            changes,
        };
        match self.ground.engine.put(put).await {
            Ok(revision) => {
                self.revision = revision;
                self.stored = reached;
                self.parked_changed = false;
                self.settle();
            }
            // Tried again with the next tick.
            Err(PutError::Unavailable(_)) => {
                self.removed.extend(removed);
                self.parked_changed = true;
            }
            // Under our epoch only we can have written it: a put whose answer was lost.
            Err(PutError::Changed(revision)) => {
                self.revision = revision;
                self.removed.extend(removed);
                self.parked_changed = true;
            }
            // Somebody else owns the partition; this node's progress counts no more.
            Err(_) => {}
        }
    }

    /// Tries an entity's parked events again. They stay parked until they are done, so that a crash
    /// in between forgets none.
    async fn retry(&mut self, key: Text) {
        if self.keys.contains_key(&key) {
            return;
        }
        let Some(offsets) = self.parked().get(&key).map(|parked| parked.offsets.clone()) else {
            return;
        };
        let mut events = VecDeque::new();
        for offset in offsets {
            let limit = ReadLimit {
                records: 1,
                bytes: 1,
            };
            let read = self
                .ground
                .engine
                .read(self.partition, Offset(offset - 1), limit)
                .await;
            let found = read.ok().and_then(|chunk| {
                chunk
                    .records
                    .into_iter()
                    .find(|record| record.local.offset.0 == offset)
            });
            match found {
                Some(record) => events.push_back(Arc::new(Delivered::new(record))),
                None => return,
            }
        }
        while let Some(next) = events.pop_front() {
            let offset = next.record().local.offset;
            if self.begin(&key, next) {
                self.keys.insert(key, events);
                return;
            }
            self.succeed(&key, offset);
        }
    }
}

/// What all subscriptions to the event's kind of entity ask for, in their order.
fn react_to(react: &React, delivered: &Delivered) -> Result<Reaction, DecodeError> {
    let kind = &delivered.record().portable.entity.kind;
    let mut all = Reaction::default();
    for react in react.get(kind).into_iter().flatten() {
        all = all.then(react(delivered)?);
    }
    Ok(all)
}

fn parked_key(key: &Text) -> Bytes {
    [b"p", &key.as_bytes()[..]].concat().into()
}
