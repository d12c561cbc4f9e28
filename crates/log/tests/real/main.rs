//! Real files, real processes, a real device that is full.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod appending;
mod full;
mod processes;

#[path = "../support/mod.rs"]
mod support;
