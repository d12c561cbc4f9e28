//! What a case works on: a log that nodes share, and nodes.

use std::sync::Arc;
use std::time::Duration;

use everfold_engine::coordination::{
    Beat, CoordinationError, Held, JoinError, Member, NodeId, Place, Plan, PlanError, Roster,
};
use everfold_engine::{Coordinator, Layout, Text, Timestamp, World};
use tokio::sync::oneshot;

use crate::check::{Checked, Tried};
use crate::coordination::{Coordination, SharedLog};

/// Outlives every case.
pub(super) const LONG: Duration = Duration::from_secs(3600);

pub(super) struct Meeting {
    pub(super) world: Arc<dyn World>,
    /// One that cases wait for the end of.
    pub(super) short: Duration,
    log: Box<dyn SharedLog>,
}

/// A process that may be a member.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) coordinator: Arc<dyn Coordinator>,
    pub(super) member: Member,
}

impl Meeting {
    pub(super) async fn new(harness: &dyn Coordination) -> Self {
        Self {
            world: harness.world(),
            short: harness.lease(),
            log: harness.fresh().await,
        }
    }

    pub(super) fn layout(&self) -> Layout {
        self.log.layout()
    }

    /// A process that has not joined yet.
    pub(super) async fn node(&self, name: &str) -> Node {
        self.node_ahead(name, 0).await
    }

    pub(super) async fn node_ahead(&self, name: &str, hours: i64) -> Node {
        Node {
            coordinator: self.log.coordinator(hours).await,
            member: Member {
                node: NodeId::draw(&*self.world),
                name: name.into(),
                cluster: "cluster 1".into(),
                application: "store".into(),
                address: format!("{name}.example:4870").into(),
                zone: "a".into(),
                weight: 1,
                build: "1.0.0".into(),
                layout: self.layout(),
            },
        }
    }

    /// One that has joined, for long.
    pub(super) async fn joined(&self, name: &str) -> Checked<Node> {
        let node = self.node(name).await;
        node.join(LONG).await.tried("joining")?;
        Ok(node)
    }

    /// Waits until a member is gone by the store's clock.
    pub(super) async fn gone(&self, node: &Node) -> Checked {
        let observer = self.log.coordinator(0).await;
        loop {
            let roster = observer.look().await.tried("looking")?;
            if roster.living(node.id()).is_none() {
                return Ok(());
            }
            self.world.sleep(self.short / 4).await;
        }
    }

    /// A plan that may follow the one in the roster: everything to one node.
    pub(super) fn plan(&self, after: &Roster, owner: NodeId, reason: &str) -> Plan {
        let place = |_| Place {
            owner: Some(owner),
            standbys: Vec::new(),
            since: Timestamp(1_700_000_000_000_001),
            reason: reason.into(),
        };
        Plan {
            number: after.plan.number + 1,
            places: self.layout().all().map(place).collect(),
        }
    }

    /// Runs beside the case; the receiver gets the result.
    pub(super) fn start<T: Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        let run = async move {
            let _ = sender.send(task.await);
        };
        self.world.spawn(name, Box::pin(run));
        receiver
    }
}

impl Node {
    pub(super) fn id(&self) -> NodeId {
        self.member.node
    }

    pub(super) async fn join(&self, lease: Duration) -> Result<Roster, JoinError> {
        self.coordinator.join(self.member.clone(), lease).await
    }

    pub(super) async fn beat(&self, lease: Duration) -> Result<Roster, CoordinationError> {
        self.beat_holding(Vec::new(), lease).await
    }

    pub(super) async fn beat_holding(
        &self,
        held: Vec<Held>,
        lease: Duration,
    ) -> Result<Roster, CoordinationError> {
        let weight = self.member.weight;
        let beat = Beat {
            weight,
            held,
            lease,
        };
        self.coordinator.beat(self.id(), beat).await
    }

    pub(super) async fn plan(&self, plan: Plan) -> Result<(), PlanError> {
        self.coordinator.plan(self.id(), plan).await
    }

    pub(super) async fn look(&self) -> Checked<Roster> {
        self.coordinator.look().await.tried("looking")
    }

    pub(super) async fn leave(&self) -> Checked {
        self.coordinator.leave(self.id()).await.tried("leaving")
    }
}

/// Names of the living, as they are listed.
pub(super) fn names(roster: &Roster) -> Vec<Text> {
    let members = roster.members.iter();
    members.map(|living| living.member.name.clone()).collect()
}
