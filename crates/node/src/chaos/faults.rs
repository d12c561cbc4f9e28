//! Makes a plan come true, and notes what came of it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use everfold::engine::Partition;

use super::cluster::Cluster;
use super::plan::{Fault, Planned};
use crate::output::say;

/// Between two looks at nodes that may have ended by themselves.
const LOOK: Duration = Duration::from_millis(250);

/// A fault that came about. Times are those of the history.
#[derive(Clone, Debug)]
pub struct Happened {
    /// What.
    pub fault: Fault,
    /// When it began.
    pub began: Duration,
    /// When it had ended: everything runs again, and nothing is cut.
    pub ended: Duration,
    /// The partitions that it hit: those that the node served before, or all of them.
    pub hit: Vec<Partition>,
}

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Done {
    /// Faults, in the order of their beginnings.
    pub happened: Vec<Happened>,
    /// How often a node had ended by itself and was started again.
    pub restarts: u32,
}

enum Step {
    Begin,
    End,
}

/// Makes a plan come true, until all of it is over or `stop` says something or is gone. Whatever was
/// begun is ended. Blocks.
///
/// `began` is when the history begins.
///
/// # Errors
/// A fault cannot be made or ended.
pub fn run(
    cluster: &mut Cluster,
    plan: &[Planned],
    began: Instant,
    stop: &Receiver<()>,
) -> anyhow::Result<Done> {
    let mut steps = BinaryHeap::new();
    for (at, planned) in plan.iter().enumerate() {
        steps.push(Reverse((planned.at, 1, at)));
        steps.push(Reverse((planned.end(), 0, at)));
    }
    let mut done = Done::default();
    let mut open: Vec<(usize, usize)> = Vec::new();
    let result = loop {
        let next = steps.peek().map(|Reverse((at, ..))| *at);
        let due = next.map(|at| at.saturating_sub(began.elapsed()));
        if due != Some(Duration::ZERO) {
            match stop.recv_timeout(due.unwrap_or(LOOK).min(LOOK)) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            match cluster.supervise() {
                Ok(restarts) => done.restarts = restarts,
                Err(error) => break Err(error),
            }
            continue;
        }
        let Some(Reverse((_, which, at))) = steps.pop() else {
            continue;
        };
        let step = if which == 0 { Step::End } else { Step::Begin };
        let fault = plan[at].fault;
        let made = match step {
            Step::Begin => {
                let hit = hit(cluster, fault);
                open.push((at, done.happened.len()));
                done.happened.push(Happened {
                    fault,
                    began: began.elapsed(),
                    ended: Duration::MAX,
                    hit,
                });
                cluster.begin(fault)
            }
            Step::End => {
                let of = open.iter().position(|(open, _)| *open == at);
                let of = of.map(|place| open.swap_remove(place).1);
                let ended = cluster.end(fault);
                if let Some(of) = of {
                    done.happened[of].ended = began.elapsed();
                }
                ended
            }
        };
        if let Err(error) = made {
            break Err(error);
        }
    };
    for (at, of) in open {
        if let Err(error) = cluster.end(plan[at].fault) {
            say(&format!("a fault could not be ended: {error:#}"));
        }
        done.happened[of].ended = began.elapsed();
    }
    result.map(|()| done)
}

fn hit(cluster: &Cluster, fault: Fault) -> Vec<Partition> {
    match fault.node() {
        Some(node) => cluster.view().owned_by(node),
        None => cluster.view().layout().all().collect(),
    }
}
