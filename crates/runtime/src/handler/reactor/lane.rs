//! One lane: the events of one partition, many entities at once, each in order.

mod firing;
mod stored;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use everfold_engine::engine::{Engine, Epoch, ReadError, ReadLimit, Revision};
use everfold_engine::map::{Map, seeded};
use everfold_engine::record::Kind;
use everfold_engine::slot::Partition;
use everfold_engine::{Offset, Record, Text, Timestamp};
use tokio::sync::mpsc;

use super::job::{Job, Reacted};
use super::timers::{Due, Firing, Timers};
use super::{LaneStatus, ParkedKey, STRAND};
use crate::event::DecodeError;
use crate::handler::{ByKind, Delivered, Fed, Feed, Ground, raised};
use crate::owner::guard;
use crate::reactor::{Cancelled, Reaction};

/// Entities of one partition worked on at once, besides those whose commands wait to be tried again.
const MOST_KEYS: usize = 1024;
/// Events between the checkpoint and the newest one read.
const MOST_OPEN: usize = 8192;
/// Pause between attempts to read.
const PAUSE: Duration = Duration::from_secs(1);
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

pub(super) type React =
    ByKind<Arc<dyn Fn(&Delivered) -> Result<Reaction, DecodeError> + Send + Sync>>;

/// An event in its entity's queue, and what follows from it.
struct Waiting {
    delivered: Arc<Delivered>,
    reacted: Reacted,
    /// Its commands may have been sent before.
    again: bool,
}

/// Work that has ended.
enum Finished {
    Event(Text, Arc<Record>, Result<(), String>),
    Timer(u64, Result<(), String>),
}

struct Lane {
    name: Text,
    partition: Partition,
    ground: Ground,
    react: Arc<React>,
    status: Arc<LaneStatus>,
    /// Read up to here.
    cursor: Offset,
    /// What was in the log when the lane began ends here: others may have sent its commands, and it
    /// may hold what cancels a timer.
    inherited: Offset,
    /// Events read and not all finished, ascending.
    open: VecDeque<(Offset, bool)>,
    /// Waiting events of entities that are worked on.
    keys: Map<Text, VecDeque<Waiting>>,
    timers: Timers,
    finished: mpsc::UnboundedSender<Finished>,
    revision: Revision,
    stored: Offset,
    parked_changed: bool,
    removed: Vec<Text>,
    /// What is stored is of another log and goes with the first change.
    obsolete: bool,
    /// The last attempt to store has failed; timers wait for the next.
    unstored: bool,
    /// The ownership that the lane has begun with. What is known holds for it alone: before the next
    /// one another node may have gone on.
    epoch: Option<Epoch>,
    outdated: bool,
}

pub(super) async fn run(
    name: Text,
    partition: Partition,
    ground: Ground,
    react: Arc<React>,
    status: Arc<LaneStatus>,
    mut retries: mpsc::UnboundedReceiver<Text>,
) {
    loop {
        let (name, ground, react) = (name.clone(), ground.clone(), react.clone());
        let ended = serve(name, partition, ground, react, status.clone(), &mut retries);
        if ended.await == Ended::Stopped {
            return;
        }
    }
}

#[derive(PartialEq, Eq)]
enum Ended {
    Stopped,
    /// The partition was claimed again.
    Outdated,
}

/// Runs under one ownership.
async fn serve(
    name: Text,
    partition: Partition,
    ground: Ground,
    react: Arc<React>,
    status: Arc<LaneStatus>,
    retries: &mut mpsc::UnboundedReceiver<Text>,
) -> Ended {
    let mut stop = ground.stop.clone();
    let (finished, mut finishes) = mpsc::unbounded_channel();
    let mut lane = Lane {
        name,
        partition,
        cursor: Offset(0),
        inherited: Offset(0),
        open: VecDeque::new(),
        keys: seeded(ground.world.random()),
        timers: Timers::new(ground.world.random()),
        finished,
        revision: Revision(0),
        stored: Offset(0),
        parked_changed: false,
        removed: Vec::new(),
        obsolete: false,
        unstored: false,
        epoch: None,
        outdated: false,
        ground: ground.clone(),
        react,
        status,
    };
    let loaded = async {
        ground.owned(partition).await;
        lane.epoch = ground.epoch(partition);
        while lane.load().await.is_err() {
            ground.world.sleep(PAUSE).await;
        }
    };
    tokio::select! { biased;
        () = raised(&mut stop) => return Ended::Stopped,
        () = loaded => {}
    }
    let Some(feed) = ground.feeds.get(partition.index()).cloned() else {
        return Ended::Stopped;
    };
    lane.send_fired();
    let mut tick = ground.world.sleep(CHECKPOINT_EVERY);
    let mut next = Box::pin(read(feed.clone(), lane.cursor, ground.clone()));
    let mut alarm = lane.alarm();
    loop {
        let room = lane.has_room();
        if lane.alarm_changed(&alarm) {
            alarm = lane.alarm();
        }
        tokio::select! { biased;
            () = raised(&mut stop) => break,
            Some(finished) = finishes.recv() => lane.finish(finished),
            Some(key) = retries.recv() => lane.retry(key).await,
            () = &mut tick => {
                lane.unstored = false;
                lane.store().await;
                tick = ground.world.sleep(CHECKPOINT_EVERY);
            }
            () = &mut alarm.rings => {
                lane.fire().await;
                alarm = lane.alarm();
            }
            fed = &mut next, if room => {
                for delivered in fed.after(lane.cursor) {
                    lane.take(delivered.clone());
                }
                lane.cursor = fed.next;
                lane.timers.take(fed.next);
                lane.advance();
                next = Box::pin(read(feed.clone(), lane.cursor, ground.clone()));
            }
        }
        if lane.outdated {
            return Ended::Outdated;
        }
        lane.publish();
    }
    // What was sent is known by its id; what is not finished is sent again after the next start.
    lane.store().await;
    Ended::Stopped
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
    /// What cannot be done for the moment must not keep what can be done waiting.
    fn has_room(&self) -> bool {
        let waiting = self.status.retrying.load(Ordering::Relaxed) as usize;
        self.open.len() < MOST_OPEN && self.keys.len() < MOST_KEYS + waiting
    }

    fn parked(&self) -> std::sync::MutexGuard<'_, BTreeMap<Text, ParkedKey>> {
        self.status
            .parked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event up: sets its timers; its commands are sent now, after those of its
    /// predecessors, or set aside with them.
    fn take(&mut self, delivered: Arc<Delivered>) {
        let record = delivered.record().clone();
        if record.kind != Kind::Event || !self.react.contains_key(&record.portable.entity.kind) {
            return;
        }
        let mut reacted = react_to(&self.react, &delivered);
        let offset = record.local.offset;
        let key = key_of(&record, &reacted);
        // Timers of what follows would take the place of those that are not known yet, or miss them.
        let parked = self
            .parked()
            .get(&key)
            .map(|parked| !parked.unset.is_empty());
        let unset = offset > self.timers.taken()
            && (parked.unwrap_or(false) || !self.set_timers(&record, &mut reacted));
        if offset <= self.timers.taken() {
            let world = &self.ground.world;
            world.reached("reactor: event read again, its timers are set");
        }
        if let Some(parked) = self.parked().get_mut(&key) {
            if !parked.offsets.contains(&offset.0) {
                let world = &self.ground.world;
                world.reached("reactor: event parked behind another one");
                parked.offsets.push(offset.0);
                parked.unset.extend(unset.then_some(offset.0));
            }
        } else {
            if is_nothing(&reacted) {
                return;
            }
            if let Some(reason) = failure(&reacted).filter(|_| unset) {
                self.park(&key, &record, reason, &[offset.0]);
                if let Some(parked) = self.parked().get_mut(&key) {
                    parked.unset.push(offset.0);
                }
                return;
            }
            self.open.push_back((offset, false));
            let waiting = Waiting {
                delivered,
                reacted,
                again: offset <= self.inherited,
            };
            match self.keys.get_mut(&key) {
                Some(queue) => queue.push_back(waiting),
                None => {
                    self.begin(&key, waiting);
                    self.keys.insert(key, VecDeque::new());
                }
            }
            return;
        }
        self.parked_changed = true;
    }

    /// Sets and cancels the timers that an event asks for; says whether it is known what it asks for.
    fn set_timers(&mut self, record: &Record, reacted: &mut Reacted) -> bool {
        let Ok(Ok(reaction)) = reacted else {
            return false;
        };
        if reaction.timers.is_empty() && reaction.cancelled.is_empty() && !reaction.unparks {
            return true;
        }
        let entity = Text::from(record.portable.entity.to_string());
        if reaction.unparks {
            let timers = self.timers.parked().filter(|it| it.entity == entity[..]);
            for key in timers.map(Firing::key).chain(self.parked_of(&entity)) {
                let _ = self.status.retry.send(key);
            }
        }
        for cancelled in reaction.cancelled.drain(..) {
            match cancelled {
                Cancelled::Named(name) => {
                    if self.timers.cancel(&entity, &name) {
                        self.ground.world.reached("timer: cancelled");
                    }
                }
                Cancelled::All => {
                    self.timers.cancel_all(&entity);
                    for key in self.parked_of(&entity) {
                        self.parked().remove(&key);
                        self.removed.push(key);
                        self.parked_changed = true;
                    }
                }
            }
        }
        let begin = self.ground.timers.moment(record);
        for (index, timer) in reaction.timers.drain(..).enumerate() {
            let after = i64::try_from(timer.after.as_micros()).unwrap_or(i64::MAX);
            let due = Due {
                at: Timestamp(begin.0.saturating_add(after)),
                offset: record.local.offset,
                index: index as u32,
            };
            self.timers.set(&entity, &timer.name, due);
        }
        true
    }

    /// The keys of what is parked of an entity.
    fn parked_of(&self, entity: &Text) -> Vec<Text> {
        let parked = self.parked();
        let keys = parked.iter().filter(|(_, it)| it.entity == entity[..]);
        keys.map(|(key, _)| key.clone()).collect()
    }

    fn job(&self, record: Arc<Record>, again: bool) -> Job {
        Job {
            name: self.name.clone(),
            partition: self.partition,
            ground: self.ground.clone(),
            status: self.status.clone(),
            record,
            timer: None,
            again,
        }
    }

    /// Starts to send the commands that follow from an event.
    fn begin(&self, key: &Text, waiting: Waiting) {
        let Waiting {
            delivered,
            reacted,
            again,
        } = waiting;
        let job = self.job(delivered.record().clone(), again);
        let react = self.react.clone();
        let (key, finished) = (key.clone(), self.finished.clone());
        let work = async move {
            let record = job.record.clone();
            let again = || react_to(&react, &delivered);
            let result = job.run(reacted, again).await;
            let _ = finished.send(Finished::Event(key, record, result));
        };
        self.ground.world.spawn("reaction", Box::pin(work));
    }

    fn finish(&mut self, finished: Finished) {
        match finished {
            Finished::Event(key, record, result) => self.finish_event(key, &record, result),
            Finished::Timer(number, result) => self.finish_timer(number, result),
        }
    }

    fn finish_event(&mut self, key: Text, record: &Record, result: Result<(), String>) {
        let offset = record.local.offset;
        let Some(mut queue) = self.keys.remove(&key) else {
            return;
        };
        if let Err(reason) = result {
            let behind = queue.drain(..).map(|next| next.delivered);
            let behind = behind.map(|next| next.record().local.offset.0);
            let offsets: Vec<u64> = [offset.0].into_iter().chain(behind).collect();
            self.park(&key, record, reason, &offsets);
            offsets
                .into_iter()
                .for_each(|offset| self.done(Offset(offset)));
        } else {
            self.succeed(&key, offset);
            self.work_on(key, queue);
        }
        self.advance();
    }

    /// Begins with the next event of an entity.
    fn work_on(&mut self, key: Text, mut queue: VecDeque<Waiting>) {
        while let Some(next) = queue.pop_front() {
            let offset = next.delivered.record().local.offset;
            if !is_nothing(&next.reacted) {
                self.begin(&key, next);
                self.keys.insert(key, queue);
                return;
            }
            self.succeed(&key, offset);
        }
        if self.parked().contains_key(&key) {
            // Events that came while the parked ones were tried again.
            let _ = self.status.retry.send(key);
        }
    }

    fn park(&mut self, key: &Text, record: &Record, reason: String, offsets: &[u64]) {
        self.ground.world.reached("reactor: event parked");
        let mut parked = self.parked();
        let entry = parked.entry(key.clone()).or_default();
        entry.entity = record.portable.entity.to_string();
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

    /// Tries an entity's parked events again. They stay parked until they are done, so that a crash
    /// in between forgets none.
    async fn retry(&mut self, key: Text) {
        if self.timers.retry(&key) {
            self.ground.world.reached("timer: parked one tried again");
            self.store().await;
        }
        if self.keys.contains_key(&key) {
            return;
        }
        let Some(parked) = self.parked().get(&key).cloned() else {
            return;
        };
        self.ground
            .world
            .reached("reactor: parked event tried again");
        let mut queue = VecDeque::new();
        let mut known = true;
        for offset in parked.offsets {
            let engine = self.ground.engine.clone();
            let found = record_at(engine.as_ref(), self.partition, Offset(offset)).await;
            let Ok(Some(record)) = found else {
                return;
            };
            let delivered = Arc::new(Delivered::new(record.clone()));
            let mut reacted = react_to(&self.react, &delivered);
            if parked.unset.contains(&offset) {
                known = known && self.set_timers(&record, &mut reacted);
                if known && let Some(parked) = self.parked().get_mut(&key) {
                    parked.unset.retain(|unset| *unset != offset);
                }
                self.parked_changed = true;
            }
            queue.push_back(Waiting {
                delivered,
                reacted,
                again: true,
            });
        }
        self.work_on(key, queue);
    }
}

/// The record of an offset; none if it was trimmed.
async fn record_at(
    engine: &dyn Engine,
    partition: Partition,
    offset: Offset,
) -> Result<Option<Arc<Record>>, ReadError> {
    let limit = ReadLimit {
        records: 1,
        bytes: 1,
    };
    let chunk = engine.read(partition, Offset(offset.0 - 1), limit).await?;
    let mut records = chunk.records.into_iter();
    Ok(records.find(|record| record.local.offset == offset))
}

/// What all subscriptions to the event's kind of entity ask for, in their order.
fn react_to(react: &React, delivered: &Delivered) -> Reacted {
    let entity = &delivered.record().portable.entity;
    guard(entity, || {
        let mut all = Reaction::default();
        for react in react.get(&entity.kind).into_iter().flatten() {
            let reaction = react(delivered)?;
            all.strand = reaction.strand.clone();
            all = all.then(reaction);
        }
        Ok(all)
    })
}

/// What the order is kept for.
fn key_of(record: &Record, reacted: &Reacted) -> Text {
    let entity = &record.portable.entity;
    match reacted {
        Ok(Ok(reaction)) if !reaction.strand.is_empty() => {
            format!("{entity}{STRAND}{}", reaction.strand).into()
        }
        _ => entity.to_string().into(),
    }
}

/// Why it is not known what follows from an event.
fn failure(reacted: &Reacted) -> Option<String> {
    match reacted {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

fn is_nothing(reacted: &Reacted) -> bool {
    matches!(reacted, Ok(Ok(reaction)) if reaction.outgoing.is_empty())
}
