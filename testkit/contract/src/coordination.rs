//! The coordination contract as a suite: every case is run against a
//! [`Coordinator`](everfold_engine::Coordinator).

mod leases;
mod meeting;
mod members;
mod plans;

use std::sync::Arc;
use std::time::Duration;

use everfold_engine::engine::BoxFuture;
use everfold_engine::{Coordinator, Layout, World};

use crate::check::Checked;
use crate::report::{Outcome, Report, Verdict};
use crate::suite::PATIENCE;
use meeting::Meeting;

/// Makes logs that nodes share.
pub trait Coordination: Send + Sync {
    /// What is tested, for reports.
    fn name(&self) -> String;

    /// The world that cases run in: leases run out while they sleep there.
    fn world(&self) -> Arc<dyn World>;

    /// A lease that cases wait for the end of. A call should take a tenth of it at most.
    fn lease(&self) -> Duration;

    /// A new log that no node has seen.
    fn fresh(&self) -> BoxFuture<'_, Box<dyn SharedLog>>;
}

/// A log that nodes share.
pub trait SharedLog: Send + Sync {
    /// How it is cut; at least four partitions.
    fn layout(&self) -> Layout;

    /// The coordinator as one more node has it, whose own clock is ahead by so many hours.
    fn coordinator(&self, hours: i64) -> BoxFuture<'_, Arc<dyn Coordinator>>;
}

type Run = for<'a> fn(&'a Meeting) -> BoxFuture<'a, Checked>;

/// One rule of the coordination contract, tried.
pub struct CoordinationCase {
    /// Says the rule.
    pub name: &'static str,
    run: Run,
}

macro_rules! cases {
    ($($module:ident { $($name:ident),+ $(,)? })+) => {
        &[$($(CoordinationCase {
            name: stringify!($name),
            run: |meeting| Box::pin($module::$name(meeting)),
        }),+),+]
    };
}

/// Every case, in the order in which they are run.
pub const COORDINATION_CASES: &[CoordinationCase] = cases! {
    members {
        a_member_is_listed_with_all_that_it_says,
        members_are_listed_in_the_order_of_joining,
        everybody_sees_the_same_order,
        a_living_name_is_taken,
        of_many_that_join_under_one_name_one_lives,
        joining_again_keeps_the_place,
        another_cluster_is_refused,
        another_application_is_refused,
        another_layout_is_refused,
        who_joins_alone_founds_a_cluster,
        who_left_is_gone_at_once,
        who_looks_is_no_member,
    }
    leases {
        a_silent_member_is_gone_and_its_name_is_free,
        who_woke_up_too_late_cannot_beat,
        the_last_beat_says_how_long_it_counts,
        a_member_that_beats_stays,
        clocks_of_nodes_count_for_nothing,
    }
    plans {
        the_first_member_plans_and_stays_the_one,
        the_next_member_plans_when_the_first_is_gone,
        everybody_sees_a_plan_as_it_was_made,
        nobody_else_plans,
        an_assigner_that_woke_up_too_late_cannot_plan,
        a_plan_follows_the_stored_one,
        of_plans_made_at_once_one_is_stored,
        plans_of_two_members_are_never_both_stored,
        a_malformed_plan_is_refused,
        plans_outlive_those_who_made_them,
    }
};

/// Runs every case, each on a log of its own.
pub async fn run_coordination(harness: &dyn Coordination) -> Report {
    let mut outcomes = Vec::new();
    for case in COORDINATION_CASES {
        let verdict = verdict(harness, case).await;
        outcomes.push(Outcome {
            case: case.name,
            verdict,
        });
    }
    Report {
        harness: harness.name(),
        outcomes,
    }
}

/// Runs the case of this name; `None` if there is none.
pub async fn run_coordination_case(harness: &dyn Coordination, name: &str) -> Option<Verdict> {
    let case = COORDINATION_CASES.iter().find(|case| case.name == name)?;
    Some(verdict(harness, case).await)
}

async fn verdict(harness: &dyn Coordination, case: &CoordinationCase) -> Verdict {
    let meeting = Meeting::new(harness).await;
    let patience = harness.world().sleep(PATIENCE);
    let checked = tokio::select! {
        biased;
        checked = (case.run)(&meeting) => checked,
        () = patience => Err(format!("it does not end; stopped after {PATIENCE:?}")),
    };
    match checked {
        Ok(()) => Verdict::Passed,
        Err(why) => Verdict::Failed(why),
    }
}
