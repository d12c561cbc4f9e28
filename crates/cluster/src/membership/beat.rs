//! The loop of a member: it says that it lives, hears who else does, and plans if that is its part.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use everfold_engine::Text;
use everfold_engine::coordination::placement::next_plan;
use everfold_engine::coordination::{Beat, CoordinationError, Plan, Roster};
use everfold_runtime::Node;
use tokio::sync::watch;

use super::Shared;
use super::messages::Message;

/// How long a peer may take to hear that there is a new plan; it asks by itself later.
const TELLING: Duration = Duration::from_millis(500);

pub(super) async fn run(
    shared: Arc<Shared>,
    node: Arc<Node>,
    application: String,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let roster = shared.live(&node, &application).await;
        if let Some(roster) = roster {
            shared.plan_if_due(&roster).await;
        }
        tokio::select! { biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = shared.nudge.notified() => {}
            () = shared.world.sleep(shared.settings.beat) => {}
        }
    }
}

impl Shared {
    /// One beat; nothing if the store does not answer.
    async fn live(&self, node: &Node, application: &str) -> Option<Arc<Roster>> {
        let beat = Beat {
            weight: self.weight_now(),
            held: node.held(),
            lease: self.settings.lease,
        };
        let asked = self.world.now();
        match self.coordinator.beat(self.id, beat).await {
            Ok(roster) => {
                self.judge_clock(self.clock_off(asked, roster.time));
                Some(self.learn(roster))
            }
            Err(CoordinationError::Expired) => {
                self.world.reached("node: its lease ran out");
                self.disown();
                let member = self.member(application);
                let joined = self.coordinator.join(member, self.settings.lease).await;
                joined.ok().map(|roster| self.learn(roster))
            }
            // The plan stays: who lives goes on, and who does not is fenced.
            Err(error) => {
                self.world.reached("node: a beat without an answer");
                self.say(Some(format!(
                    "{error}; others take its partitions over if that goes on"
                )));
                None
            }
        }
    }

    /// With a clock that is off, everything goes to other nodes, until it is set.
    fn judge_clock(&self, off: Option<i64>) {
        let was = self.clock_is_off.swap(off.is_some(), Ordering::Relaxed);
        if was != off.is_some() {
            self.world.reached("node: its clock went off, or came back");
            self.nudge.notify_one();
        }
        self.say(off.map(|micros| {
            let off = super::error::off(micros);
            format!("this node's clock is {off}: its partitions go to other nodes until it is set")
        }));
    }

    fn say(&self, trouble: Option<String>) {
        let trouble = trouble.map(Text::from);
        // A clock that is off is told once, not with every second.
        self.trouble.send_if_modified(|told| {
            let changed = told.is_some() != trouble.is_some();
            if changed {
                *told = trouble;
            }
            changed
        });
    }

    /// Goes by a roster from now on.
    pub(super) fn learn(&self, roster: Roster) -> Arc<Roster> {
        let roster = Arc::new(roster);
        self.roster.send_replace(roster.clone());
        self.plan.send_if_modified(|plan| {
            let newer = **plan != roster.plan;
            if newer {
                *plan = Arc::new(roster.plan.clone());
            }
            newer
        });
        roster
    }

    /// Believed dead by the others: what the plan gave to this node is theirs by now.
    fn disown(&self) {
        self.plan.send_modify(|plan| {
            let mut without = Plan::clone(plan);
            for place in &mut without.places {
                place.owner = place.owner.filter(|owner| *owner != self.id);
                place.standbys.retain(|standby| *standby != self.id);
            }
            *plan = Arc::new(without);
        });
    }

    async fn plan_if_due(&self, roster: &Roster) {
        if roster.assigner != Some(self.id) {
            return;
        }
        let Some(plan) = next_plan(roster, &self.settings.placement) else {
            return;
        };
        match self.coordinator.plan(self.id, plan.clone()).await {
            Ok(()) => {
                self.world.reached("node: planned");
                self.learn(Roster {
                    plan,
                    ..roster.clone()
                });
                self.tell(roster);
                // What follows from it may be planned at once.
                self.nudge.notify_one();
            }
            // The next beat shows what has happened instead.
            Err(_) => self.world.reached("node: a plan was not taken"),
        }
    }

    /// Tells the others that there is something to hear.
    fn tell(&self, roster: &Roster) {
        for living in &roster.members {
            if living.member.node == self.id {
                continue;
            }
            let message = Message::Planned.encode();
            let call = self.road.call(&living.member.address, message, TELLING);
            let told = async move {
                let _ = call.await;
            };
            self.world.spawn("tell of a plan", Box::pin(told));
        }
    }
}
