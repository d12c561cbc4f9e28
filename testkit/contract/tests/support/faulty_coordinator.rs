//! Coordinators that break the contract, each in one way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfold_engine::Coordinator;
use everfold_engine::coordination::memory::InMemory;
use everfold_engine::coordination::{
    Beat, CoordinationError, JoinError, Living, Member, NodeId, Plan, PlanError, Roster,
};
use everfold_engine::engine::BoxFuture;
use tokio::task::yield_now;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: the wrapper itself is no fault.
    None,
    /// Stores a plan whatever its number.
    NoCompare,
    /// Compares the number, and then stores.
    CheckThenPlan,
    /// Stores whoever's plan.
    AnybodyPlans,
    /// A beat brings back who was gone.
    ExpiredMayBeat,
    /// Whoever joined last makes plans.
    NewcomersPlan,
    /// Lists two under one name.
    NamesShared,
    /// Leases last for ever.
    NeverExpires,
    /// Lists members by name.
    Unordered,
    /// Does not look at the cluster.
    ClustersMixed,
}

pub(crate) struct Faulty {
    inner: Arc<InMemory>,
    fault: Fault,
    joined: Mutex<BTreeMap<NodeId, Member>>,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<InMemory>, fault: Fault) -> Self {
        Self {
            inner,
            fault,
            joined: Mutex::default(),
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn lease(&self, lease: Duration) -> Duration {
        match self.fault {
            Fault::NeverExpires => Duration::from_secs(1 << 20),
            _ => lease,
        }
    }

    /// What is inside is right; this is what is shown of it.
    fn show(&self, mut roster: Roster) -> Roster {
        let joined = self.joined.lock().unwrap();
        for living in &mut roster.members {
            if let Some(member) = joined.get(&living.member.node) {
                let weight = living.member.weight;
                living.member = member.clone();
                living.member.weight = weight;
            }
        }
        if self.is(Fault::Unordered) {
            let name = |living: &Living| living.member.name.clone();
            roster.members.sort_by_key(name);
        }
        if self.is(Fault::NewcomersPlan) {
            roster.assigner = roster.members.last().map(|living| living.member.node);
        }
        roster
    }

    async fn join_wrongly(&self, member: Member, lease: Duration) -> Result<Roster, JoinError> {
        let mut inside = member.clone();
        if self.is(Fault::NamesShared) {
            inside.name = member.node.to_string().into();
        }
        if self.is(Fault::ClustersMixed) {
            inside.cluster = "any".into();
            inside.application = "any".into();
        }
        let roster = self.inner.join(inside, self.lease(lease)).await?;
        self.joined.lock().unwrap().insert(member.node, member);
        Ok(self.show(roster))
    }

    async fn beat_wrongly(
        &self,
        node: NodeId,
        mut beat: Beat,
    ) -> Result<Roster, CoordinationError> {
        beat.lease = self.lease(beat.lease);
        let answer = self.inner.beat(node, beat.clone()).await;
        if let (Err(CoordinationError::Expired), Fault::ExpiredMayBeat) = (&answer, self.fault) {
            let member = self.joined.lock().unwrap().get(&node).cloned();
            if let Some(member) = member {
                let _ = self.inner.join(member, beat.lease).await;
            }
            return self
                .inner
                .beat(node, beat)
                .await
                .map(|roster| self.show(roster));
        }
        answer.map(|roster| self.show(roster))
    }

    async fn plan_wrongly(&self, node: NodeId, mut plan: Plan) -> Result<(), PlanError> {
        let roster = self.inner.look().await.unwrap();
        let (stored, assigner) = (roster.plan.number, roster.assigner);
        let mut planner = node;
        if self.is(Fault::CheckThenPlan) {
            if plan.number != stored + 1 {
                return Err(PlanError::Superseded { stored });
            }
            for _ in 0..6 {
                yield_now().await;
            }
            plan.number = self.inner.look().await.unwrap().plan.number + 1;
        }
        if self.is(Fault::NoCompare) {
            plan.number = stored + 1;
        }
        if self.is(Fault::AnybodyPlans) {
            planner = assigner.unwrap_or(node);
        }
        self.inner.plan(planner, plan).await
    }
}

impl Coordinator for Faulty {
    fn join(&self, member: Member, lease: Duration) -> BoxFuture<'_, Result<Roster, JoinError>> {
        Box::pin(self.join_wrongly(member, lease))
    }

    fn beat(&self, node: NodeId, beat: Beat) -> BoxFuture<'_, Result<Roster, CoordinationError>> {
        Box::pin(self.beat_wrongly(node, beat))
    }

    fn plan(&self, node: NodeId, plan: Plan) -> BoxFuture<'_, Result<(), PlanError>> {
        Box::pin(self.plan_wrongly(node, plan))
    }

    fn leave(&self, node: NodeId) -> BoxFuture<'_, Result<(), CoordinationError>> {
        self.inner.leave(node)
    }

    fn look(&self) -> BoxFuture<'_, Result<Roster, CoordinationError>> {
        Box::pin(async { self.inner.look().await.map(|roster| self.show(roster)) })
    }
}
