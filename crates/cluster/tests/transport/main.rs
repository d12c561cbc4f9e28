//! Calls over real connections on loopback.

#![allow(clippy::unwrap_used, reason = "what supports a test fails with it")]

mod calls;
mod world;
