//! The engine contract as a suite: whoever writes an [`Engine`](everfold_engine::Engine) says in a
//! [`Harness`] how to open one, and every case of [`CASES`] is run against it.
//!
//! ```no_run
//! # async fn test(harness: &dyn everfold_contract::Harness) {
//! let report = everfold_contract::run(harness).await;
//! // Cases that do not apply are listed by name: nothing is skipped silently.
//! report.assert(&["entities_are_read_by_key"]);
//! # }
//! ```
//!
//! An engine may put single records of its own between batches, claims for example; cases look past
//! them.
//!
//! Engines that several nodes share bring a [`Coordinator`](everfold_engine::Coordinator), with a
//! suite of its own: [`run_coordination`] runs every case of [`COORDINATION_CASES`].
//!
//! No case asserts how long something takes. A case that never ends is failed by the harness's
//! clock, which costs nothing in a simulated world.

#[macro_use]
mod check;
mod bench;
mod cases;
mod coordination;
mod harness;
mod model;
mod owner;
mod report;
mod sample;
mod suite;

pub use coordination::{
    COORDINATION_CASES, Coordination, CoordinationCase, SharedLog, run_coordination,
    run_coordination_case,
};
pub use harness::{Ending, Harness, Log, Offers, PARTITIONS};
pub use report::{Outcome, Report, Verdict};
pub use suite::{CASES, Case, run, run_case};
