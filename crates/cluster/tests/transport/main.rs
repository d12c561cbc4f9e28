//! Calls over real connections on loopback: what callers get, whom both sides trust, and what peers
//! that keep to nothing can do.

#![allow(clippy::unwrap_used, reason = "what supports a test fails with it")]

mod calls;
mod certificates;
mod failures;
mod raw;
mod strangers;
mod trust;
mod world;
