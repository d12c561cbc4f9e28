//! Many nodes over one log: whose partition is whose, and how work reaches the node that owns it.
//!
//! Whoever plans decides who *should* own a partition; who does is decided by the epoch in the append
//! alone. So a plan that is late or wrong costs time, never events.

mod carry;
mod client;
mod receive;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use everfold_engine::Bytes;
use everfold_engine::coordination::{NodeId, Plan};
use everfold_engine::engine::BoxFuture;
use everfold_engine::slot::Partition;
use tokio::sync::watch;

pub(crate) use carry::{Remote, Tried};
pub use client::Client;
pub use receive::Accepting;
pub(crate) use receive::{Accept, AcceptTogether, Carried, receive, told};
pub(crate) use wire::{Outcome, What};

/// A node's part in a cluster; given to [`Application::join_on`](crate::Application::join_on).
#[derive(Clone)]
pub struct Membership {
    /// This node; one that owns nothing, ever, is a client.
    pub node: NodeId,
    /// Who is to own what. It changes as nodes come and go.
    pub plan: watch::Receiver<Arc<Plan>>,
    /// The way to the other nodes.
    pub peers: Arc<dyn Peers>,
    /// How long work looks for the owner of its partition before it fails with
    /// [`CommandError::NoOwner`](crate::CommandError::NoOwner).
    pub patience: Duration,
    /// Whether a node that is asked for what is not its own has it done by the owner, instead of
    /// saying so.
    pub relayed: bool,
}

/// The way to the other nodes.
pub trait Peers: Send + Sync + 'static {
    /// Has a node answer a request, by [`Node::answer`](crate::Node::answer).
    fn ask(
        &self,
        node: NodeId,
        request: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>>;
}

/// A request to another node that has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// Nothing was sent.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// Nothing was sent, for too much is on its way.
    #[error("too much is on its way to it; try again in {} ms", .retry_after.as_millis())]
    Overloaded {
        /// When there is likely to be room.
        retry_after: Duration,
    },
    /// It was sent, and what became of it is not known.
    #[error("it has not answered: {0}")]
    Lost(String),
}

/// What a node is to do about a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    Own,
    /// Keep its state warm.
    StandBy,
    Nothing,
}

impl Membership {
    pub(crate) fn duty(&self, partition: Partition) -> Duty {
        let plan = self.plan.borrow();
        match plan.places.get(partition.index()) {
            Some(place) if place.owner == Some(self.node) => Duty::Own,
            Some(place) if place.standbys.contains(&self.node) => Duty::StandBy,
            _ => Duty::Nothing,
        }
    }

    /// Completes once another node than `owner` is to own a partition.
    async fn owner_changes(&self, partition: Partition, owner: NodeId) {
        let mut plan = self.plan.clone();
        let place = |plan: &Plan| plan.places.get(partition.index()).and_then(|it| it.owner);
        if plan
            .wait_for(|plan| place(plan) != Some(owner))
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }

    /// Completes once a partition is to be owned by another node, or by none.
    pub(crate) async fn not_mine(&self, partition: Partition) {
        if self.duty(partition) == Duty::Own {
            self.duty_changes(partition, Duty::Own).await;
        }
    }

    /// Completes once the duty is another one.
    pub(crate) async fn duty_changes(&self, partition: Partition, from: Duty) {
        let mut plan = self.plan.clone();
        plan.mark_unchanged();
        while self.duty(partition) == from {
            if plan.changed().await.is_err() {
                // Nobody plans any more; the node is about to close.
                std::future::pending::<()>().await;
            }
        }
    }
}
