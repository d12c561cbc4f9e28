//! An ownership from claim to loss.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use everfold_engine::engine::{BoxFuture, Claim, Engine, Epoch, OwnerError};
use everfold_engine::map::seeded;
use everfold_engine::slot::Partition;
use everfold_engine::{Offset, World};
use tokio::sync::{mpsc, oneshot, watch};

use super::Residents;
use super::batch::Batch;
use super::partition_state::PartitionState;
use super::recover::{Recovery, Tail};
use super::remembered::bring_back;
use super::router::Router;
use super::serve::{End, LEAST_SWEPT, MOST_UNITS, Serving};
use super::standby::{Following, Standby};
use super::work::{Answer, Work};
use crate::error::CommandError;
use crate::handler::{Ownership, raised};
use crate::options::{StateOptions, StateStore};
use crate::remote::Duty;
use crate::schema::Registry;

/// How long a plan that gives a partition to this node is doubted after another one has claimed it.
const FENCED_PAUSE: Duration = Duration::from_millis(500);

/// Partitions move several at a time: what can wait waits until they have.
const STORED_LATER: Duration = Duration::from_secs(3);

/// Entities that were kept warm, and how many batches of this node have changed them.
type Warm = (Residents, u64);

/// How an owner is doing, for inspection.
#[derive(Debug, Default)]
pub(crate) struct OwnerStatus {
    pub(crate) epoch: AtomicU64,
    pub(crate) residents: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) loads: AtomicU64,
    pub(crate) snapshot_hits: AtomicU64,
    pub(crate) passivations: AtomicU64,
    pub(crate) snapshots: AtomicU64,
    pub(crate) stored: AtomicU64,
    pub(crate) replayed: AtomicU64,
    /// The state in memory reflects everything up to here.
    pub(crate) reached: AtomicU64,
    /// A later build has written what this one cannot read:
    /// the partition is for nodes that can.
    pub(crate) unreadable: AtomicBool,
}

/// What an owner has in memory, and has done since the node began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct OwnerReport {
    /// The partition.
    pub partition: u16,
    /// The fencing number.
    pub epoch: u64,
    /// Entities in memory.
    pub entities: u64,
    /// Their estimated bytes; see [`crate::StateOptions::memory_bytes`].
    pub entity_bytes: u64,
    /// Entities that have left memory to keep within its budget.
    pub passivations: u64,
    /// Entities that were read into memory.
    pub loads: u64,
    /// How many of these began with a snapshot.
    pub snapshot_hits: u64,
    /// Snapshots of entities that were stored.
    pub snapshots: u64,
    /// The partition's stored state stands for the log up to this offset, if this node stored one.
    pub stored: u64,
    /// Records that the last claim read because they were above the stored state.
    pub replayed: u64,
    /// Batches appended by this ownership.
    pub batches: u64,
    /// The last settled offset.
    pub safe_head: u64,
}

impl OwnerStatus {
    /// Remembers that something cannot be read here.
    pub(crate) fn notice(&self, error: &CommandError) {
        if matches!(error, CommandError::NewerBuild { .. }) {
            self.unreadable.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn report(&self, partition: Partition, safe_head: Offset) -> OwnerReport {
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        OwnerReport {
            partition: partition.0,
            epoch: read(&self.epoch),
            entities: read(&self.residents),
            entity_bytes: read(&self.bytes),
            passivations: read(&self.passivations),
            loads: read(&self.loads),
            snapshot_hits: read(&self.snapshot_hits),
            snapshots: read(&self.snapshots),
            stored: read(&self.stored),
            replayed: read(&self.replayed),
            batches: read(&self.batches),
            safe_head: safe_head.0,
        }
    }
}

/// Owns one partition for as long as the node runs.
pub(crate) struct Owner {
    pub(crate) partition: Partition,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) world: Arc<dyn World>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) inbox: mpsc::Receiver<Box<dyn Work>>,
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) ready: watch::Sender<Ownership>,
    pub(crate) status: Arc<OwnerStatus>,
    /// With this partition's share of the memory.
    pub(crate) options: StateOptions,
    pub(crate) router: Router,
    /// What was kept warm, until it is owned.
    pub(crate) warm: Option<Standby>,
}

impl Owner {
    /// Claims and serves until the node closes; on many nodes, whenever it is to be the owner.
    pub(crate) async fn run(mut self) {
        loop {
            let duty = self.duty();
            if duty != Duty::Own {
                if self.ready.borrow().is_some() {
                    self.ready.send_replace(Some(Err(self.fenced())));
                }
                match self.step_aside(duty).await {
                    Some(End::Closed) => return,
                    _ => continue,
                }
            }
            let claimed = self.take_over().await;
            let ended = match claimed {
                Ok((claim, tail, warm)) => {
                    self.status.epoch.store(claim.epoch.0, Ordering::Relaxed);
                    let reached = claim.safe_head.0;
                    self.status.reached.store(reached, Ordering::Relaxed);
                    self.ready.send_replace(Some(Ok(claim.epoch)));
                    self.serve(claim, tail, warm).await
                }
                Err(error) => {
                    let lasting = matches!(
                        error,
                        OwnerError::Stopped(_)
                            | OwnerError::ReadOnly(_)
                            | OwnerError::NoPartition(_)
                    );
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
                Some(End::Moved) => self.world.reached("owner: partition moved away"),
                Some(End::Fenced) => {
                    self.world.reached("owner: fenced");
                    self.ready.send_replace(Some(Err(self.fenced())));
                    if self.router.remote().is_none() {
                        let partition = self.partition;
                        self.turn_away(|| CommandError::Fenced(partition), None)
                            .await;
                        return;
                    }
                    self.await_another_plan().await;
                }
                Some(End::Unknown) => self.world.reached("owner: unknown outcome, claims again"),
                None => self.world.reached("owner: could not claim, tries again"),
            }
        }
    }

    fn duty(&self) -> Duty {
        let remote = self.router.remote();
        remote.map_or(Duty::Own, |remote| remote.duty(self.partition))
    }

    fn fenced(&self) -> OwnerError {
        OwnerError::Fenced {
            partition: self.partition,
            current: None,
        }
    }

    /// Somebody else has claimed what the plan, as it is known here, gives to this node: the next
    /// plan says why. If none comes, whoever it was is gone again.
    async fn await_another_plan(&mut self) {
        let Some(remote) = self.router.remote().cloned() else {
            return;
        };
        tokio::select! { biased;
            () = remote.membership.duty_changes(self.partition, Duty::Own) => {}
            () = raised(&mut self.closing) => {}
            () = self.world.sleep(FENCED_PAUSE) => {}
        }
    }

    /// Keeps the partition warm, or does nothing, until that is no longer the duty.
    async fn step_aside(&mut self, duty: Duty) -> Option<End> {
        let remote = self.router.remote().cloned()?;
        let mut warm = match (duty, self.warm.take()) {
            (Duty::StandBy, warm) => warm,
            _ => None,
        };
        let following = Following {
            recovery: Recovery {
                engine: self.engine.as_ref(),
                world: self.world.as_ref(),
                options: &self.options,
                partition: self.partition,
                epoch: None,
            },
            registry: &self.registry,
            status: &self.status,
        };
        let ended = {
            let follow = async {
                if duty != Duty::StandBy {
                    std::future::pending::<()>().await;
                }
                if warm.is_none() {
                    warm = Some(following.begin().await);
                }
                if let Some(warm) = &mut warm {
                    following.follow(warm).await;
                }
            };
            let mut follow = std::pin::pin!(follow);
            let changes = remote.membership.duty_changes(self.partition, duty);
            let mut changes = std::pin::pin!(changes);
            loop {
                tokio::select! { biased;
                    () = &mut changes => break None,
                    work = self.inbox.recv() => match work {
                        Some(work) => {
                            if *self.closing.borrow() {
                                work.answer(Answer::Failed(CommandError::Closed));
                            } else {
                                self.world.reached("owner: work passed on to the owner");
                                remote.carry(self.router.clone(), self.partition, work);
                            }
                        }
                        None => break Some(End::Closed),
                    },
                    () = raised(&mut self.closing), if !self.inbox.is_closed() => self.inbox.close(),
                    () = &mut follow => {}
                }
            }
        };
        self.warm = warm;
        ended
    }

    async fn take_over(&mut self) -> Result<(Claim, Tail, Option<Warm>), OwnerError> {
        let claim = self.engine.claim(self.partition).await?;
        let recovery = Recovery {
            engine: self.engine.as_ref(),
            world: self.world.as_ref(),
            options: &self.options,
            partition: self.partition,
            epoch: Some(claim.epoch),
        };
        // A copy that is ahead of the log is of another one.
        let warm = self.warm.take();
        let warm = warm.filter(|warm| warm.tail.head <= claim.safe_head);
        let (mut tail, warm) = match warm {
            Some(mut warm) => {
                self.world.reached("owner: takes over warm");
                warm.tail.folded = 0;
                let following = Following {
                    recovery,
                    registry: &self.registry,
                    status: &self.status,
                };
                following.read(&mut warm, claim.safe_head).await?;
                (warm.tail, Some((warm.residents, warm.batches)))
            }
            None => (recovery.read(claim.safe_head).await?, None),
        };
        self.status.replayed.store(tail.folded, Ordering::Relaxed);
        tail.clock.stamp = tail.clock.stamp.max(claim.floor);
        Ok((claim, tail, warm))
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

    /// Reads what is stored of the partition, and the log up to `head`, beside the serving: who was
    /// warm needs it only to store more.
    fn read_stored(&self, epoch: Epoch, head: Offset) -> oneshot::Receiver<Option<PartitionState>> {
        let (engine, world, options) = (self.engine.clone(), self.world.clone(), self.options);
        let (done, stored) = oneshot::channel();
        let partition = self.partition;
        let pause = self.world.sleep(STORED_LATER);
        let task = async move {
            pause.await;
            let recovery = Recovery {
                engine: engine.as_ref(),
                world: world.as_ref(),
                options: &options,
                partition,
                epoch: Some(epoch),
            };
            let tail = recovery.read(head).await;
            let _ = done.send(tail.ok().and_then(|tail| tail.state));
        };
        self.world.spawn("read stored state", Box::pin(task));
        stored
    }

    /// Has the entities come back that are to be remembered.
    fn bring_back(&self, epoch: Epoch) {
        if self.options.store == StateStore::Memory || !self.registry.remembers() {
            return;
        }
        let (status, budget) = (self.status.clone(), self.options.memory_bytes as u64);
        let has_room = move || {
            status.epoch.load(Ordering::Relaxed) == epoch.0
                && status.bytes.load(Ordering::Relaxed) < budget
        };
        let ground = (self.engine.clone(), self.world.clone());
        let (registry, router) = (self.registry.clone(), self.router.clone());
        let task = bring_back(ground, registry, router, self.partition, has_room);
        self.world.spawn("bring entities back", Box::pin(task));
    }

    async fn serve(&mut self, claim: Claim, mut tail: Tail, warm: Option<Warm>) -> Option<End> {
        let is_warm = warm.is_some();
        let budget = self.options.memory_bytes as u64;
        let cold = || (Residents::new(self.world.random(), budget), 0);
        let (residents, batches) = warm.unwrap_or_else(cold);
        let stored = (is_warm && self.options.store == StateStore::Disk).then(|| {
            tail.state = Some(PartitionState::default());
            self.read_stored(claim.epoch, tail.head)
        });
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
            residents,
            watchers: seeded(self.world.random()),
            durable: tail.head.max(claim.safe_head),
            durable_batch: batches,
            queue: VecDeque::new(),
            open: Batch::new(batches + 1, tail.clock),
            flight: None,
            most_units: MOST_UNITS,
            full: false,
            halted: false,
            sweep_at: LEAST_SWEPT,
            cramped: false,
            options: self.options,
            state: tail.state,
            stored,
            keeper: None,
            router: self.router.clone(),
            noted_at: self.world.elapsed(),
        };
        self.bring_back(claim.epoch);
        if tail.foreign {
            serving.keeper().clear_snapshots();
        }
        let end = serving.run(&mut self.inbox, &mut self.closing).await;
        if let Some(backlog) = self.router.backlog(self.partition) {
            backlog.rest();
        }
        match end {
            End::Closed => {
                serving.put_away().await;
                let _ = self.engine.release(self.partition, claim.epoch).await;
            }
            End::Moved => {
                // The next owner waits: what is stored beside the log has to do without the end.
                let _ = self.engine.release(self.partition, claim.epoch).await;
                self.warm = Some(serving.into_standby());
            }
            End::Fenced | End::Unknown => {}
        }
        Some(end)
    }
}
