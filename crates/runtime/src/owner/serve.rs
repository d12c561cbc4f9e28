//! The loop of an ownership: drain, decide, append, answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use everfold_engine::engine::{
    self, AppendError, BoxFuture, Engine, Epoch, Limits, OwnerError, ReadLimit,
};
use everfold_engine::map::Map;
use everfold_engine::slot::Partition;
use everfold_engine::world::new_id;
use everfold_engine::{EntityKey, Offset, Text, Timestamp, Uuid, World};
use tokio::sync::{mpsc, oneshot, watch};

use super::Residents;
use super::batch::{Batch, Clock, Pending};
use super::keeper::Keeper;
use super::known::{Entry, Known, Shelf};
use super::ownership::OwnerStatus;
use super::partition_state::PartitionState;
use super::recover::Tail;
use super::residents::Resident;
use super::router::Router;
use super::standby::Standby;
use super::work::{Answer, Desk, Heard, Ruling, Work};
use crate::error::CommandError;
use crate::handler::raised;
use crate::options::StateOptions;
use crate::remote::Duty;
use crate::schema::Registry;

/// Units decided into one batch at most.
pub(super) const MOST_UNITS: usize = 1024;
/// Fewer watched entities than this are not worth a look for abandoned watchers.
pub(super) const LEAST_SWEPT: usize = 256;

/// How an ownership ended.
pub(super) enum End {
    /// The node closes; everything was answered.
    Closed,
    /// Another node is to own it; nothing is in flight, and what waits was passed on.
    Moved,
    /// Another owner has claimed the partition.
    Fenced,
    /// It is not known what the store holds; claiming again finds out.
    Unknown,
}

type Flight = BoxFuture<'static, Result<Option<engine::Appended>, AppendError>>;

/// One ownership.
pub(super) struct Serving {
    pub(super) partition: Partition,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) world: Arc<dyn World>,
    pub(super) registry: Arc<Registry>,
    pub(super) status: Arc<OwnerStatus>,
    pub(super) limits: Limits,
    pub(super) epoch: Epoch,
    pub(super) chained: bool,
    pub(super) clock: Clock,
    pub(super) known: Known,
    pub(super) residents: Residents,
    /// Work that waits for an entity to change.
    pub(super) watchers: Map<EntityKey, Vec<Box<dyn Work>>>,
    /// Everything up to here is durable, and so is every batch up to `durable_batch`.
    pub(super) durable: Offset,
    pub(super) durable_batch: u64,
    /// Drained, not yet decided.
    pub(super) queue: VecDeque<Box<dyn Work>>,
    /// Decided, not yet on its way.
    pub(super) open: Batch,
    /// On its way.
    pub(super) flight: Option<(Batch, Flight)>,
    /// Shrinks while the engine refuses batches, to find the unit at fault.
    pub(super) most_units: usize,
    /// Nothing more may join the open batch: the next unit does not fit, or what is there has
    /// statements and goes alone.
    pub(super) full: bool,
    /// Nothing may be decided before the batch on its way has landed.
    pub(super) halted: bool,
    /// With so many watched entities it is time to forget abandoned watchers.
    pub(super) sweep_at: usize,
    /// Nobody could leave memory though it is over its budget.
    pub(super) cramped: bool,
    pub(super) options: StateOptions,
    /// What is stored of the partition; none where nothing is.
    pub(super) state: Option<PartitionState>,
    /// What is stored of the partition, while it is read beside the serving: `state` has begun where
    /// it ends.
    pub(super) stored: Option<oneshot::Receiver<Option<PartitionState>>>,
    /// The task that stores state, once there is something to store.
    pub(super) keeper: Option<Keeper>,
    pub(super) router: Router,
    /// When it was last noted who is in memory.
    pub(super) noted_at: Duration,
}

impl Serving {
    pub(super) async fn run(
        &mut self,
        inbox: &mut mpsc::Receiver<Box<dyn Work>>,
        closing: &mut watch::Receiver<bool>,
    ) -> End {
        let mut drained = Vec::with_capacity(MOST_UNITS);
        let mut closed = false;
        let mut moved = false;
        let mut moves = std::pin::pin!(self.moves());
        let mut closing_seen = false;
        loop {
            if self.flight.is_none() && !self.open.is_empty() {
                self.launch();
            }
            if !self.queue.is_empty() && self.has_room() {
                self.decide_queue().await;
                continue;
            }
            if (closed || moved) && self.flight.is_none() && self.queue.is_empty() {
                return if moved { self.leave() } else { self.finish() };
            }
            let room = MOST_UNITS.saturating_sub(self.queue.len());
            tokio::select! { biased;
                result = landing(&mut self.flight) => {
                    if let Some(backlog) = self.router.backlog(self.partition) {
                        backlog.landed(self.world.elapsed());
                    }
                    if let Some(end) = self.landed(result) {
                        return end;
                    }
                }
                count = inbox.recv_many(&mut drained, room), if room > 0 && !closed && !moved => {
                    closed = count == 0;
                    self.queue.extend(drained.drain(..));
                }
                () = &mut moves, if !moved => moved = true,
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

    /// Completes when the partition is to be another node's.
    fn moves(&self) -> BoxFuture<'static, ()> {
        let (remote, partition) = (self.router.remote().cloned(), self.partition);
        Box::pin(async move {
            match remote {
                Some(remote) => remote.membership.duty_changes(partition, Duty::Own).await,
                None => std::future::pending().await,
            }
        })
    }

    /// Everything is answered: whoever still waits for a change waits at the next owner's.
    fn leave(&mut self) -> End {
        let waiting: Vec<_> = self.watchers.drain().flat_map(|(_, work)| work).collect();
        for work in waiting {
            if let Some(work) = self.router.pass_on(self.partition, work) {
                work.answer(Answer::Failed(CommandError::Closed));
            }
        }
        End::Moved
    }

    /// What a standby keeps, when nothing is in flight.
    pub(super) fn into_standby(self) -> Standby {
        Standby {
            tail: Tail {
                clock: self.clock,
                known: self.known,
                head: self.durable,
                state: None,
                folded: 0,
                foreign: false,
            },
            residents: self.residents,
            batches: self.open.number,
        }
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
            self.make_room();
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
                self.world
                    .reached("owner: repeated command waits for its original");
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
                self.world
                    .reached("owner: repeated command answered from the table");
                self.repeat(work, offset);
                return Ok(());
            }
            Err(error) => {
                self.world.reached(match error {
                    CommandError::Settled(_) => "owner: settled command of a handler refused",
                    CommandError::IdExpired { .. } => "owner: command id expired",
                    _ => "owner: command id reused",
                });
                work.answer(Answer::Failed(error));
                return Ok(());
            }
        };
        if let Err(error) = self.bring_in(work.entities()).await {
            self.fail(work, error);
            return Ok(());
        }
        self.rule(work, id, now)
    }

    fn recognise(&self, work: &dyn Work, now: Timestamp) -> Result<Recognised, CommandError> {
        let Some(id) = work.envelope().id else {
            return Ok(Recognised::New(None));
        };
        let shelf = Known::shelf(id, work.envelope(), now)?;
        let nowhere = EntityKey::new("", "");
        let place = work.entities().first().unwrap_or(&nowhere);
        let digest = super::guard(place, || work.digest())??;
        match self.known.get(&shelf, id) {
            None if self.known.is_forgotten(&shelf, work.envelope().issued) => Err(match shelf {
                Shelf::Source(..) => CommandError::Settled(id),
                _ => CommandError::IdExpired {
                    id,
                    reason: Text::from_static("what was decided at that time is forgotten"),
                },
            }),
            None => Ok(Recognised::New(Some(Identified { id, shelf, digest }))),
            Some(entry) if entry.digest != digest as u64 => Err(CommandError::IdReused(id)),
            Some(Entry {
                offset: Offset(0), ..
            }) => Ok(Recognised::InFlight(id)),
            Some(entry) => Ok(Recognised::Done(entry.offset)),
        }
    }

    /// Gives the answer that the command was given before. It is fixed, so it needs no fence.
    pub(super) fn repeat(&self, work: Box<dyn Work>, offset: Offset) {
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
            if let Ok(Some(record)) = &record {
                work.envelope().tell(|| Heard {
                    after: (record.local.stamp, record.portable.hybrid),
                    dot: record.portable.dot.clone(),
                });
            }
            let reply = record.map(|record| record.and_then(|record| record.local.reply.clone()));
            work.answer(match reply {
                Ok(Some(reply)) => Answer::Again(reply, offset),
                Ok(None) => Answer::Failed(CommandError::Unknown("its record is gone".into())),
                Err(error) => Answer::Failed(CommandError::Unknown(error.to_string())),
            });
        };
        self.world.spawn("repeat an answer", Box::pin(answer));
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
            recorded: self.next_stamp(work.envelope(), now).time(),
            durable: self.durable,
            seed: new_id(self.world.as_ref()),
        };
        let nowhere = EntityKey::new("", "");
        let place = work.entities().first().cloned().unwrap_or(nowhere);
        match super::guard(&place, || work.decide(&desk)).flatten() {
            Ok(Ruling::Decided(decided)) => self.take_unit(work, id, decided, now),
            Ok(Ruling::Baseline { state, version }) => {
                self.take_baseline(work, state, version, now)
            }
            Ok(Ruling::Read { fenced }) => {
                let unused = self.unused(work.entities());
                self.take_read(work, fenced);
                self.forget(unused);
                Ok(())
            }
            Ok(Ruling::Wait) => {
                if let Err(retry_after) = work.envelope_mut().place.watch(|| self.world.elapsed()) {
                    let partition = self.partition;
                    work.answer(Answer::Failed(CommandError::Overloaded {
                        partition,
                        retry_after,
                    }));
                } else if let Some(entity) = work.entities().first().cloned() {
                    let watchers = self.watchers.entry(entity).or_default();
                    watchers.retain(|work| !work.is_abandoned());
                    watchers.push(work);
                    self.sweep_watchers();
                }
                Ok(())
            }
            Err(error) => {
                self.fail(work, error);
                Ok(())
            }
        }
    }

    /// Work that has failed. What a later build can do waits for the partition to become that one's, as
    /// it does when the assigner hears that this node cannot serve it.
    fn fail(&self, work: Box<dyn Work>, error: CommandError) {
        let later = matches!(error, CommandError::NewerBuild { .. });
        let Some(remote) = self.router.remote().filter(|_| later).cloned() else {
            return work.answer(Answer::Failed(error));
        };
        self.status.notice(&error);
        self.world
            .reached("owner: work waits for a node of a later build");
        let (router, world, partition) = (self.router.clone(), self.world.clone(), self.partition);
        let waiting = async move {
            tokio::select! { biased;
                () = remote.membership.duty_changes(partition, Duty::Own) => {
                    remote.carry(router, partition, work);
                }
                () = world.sleep(remote.membership.patience) => work.answer(Answer::Failed(error)),
            }
        };
        self.world
            .spawn("wait for a later build", Box::pin(waiting));
    }

    /// Those of the entities that have no events and nobody waits for: to read them again costs
    /// little, and asking for what does not exist must not fill the memory.
    pub(super) fn unused(&self, entities: &[EntityKey]) -> Vec<EntityKey> {
        let empty = |resident: &Resident| resident.version == 0 && resident.touched == 0;
        entities
            .iter()
            .filter(|entity| self.residents.get(entity).is_ok_and(empty))
            .filter(|entity| !self.watchers.contains_key(*entity))
            .cloned()
            .collect()
    }

    pub(super) fn forget(&mut self, unused: Vec<EntityKey>) {
        for entity in unused {
            self.residents.remove(&entity);
        }
    }

    /// Forgets who no longer waits, whenever the watched entities have doubled.
    fn sweep_watchers(&mut self) {
        if self.watchers.len() < self.sweep_at {
            return;
        }
        let mut quiet = Vec::new();
        self.watchers.retain(|entity, watchers| {
            watchers.retain(|work| !work.is_abandoned());
            if watchers.is_empty() {
                quiet.push(entity.clone());
            }
            !watchers.is_empty()
        });
        let unused = self.unused(&quiet);
        self.forget(unused);
        self.sweep_at = (self.watchers.len() * 2).max(LEAST_SWEPT);
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
            self.push(work, None, true);
        }
    }

    pub(super) fn push(&mut self, work: Box<dyn Work>, id: Option<Identified>, is_read: bool) {
        let records_end = self.open.records.len();
        let wanted = work.envelope().heard.is_some();
        let last = self.open.records.last().filter(|_| wanted);
        self.open.pending.push(Pending {
            dot: last.and_then(|record| record.portable.dot.clone()),
            work,
            records_end,
            id,
            is_read,
            repeats: Vec::new(),
        });
    }

    pub(super) fn wake_watchers(&mut self, entity: &EntityKey, now: Timestamp) {
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
        let mut next = Batch::new(self.open.number + 1, self.clock);
        next.expect_as_many_as(&self.open);
        let mut batch = std::mem::replace(&mut self.open, next);
        let (engine, partition, epoch) = (self.engine.clone(), self.partition, self.epoch);
        let records = std::mem::take(&mut batch.records);
        let statements = std::mem::take(&mut batch.statements);
        let (number, fenced) = (batch.number, batch.fenced);
        if let Some(backlog) = self.router.backlog(partition)
            && (fenced || !records.is_empty())
        {
            let full = !self.queue.is_empty();
            backlog.left(self.world.elapsed(), batch.pending.len(), full);
        }
        let flight: Flight = Box::pin(async move {
            if !records.is_empty() {
                let batch = engine::Batch {
                    id: number,
                    records,
                    statements,
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
}

pub(super) struct Identified {
    pub(super) id: Uuid,
    pub(super) shelf: Shelf,
    pub(super) digest: u128,
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
