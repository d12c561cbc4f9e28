//! The reference coordinator: the contract in memory, as plainly as it can be said.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::coordination::{
    Beat, CoordinationError, Coordinator, Held, JoinError, Living, Member, NodeId, Plan, PlanError,
    Roster,
};
use crate::engine::BoxFuture;
use crate::slot::Layout;
use crate::time::Timestamp;
use crate::world::World;

/// Coordinates nodes that share one value of it; nothing outlives the process.
///
/// Its clock is that of the world it is given, which should be the store's, not a node's. Leases are
/// measured by [`World::elapsed`], so that a clock that is set expires nobody.
pub struct InMemory {
    world: Arc<dyn World>,
    layout: Layout,
    state: Mutex<State>,
}

struct State {
    /// In the order in which they joined.
    members: Vec<Entry>,
    plan: Plan,
}

struct Entry {
    member: Member,
    held: Vec<Held>,
    joined: Timestamp,
    until: Duration,
}

impl State {
    fn entry(&mut self, node: NodeId) -> Option<&mut Entry> {
        self.members
            .iter_mut()
            .find(|entry| entry.member.node == node)
    }

    fn assigner(&self) -> Option<NodeId> {
        self.members.first().map(|entry| entry.member.node)
    }
}

impl InMemory {
    /// Coordinates the nodes of a log of this layout.
    pub fn new(world: Arc<dyn World>, layout: Layout) -> Self {
        Self {
            world,
            layout,
            state: Mutex::new(State {
                members: Vec::new(),
                plan: Plan::unplaced(layout),
            }),
        }
    }

    /// What holds now: those whose leases ran out are forgotten first.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.world.elapsed();
        state.members.retain(|entry| entry.until > now);
        state
    }

    fn until(&self, lease: Duration) -> Duration {
        self.world.elapsed().saturating_add(lease)
    }

    fn roster(&self, state: &State) -> Roster {
        let (time, now) = (self.world.now(), self.world.elapsed());
        let left = |until: Duration| until.saturating_sub(now).as_micros() as i64;
        let living = |entry: &Entry| Living {
            member: entry.member.clone(),
            held: entry.held.clone(),
            joined: entry.joined,
            lease_until: Timestamp(time.0.saturating_add(left(entry.until))),
        };
        Roster {
            members: state.members.iter().map(living).collect(),
            plan: state.plan.clone(),
            assigner: state.assigner(),
            time,
        }
    }

    fn join_now(&self, member: Member, lease: Duration) -> Result<Roster, JoinError> {
        let mut state = self.state();
        let roster = self.roster(&state);
        check_join(&member, self.layout, &roster.members)?;
        let until = self.until(lease);
        match state.entry(member.node) {
            Some(entry) => {
                entry.member = member;
                entry.until = until;
            }
            None => state.members.push(Entry {
                member,
                held: Vec::new(),
                joined: self.world.now(),
                until,
            }),
        }
        Ok(self.roster(&state))
    }

    fn beat_now(&self, node: NodeId, beat: Beat) -> Result<Roster, CoordinationError> {
        let mut state = self.state();
        let until = self.until(beat.lease);
        let entry = state.entry(node).ok_or(CoordinationError::Expired)?;
        entry.member.weight = beat.weight;
        entry.held = beat.held;
        entry.until = until;
        Ok(self.roster(&state))
    }

    fn plan_now(&self, node: NodeId, plan: Plan) -> Result<(), PlanError> {
        plan.check(self.layout).map_err(PlanError::Invalid)?;
        let mut state = self.state();
        let assigner = state.assigner();
        if assigner != Some(node) {
            return Err(PlanError::NotAssigner { assigner });
        }
        let stored = state.plan.number;
        if plan.number != stored.saturating_add(1) {
            return Err(PlanError::Superseded { stored });
        }
        state.plan = plan;
        Ok(())
    }
}

/// Whether a node may join a log of this layout beside those that live.
fn check_join(member: &Member, layout: Layout, living: &[Living]) -> Result<(), JoinError> {
    if member.layout != layout {
        return Err(JoinError::OtherLayout {
            here: layout,
            asked: member.layout,
        });
    }
    let others = || {
        let others = living.iter().map(|living| (&living.member, living));
        others.filter(|(other, _)| other.node != member.node)
    };
    if let Some((other, _)) = others().find(|(other, _)| other.cluster != member.cluster) {
        return Err(JoinError::OtherCluster {
            living: other.cluster.clone(),
            asked: member.cluster.clone(),
        });
    }
    if let Some((other, _)) = others().find(|(other, _)| other.application != member.application) {
        return Err(JoinError::OtherApplication {
            living: other.application.clone(),
            asked: member.application.clone(),
        });
    }
    if let Some((other, living)) = others().find(|(other, _)| other.name == member.name) {
        return Err(JoinError::NameTaken {
            name: member.name.clone(),
            address: other.address.clone(),
            until: living.lease_until,
        });
    }
    Ok(())
}

impl Coordinator for InMemory {
    fn join(&self, member: Member, lease: Duration) -> BoxFuture<'_, Result<Roster, JoinError>> {
        Box::pin(async move { self.join_now(member, lease) })
    }

    fn beat(&self, node: NodeId, beat: Beat) -> BoxFuture<'_, Result<Roster, CoordinationError>> {
        Box::pin(async move { self.beat_now(node, beat) })
    }

    fn plan(&self, node: NodeId, plan: Plan) -> BoxFuture<'_, Result<(), PlanError>> {
        Box::pin(async move { self.plan_now(node, plan) })
    }

    fn leave(&self, node: NodeId) -> BoxFuture<'_, Result<(), CoordinationError>> {
        Box::pin(async move {
            self.state()
                .members
                .retain(|entry| entry.member.node != node);
            Ok(())
        })
    }

    fn look(&self) -> BoxFuture<'_, Result<Roster, CoordinationError>> {
        Box::pin(async move { Ok(self.roster(&self.state())) })
    }
}
