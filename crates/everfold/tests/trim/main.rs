//! Trimming through the node: baselines first, nobody loses a state, and no answer that may be asked
//! for again.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test a fault is a panic"
)]

#[path = "../bank/mod.rs"]
mod bank;
mod commands;
mod history;
mod later;
