//! Measurements of Everfold, each next to a reference that shows what the device and the hand-over
//! between tasks allow on the same machine in the same minute.
//!
//! `bench/README.md` says what is measured, how, and what is not.

mod bare_event;
mod bare_log;
mod bare_write;
pub mod cluster;
mod direct;
pub mod engine;
pub mod entity;
pub mod ledger;
mod load;
pub mod log;
mod machine;
mod order;
mod output;
pub mod replay;
mod report;
mod running;
pub mod saga;
mod subject;
mod turns;
mod unit;

pub use output::Output;
pub use report::{Machine, Report, Run};
pub use turns::Clients;
