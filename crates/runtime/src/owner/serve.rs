//! The loop of an ownership: drain, decide, append, answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use everfold_engine::engine::{
    self, AppendError, BoxFuture, Claim, Engine, Epoch, Limits, OwnerError, ReadLimit, Refusal,
};
use everfold_engine::map::{Map, seeded};
use everfold_engine::record::{Dot, Kind, Link, Local, Portable, Record, Reply, Unit};
use everfold_engine::slot::Partition;
use everfold_engine::time::Stamp;
use everfold_engine::world::new_id;
use everfold_engine::{Bytes, EntityKey, Offset, Text, Timestamp, Uuid, World};
use tokio::sync::{mpsc, watch};

use super::Residents;
use super::batch::{Batch, Clock, Pending, Snapshot};
use super::known::{Entry, Known, Shelf};
use super::recover::{self, SNAPSHOT_EVERY, Tail};
use super::work::{Answer, Desk, Draft, Ruling, Work};
use crate::error::CommandError;
use crate::handler::raised;
use crate::owner::recover::{snapshot_area, snapshot_key};
use crate::schema::Registry;

/// Units decided into one batch at most.
const MOST_UNITS: usize = 1024;

/// How an owner is doing, for inspection.
#[derive(Debug, Default)]
pub(crate) struct OwnerStatus {
    pub(crate) epoch: AtomicU64,
    pub(crate) residents: AtomicU64,
    pub(crate) batches: AtomicU64,
}

/// Owns one partition for as long as the node runs.
pub(crate) struct Owner {
    pub(crate) partition: Partition,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) world: Arc<dyn World>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) inbox: mpsc::Receiver<Box<dyn Work>>,
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) ready: watch::Sender<Option<Result<Epoch, OwnerError>>>,
    pub(crate) status: Arc<OwnerStatus>,
}

/// How an ownership ended.
enum End {
    /// The node closes; everything was answered.
    Closed,
    /// Another owner has claimed the partition.
    Fenced,
    /// It is not known what the store holds; claiming again finds out.
    Unknown,
}

impl Owner {
    /// Claims and serves until the node closes.
    pub(crate) async fn run(mut self) {
        loop {
            let claimed = self.take_over().await;
            let ended = match claimed {
                Ok((claim, tail)) => {
                    self.status.epoch.store(claim.epoch.0, Ordering::Relaxed);
                    self.ready.send_replace(Some(Ok(claim.epoch)));
                    self.serve(claim, tail).await
                }
                Err(error) => {
                    let lasting =
                        matches!(error, OwnerError::Stopped(_) | OwnerError::NoPartition(_));
                    self.ready.send_replace(Some(Err(error.clone())));
                    let reason = error.to_string();
                    let partition = self.partition;
                    let failure = || CommandError::Unavailable {
                        partition,
                        reason: reason.clone(),
                    };
                    self.turn_away(failure, (!lasting).then_some(Duration::from_millis(250)))
                        .await
                }
            };
            match ended {
                Some(End::Closed) => return,
                Some(End::Fenced) => {
                    let partition = self.partition;
                    let error = OwnerError::Fenced {
                        partition,
                        current: None,
                    };
                    self.ready.send_replace(Some(Err(error)));
                    self.turn_away(|| CommandError::Fenced(partition), None)
                        .await;
                    return;
                }
                Some(End::Unknown) | None => {}
            }
        }
    }

    async fn take_over(&self) -> Result<(Claim, Tail), OwnerError> {
        let claim = self.engine.claim(self.partition).await?;
        let engine = self.engine.as_ref();
        let mut tail =
            Tail::read(engine, self.world.as_ref(), self.partition, claim.safe_head).await?;
        tail.clock.stamp = tail.clock.stamp.max(claim.floor);
        Ok((claim, tail))
    }

    /// Answers everything with an error, for a while or until the node closes.
    async fn turn_away(
        &mut self,
        error: impl Fn() -> CommandError,
        pause: Option<Duration>,
    ) -> Option<End> {
        let over: BoxFuture<'_, ()> = match pause {
            Some(pause) => self.world.sleep(pause),
            None => Box::pin(std::future::pending()),
        };
        let mut over = over;
        loop {
            tokio::select! { biased;
                work = self.inbox.recv() => match work {
                    Some(work) => work.answer(Answer::Failed(error())),
                    None => return Some(End::Closed),
                },
                () = raised(&mut self.closing) => self.inbox.close(),
                () = &mut over => return None,
            }
        }
    }

    async fn serve(&mut self, claim: Claim, tail: Tail) -> Option<End> {
        let mut serving = Serving {
            partition: self.partition,
            engine: self.engine.clone(),
            world: self.world.clone(),
            registry: self.registry.clone(),
            status: self.status.clone(),
            limits: self.engine.limits(),
            epoch: claim.epoch,
            chained: self.engine.identity().chained,
            clock: tail.clock,
            known: tail.known,
            residents: Residents::new(self.world.random()),
            watchers: seeded(self.world.random()),
            durable: tail.head.max(claim.safe_head),
            durable_batch: 0,
            queue: VecDeque::new(),
            open: Batch::new(1, tail.clock),
            flight: None,
            most_units: MOST_UNITS,
            full: false,
            halted: false,
            snapshots: None,
        };
        let end = serving.run(&mut self.inbox, &mut self.closing).await;
        if matches!(end, End::Closed) {
            let _ = self.engine.release(self.partition, claim.epoch).await;
        }
        Some(end)
    }
}

type Flight = BoxFuture<'static, Result<Option<engine::Appended>, AppendError>>;

/// One ownership.
struct Serving {
    partition: Partition,
    engine: Arc<dyn Engine>,
    world: Arc<dyn World>,
    registry: Arc<Registry>,
    status: Arc<OwnerStatus>,
    limits: Limits,
    epoch: Epoch,
    chained: bool,
    clock: Clock,
    known: Known,
    residents: Residents,
    /// Work that waits for an entity to change.
    watchers: Map<EntityKey, Vec<Box<dyn Work>>>,
    /// Everything up to here is durable, and so is every batch up to `durable_batch`.
    durable: Offset,
    durable_batch: u64,
    /// Drained, not yet decided.
    queue: VecDeque<Box<dyn Work>>,
    /// Decided, not yet on its way.
    open: Batch,
    /// On its way.
    flight: Option<(Batch, Flight)>,
    /// Shrinks while the engine refuses batches, to find the unit at fault.
    most_units: usize,
    /// The next unit does not fit the open batch.
    full: bool,
    /// Nothing may be decided before the batch on its way has landed.
    halted: bool,
    snapshots: Option<mpsc::UnboundedSender<Snapshot>>,
}

impl Serving {
    async fn run(
        &mut self,
        inbox: &mut mpsc::Receiver<Box<dyn Work>>,
        closing: &mut watch::Receiver<bool>,
    ) -> End {
        let mut drained = Vec::with_capacity(MOST_UNITS);
        let mut closed = false;
        let mut closing_seen = false;
        loop {
            if self.flight.is_none() && !self.open.is_empty() {
                self.launch();
            }
            if !self.queue.is_empty() && self.has_room() {
                self.decide_queue().await;
                continue;
            }
            if closed && self.flight.is_none() && self.queue.is_empty() {
                return self.finish();
            }
            let room = MOST_UNITS.saturating_sub(self.queue.len());
            tokio::select! { biased;
                result = landing(&mut self.flight) => {
                    if let Some(end) = self.landed(result).await {
                        return end;
                    }
                }
                count = inbox.recv_many(&mut drained, room), if room > 0 && !closed => {
                    closed = count == 0;
                    self.queue.extend(drained.drain(..));
                }
                () = raised(closing), if !closing_seen => {
                    closing_seen = true;
                    inbox.close();
                }
            }
        }
    }

    fn has_room(&self) -> bool {
        !self.full && !self.halted && self.open.pending.len() < self.most_units
    }

    /// Nothing more will come: whoever still waits for a change waits in vain.
    fn finish(&mut self) -> End {
        for work in self.watchers.drain().flat_map(|(_, work)| work) {
            work.answer(Answer::Failed(CommandError::Closed));
        }
        End::Closed
    }

    async fn decide_queue(&mut self) {
        let now = self.world.now();
        self.known.expire(now);
        while self.has_room()
            && let Some(work) = self.queue.pop_front()
        {
            if let Err(work) = self.decide(work, now).await {
                self.queue.push_front(work);
                self.full = true;
                return;
            }
        }
    }

    /// Decides one piece of work into the open batch; gives it back if it does not fit.
    async fn decide(&mut self, work: Box<dyn Work>, now: Timestamp) -> Result<(), Box<dyn Work>> {
        if work.is_abandoned() {
            return Ok(());
        }
        let id = match self.recognise(&*work, now) {
            Ok(Recognised::New(id)) => id,
            Ok(Recognised::InFlight(id)) => {
                let flight = self.flight.as_mut().and_then(|(batch, _)| batch.find(id));
                if let Some(original) = flight.or_else(|| self.open.find(id)) {
                    original.repeats.push(work);
                } else {
                    work.answer(Answer::Failed(CommandError::Unknown(
                        "it is being decided".into(),
                    )));
                }
                return Ok(());
            }
            Ok(Recognised::Done(offset)) => {
                self.repeat(work, offset);
                return Ok(());
            }
            Err(error) => {
                work.answer(Answer::Failed(error));
                return Ok(());
            }
        };
        if let Err(error) = self.bring_in(work.entities()).await {
            work.answer(Answer::Failed(error));
            return Ok(());
        }
        self.rule(work, id, now)
    }

    fn recognise(&self, work: &dyn Work, now: Timestamp) -> Result<Recognised, CommandError> {
        let Some(id) = work.envelope().id else {
            return Ok(Recognised::New(None));
        };
        let shelf = Known::shelf(id, work.envelope(), now)?;
        let digest = work.digest()?;
        match self.known.get(&shelf, id) {
            None => Ok(Recognised::New(Some(Identified { id, shelf, digest }))),
            Some(entry) if entry.digest != digest as u64 => Err(CommandError::IdReused(id)),
            Some(Entry {
                offset: Offset(0), ..
            }) => Ok(Recognised::InFlight(id)),
            Some(entry) => Ok(Recognised::Done(entry.offset)),
        }
    }

    /// Gives the answer that the command was given before. It is fixed, so it needs no fence.
    fn repeat(&self, work: Box<dyn Work>, offset: Offset) {
        let (engine, partition) = (self.engine.clone(), self.partition);
        let answer = async move {
            let limit = ReadLimit {
                records: 1,
                bytes: 1,
            };
            let read = engine.read(partition, Offset(offset.0 - 1), limit).await;
            let record = read.map(|chunk| {
                chunk
                    .records
                    .into_iter()
                    .find(|record| record.local.offset == offset)
            });
            let reply = record.map(|record| record.and_then(|record| record.local.reply.clone()));
            work.answer(match reply {
                Ok(Some(reply)) => Answer::Again(reply, offset),
                Ok(None) => Answer::Failed(CommandError::Unknown("its record is gone".into())),
                Err(error) => Answer::Failed(CommandError::Unknown(error.to_string())),
            });
        };
        self.world.spawn("repeat an answer", Box::pin(answer));
    }

    async fn bring_in(&mut self, entities: &[EntityKey]) -> Result<(), CommandError> {
        for entity in entities {
            if !self.residents.contains(entity) {
                let kind = self.registry.of(entity);
                let engine = self.engine.as_ref();
                let resident = recover::load(engine, kind, entity, u64::MAX).await?;
                self.residents.insert(entity.clone(), resident);
            }
        }
        Ok(())
    }

    fn rule(
        &mut self,
        mut work: Box<dyn Work>,
        id: Option<Identified>,
        now: Timestamp,
    ) -> Result<(), Box<dyn Work>> {
        let desk = Desk {
            residents: &self.residents,
            now,
            seed: new_id(self.world.as_ref()),
        };
        match work.decide(&desk) {
            Ok(Ruling::Decided {
                drafts,
                rejected,
                reply,
            }) => self.take_unit(work, id, drafts, rejected, reply, now),
            Ok(Ruling::Read { fenced }) => {
                self.take_read(work, fenced);
                Ok(())
            }
            Ok(Ruling::Wait) => {
                if let Some(entity) = work.entities().first().cloned() {
                    let watchers = self.watchers.entry(entity).or_default();
                    watchers.retain(|work| !work.is_abandoned());
                    watchers.push(work);
                }
                Ok(())
            }
            Err(error) => {
                work.answer(Answer::Failed(error));
                Ok(())
            }
        }
    }

    fn take_read(&mut self, work: Box<dyn Work>, fenced: bool) {
        let touched = work
            .entities()
            .iter()
            .filter_map(|entity| self.residents.get(entity).ok())
            .map(|resident| resident.touched)
            .max();
        if !fenced && touched.unwrap_or(0) <= self.durable_batch {
            work.answer(Answer::Durable(self.durable));
        } else {
            self.open.fenced |= fenced;
            self.push(work, None);
        }
    }

    fn push(&mut self, work: Box<dyn Work>, id: Option<(Uuid, Shelf)>) {
        let records_end = self.open.records.len();
        self.open.pending.push(Pending {
            work,
            records_end,
            id,
            repeats: Vec::new(),
        });
    }

    fn take_unit(
        &mut self,
        mut work: Box<dyn Work>,
        id: Option<Identified>,
        drafts: Vec<Draft>,
        rejected: bool,
        reply: Option<Bytes>,
        now: Timestamp,
    ) -> Result<(), Box<dyn Work>> {
        let bytes: usize = drafts.iter().map(Draft::bytes).sum();
        if let Err(error) = self.check_limits(&drafts, bytes) {
            work.answer(Answer::Failed(error));
            return Ok(());
        }
        let records = self.open.records.len() + drafts.len().max(1);
        let over = self.open.bytes + bytes > self.limits.batch_bytes;
        if !self.open.records.is_empty() && (over || records > self.limits.batch_records) {
            return Err(work);
        }
        if let Err(error) = work.evolve(&mut self.residents) {
            self.undo(work.entities());
            work.answer(Answer::Failed(error));
            return Ok(());
        }
        let answer = id.as_ref().zip(reply).map(|(id, body)| Reply {
            command_digest: id.digest,
            rejected,
            body,
            source: work.envelope().source.clone(),
        });
        if drafts.is_empty() && answer.is_none() {
            self.open.fenced = true;
        }
        let changed: Vec<EntityKey> = distinct(&drafts);
        self.write(work.as_ref(), drafts, answer, now);
        self.open.bytes += bytes;
        let id = id.map(|id| {
            let entry = Entry {
                digest: id.digest as u64,
                offset: Offset(0),
            };
            self.known.insert(&id.shelf, id.id, entry);
            if let Some(source) = &work.envelope().source {
                self.known
                    .settle(&source.handler, source.partition, source.settled);
            }
            (id.id, id.shelf)
        });
        self.push(work, id);
        for entity in changed {
            self.wake_watchers(&entity, now);
            self.open.touched.push(entity);
        }
        Ok(())
    }

    fn check_limits(&self, drafts: &[Draft], bytes: usize) -> Result<(), CommandError> {
        let limits = self.limits;
        let too_large = |what: &str, size: usize, limit: usize| {
            Err(CommandError::TooLarge(format!(
                "{what} of {size} bytes, the limit is {limit}"
            )))
        };
        if let Some(event) = drafts
            .iter()
            .find(|draft| draft.bytes() > limits.event_bytes)
        {
            too_large("an event", event.bytes(), limits.event_bytes)
        } else if bytes > limits.unit_bytes {
            too_large("events", bytes, limits.unit_bytes)
        } else if drafts.len() > limits.batch_records {
            let (count, limit) = (drafts.len(), limits.batch_records);
            Err(CommandError::TooLarge(format!(
                "{count} events, the limit is {limit}"
            )))
        } else {
            Ok(())
        }
    }

    /// Turns the events of a unit into records of the open batch; one outcome record if there are
    /// none but the answer is to be remembered.
    fn write(
        &mut self,
        work: &dyn Work,
        drafts: Vec<Draft>,
        mut answer: Option<Reply>,
        now: Timestamp,
    ) {
        let envelope = work.envelope();
        let count = drafts.len() as u32;
        for (index, draft) in drafts.into_iter().enumerate() {
            let number = self.open.number;
            let version = match self.residents.get_mut(&draft.entity) {
                Ok(resident) => {
                    resident.version += 1;
                    resident.touched = number;
                    if resident.version.is_multiple_of(SNAPSHOT_EVERY)
                        && index as u32 + 1 == count
                        && let Some(value) = recover::encode_snapshot(resident)
                    {
                        let entity = draft.entity.clone();
                        self.open.snapshots.push(Snapshot { entity, value });
                    }
                    resident.version
                }
                Err(_) => 0,
            };
            let event_id = draft
                .event_id
                .unwrap_or_else(|| new_id(self.world.as_ref()));
            let unit = Unit {
                index: index as u32,
                count,
            };
            let portable = Portable {
                event_id,
                entity: draft.entity,
                event_type: draft.event_type,
                schema_version: draft.schema_version,
                labels: draft.labels,
                content_type: draft.content_type,
                metadata: draft.metadata,
                payload: draft.payload,
                unit,
                ..self.portable_of(envelope, now)
            };
            let reply = if unit.is_last() { answer.take() } else { None };
            self.append_record(Kind::Event, portable, version, reply, envelope, now);
        }
        if count == 0
            && let Some(reply) = answer
        {
            let entity = work.entities().first().cloned();
            let portable = Portable {
                entity: entity.unwrap_or_else(|| EntityKey::new("", "")),
                payload: Bytes::new(),
                ..self.portable_of(envelope, now)
            };
            self.append_record(Kind::Outcome, portable, 0, Some(reply), envelope, now);
        }
    }

    fn portable_of(&self, envelope: &super::Envelope, now: Timestamp) -> Portable {
        let recorded = Stamp::next(self.clock.stamp.max(envelope.after.0), now, self.partition);
        Portable {
            causes: envelope.causes.clone(),
            effective: envelope.effective.unwrap_or(recorded.time()),
            causation: envelope.causation.or(envelope.id),
            correlation: envelope.correlation.or(envelope.id),
            command: envelope.id,
            hops: envelope.hops,
            principal: envelope.principal.clone(),
            trace: envelope.trace.clone(),
            ..Portable::new(EntityKey::new("", ""), Text::new())
        }
    }

    fn append_record(
        &mut self,
        kind: Kind,
        mut portable: Portable,
        version: u64,
        reply: Option<Reply>,
        envelope: &super::Envelope,
        now: Timestamp,
    ) {
        let clock = &mut self.clock;
        clock.stamp = Stamp::next(clock.stamp.max(envelope.after.0), now, self.partition);
        clock.hybrid = clock.hybrid.max(envelope.after.1).next(now);
        portable.hybrid = clock.hybrid;
        if kind == Kind::Event {
            clock.counter += 1;
            let origin = self.engine.identity().origin();
            portable.dot = Some(Dot {
                origin,
                partition: self.partition,
                counter: clock.counter,
            });
        }
        let local = Local {
            offset: Offset(0),
            version,
            epoch: self.epoch.0,
            batch: self.open.number,
            stamp: clock.stamp,
            reply,
            link: Link::default(),
        };
        let mut record = Record {
            kind,
            portable,
            local,
        };
        if self.chained {
            clock.link = record.link_after(clock.link);
            record.local.link = clock.link;
        }
        self.open.records.push(record);
    }

    fn wake_watchers(&mut self, entity: &EntityKey, now: Timestamp) {
        let Some(watchers) = self.watchers.remove(entity) else {
            return;
        };
        for work in watchers {
            if !work.is_abandoned() {
                // A read never lacks room.
                let _ = self.rule(work, None, now);
            }
        }
    }

    fn launch(&mut self) {
        self.full = false;
        let next = Batch::new(self.open.number + 1, self.clock);
        let mut batch = std::mem::replace(&mut self.open, next);
        let (engine, partition, epoch) = (self.engine.clone(), self.partition, self.epoch);
        let records = std::mem::take(&mut batch.records);
        let (number, fenced) = (batch.number, batch.fenced);
        let flight: Flight = Box::pin(async move {
            if !records.is_empty() {
                let batch = engine::Batch {
                    id: number,
                    records,
                };
                engine.append(partition, epoch, batch).await.map(Some)
            } else if fenced {
                engine
                    .confirm(partition, epoch)
                    .await
                    .map(|()| None)
                    .map_err(|error| match error {
                        OwnerError::Fenced { .. } => AppendError::Fenced(partition),
                        other => AppendError::Unknown(other.to_string()),
                    })
            } else {
                Ok(None)
            }
        });
        self.flight = Some((batch, flight));
    }

    async fn landed(
        &mut self,
        (batch, result): (Batch, Result<Option<engine::Appended>, AppendError>),
    ) -> Option<End> {
        self.halted = false;
        match result {
            Ok(appended) => {
                self.durable(batch, appended);
                None
            }
            Err(AppendError::Refused(refusal)) => {
                self.refused(batch, refusal);
                None
            }
            Err(AppendError::Fenced(partition)) => {
                self.lost(batch, |_| CommandError::Fenced(partition));
                Some(End::Fenced)
            }
            Err(error) => {
                let reason = error.to_string();
                let partition = self.partition;
                self.lost(batch, |in_flight| {
                    if in_flight {
                        CommandError::Unknown(reason.clone())
                    } else {
                        CommandError::Unavailable {
                            partition,
                            reason: reason.clone(),
                        }
                    }
                });
                Some(End::Unknown)
            }
        }
    }

    /// Everything of the batch is durable: only now may anybody hear of it.
    fn durable(&mut self, batch: Batch, appended: Option<engine::Appended>) {
        let before = self.durable;
        if let Some(appended) = appended {
            self.durable = appended.last;
        }
        self.durable_batch = batch.number;
        self.most_units = (self.most_units * 2).min(MOST_UNITS);
        self.status.batches.fetch_add(1, Ordering::Relaxed);
        self.status
            .residents
            .store(self.residents.len() as u64, Ordering::Relaxed);
        for pending in batch.pending {
            let offset = match (appended, pending.records_end) {
                (Some(appended), end) if end > 0 => Offset(appended.first.0 + end as u64 - 1),
                _ => before,
            };
            if let Some((id, shelf)) = &pending.id
                && let Some(entry) = self.known.get(shelf, *id)
            {
                self.known.insert(shelf, *id, Entry { offset, ..entry });
            }
            pending.work.answer(Answer::Durable(offset));
            pending
                .repeats
                .into_iter()
                .for_each(|work| self.repeat(work, offset));
        }
        for snapshot in batch.snapshots {
            self.store(snapshot);
        }
    }

    /// Nothing of the batch exists, nor of what was decided after it. Drops all of it and decides
    /// the commands again in order; no answer has left.
    fn refused(&mut self, batch: Batch, refusal: Refusal) {
        let units = batch.pending.len();
        self.flight = None;
        if refusal.is_of_store() || units <= 1 {
            let partition = self.partition;
            let mut failed = self.drop_batch(batch);
            let later = self.undo_open();
            for work in failed.drain(..) {
                let reason = refusal.to_string();
                work.answer(Answer::Failed(if refusal.is_of_store() {
                    CommandError::Unavailable { partition, reason }
                } else {
                    CommandError::TooLarge(reason)
                }));
            }
            self.requeue(later);
        } else {
            self.most_units = (units / 2).max(1);
            let mut again = self.drop_batch(batch);
            again.extend(self.undo_open());
            self.requeue(again);
        }
    }

    /// A fault in application code has left states half changed: drops them with everything that
    /// was decided since the last launch, to be decided again.
    fn undo(&mut self, entities: &[EntityKey]) {
        let later = self.undo_open();
        entities
            .iter()
            .for_each(|entity| self.residents.remove(entity));
        // What is dropped may also have changed in the batch on its way, which the log does not
        // show yet: nothing can be loaded before it has landed.
        self.halted = self.flight.is_some();
        self.requeue(later);
    }

    fn undo_open(&mut self) -> Vec<Box<dyn Work>> {
        let number = self.open.number;
        let open = std::mem::replace(&mut self.open, Batch::new(number, self.clock));
        let work = self.drop_batch(open);
        self.open.before = self.clock;
        work
    }

    /// Forgets what a batch has changed, and gives its work back.
    fn drop_batch(&mut self, batch: Batch) -> Vec<Box<dyn Work>> {
        self.clock = earlier(self.clock, batch.before);
        for entity in &batch.touched {
            self.residents.remove(entity);
        }
        for (id, shelf) in batch
            .pending
            .iter()
            .filter_map(|pending| pending.id.as_ref())
        {
            self.known.remove(shelf, *id);
        }
        batch.into_work().collect()
    }

    fn requeue(&mut self, work: Vec<Box<dyn Work>>) {
        for work in work.into_iter().rev() {
            self.queue.push_front(work);
        }
    }

    /// This ownership is over: fails all that is not durable.
    fn lost(&mut self, batch: Batch, error: impl Fn(bool) -> CommandError) {
        self.flight = None;
        for work in batch.into_work() {
            work.answer(Answer::Failed(error(true)));
        }
        let open = std::mem::replace(&mut self.open, Batch::new(0, self.clock));
        let waiting = self.watchers.drain().flat_map(|(_, work)| work);
        for work in open.into_work().chain(self.queue.drain(..)).chain(waiting) {
            work.answer(Answer::Failed(error(false)));
        }
    }

    /// Hands a snapshot to the task that stores them one after the other.
    fn store(&mut self, snapshot: Snapshot) {
        let sender = self.snapshots.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let task = store_snapshots(self.engine.clone(), self.partition, self.epoch, receiver);
            self.world.spawn("store snapshots", Box::pin(task));
            sender
        });
        // If the task has ended the snapshot is lost, and the history is longer to read.
        let _ = sender.send(snapshot);
    }
}

struct Identified {
    id: Uuid,
    shelf: Shelf,
    digest: u128,
}

enum Recognised {
    New(Option<Identified>),
    InFlight(Uuid),
    Done(Offset),
}

async fn landing(
    flight: &mut Option<(Batch, Flight)>,
) -> (Batch, Result<Option<engine::Appended>, AppendError>) {
    let result = match flight {
        Some((_, landing)) => landing.await,
        None => std::future::pending().await,
    };
    match flight.take() {
        Some((batch, _)) => (batch, result),
        None => std::future::pending().await,
    }
}

async fn store_snapshots(
    engine: Arc<dyn Engine>,
    partition: Partition,
    epoch: Epoch,
    mut snapshots: mpsc::UnboundedReceiver<Snapshot>,
) {
    let area = snapshot_area(partition);
    let Ok(mut previous) = engine.revision(&area).await else {
        return;
    };
    let mut waiting = Vec::new();
    while snapshots.recv_many(&mut waiting, 256).await > 0 {
        let changes = waiting.drain(..).map(|snapshot: Snapshot| {
            (
                Bytes::from(snapshot_key(&snapshot.entity)),
                Some(Bytes::from(snapshot.value)),
            )
        });
        let put = engine::Put {
            area: area.clone(),
            epoch,
            incarnation: engine.identity().incarnation,
            previous,
            clear: false,
            changes: changes.collect(),
        };
        match engine.put(put).await {
            Ok(revision) => previous = revision,
            Err(engine::PutError::Unavailable(_)) => {}
            Err(_) => return,
        }
    }
}

fn earlier(a: Clock, b: Clock) -> Clock {
    if b.stamp <= a.stamp { b } else { a }
}

fn distinct(drafts: &[Draft]) -> Vec<EntityKey> {
    let mut entities: Vec<EntityKey> = Vec::with_capacity(1);
    for draft in drafts {
        if !entities.contains(&draft.entity) {
            entities.push(draft.entity.clone());
        }
    }
    entities
}
