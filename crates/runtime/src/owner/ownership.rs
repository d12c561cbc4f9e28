//! An ownership from claim to loss.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use everfold_engine::World;
use everfold_engine::engine::{BoxFuture, Claim, Engine, OwnerError};
use everfold_engine::map::seeded;
use everfold_engine::slot::Partition;
use tokio::sync::{mpsc, watch};

use super::Residents;
use super::batch::Batch;
use super::recover::Tail;
use super::serve::{End, LEAST_SWEPT, MOST_UNITS, Serving};
use super::work::{Answer, Work};
use crate::error::CommandError;
use crate::handler::{Ownership, raised};
use crate::schema::Registry;

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
    pub(crate) ready: watch::Sender<Ownership>,
    pub(crate) status: Arc<OwnerStatus>,
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
                        matches!(error, OwnerError::Stopped(_) | OwnerError::ReadOnly(_) | OwnerError::NoPartition(_));
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
            sweep_at: LEAST_SWEPT,
            snapshots: None,
        };
        let end = serving.run(&mut self.inbox, &mut self.closing).await;
        if matches!(end, End::Closed) {
            let _ = self.engine.release(self.partition, claim.epoch).await;
        }
        Some(end)
    }
}
