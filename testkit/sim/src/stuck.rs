//! Runs that cannot end.

use std::time::Duration;

/// A run that did not reach its end. The seed repeats it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("simulation of seed {seed} after {steps} steps at {time:?}: {cause}")]
pub struct Stuck {
    /// Give it to [`crate::Simulation::new`] to see the same again.
    pub seed: u64,
    /// How many decisions had been made.
    pub steps: u64,
    /// The virtual time by then.
    pub time: Duration,
    /// Why it stopped.
    pub cause: Cause,
}

/// Why a run stopped before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// Nothing is ready, no timer is set, and the future is not done. Names what rests.
    #[error("deadlock, nothing can proceed; at rest: {}", .0.join(", "))]
    Deadlock(Vec<String>),
    /// The limit of [`crate::Settings::steps`]: something may spin.
    #[error("still not done after {0} steps in one run; does something spin?")]
    Steps(u64),
}
