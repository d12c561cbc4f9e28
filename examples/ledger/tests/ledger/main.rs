//! The ledger on a running node: transfers, races, restarts, partitions, operations at random.

#![allow(clippy::unwrap_used, reason = "what supports a test fails with it")]

mod any;
mod expiry;
mod model;
mod partitions;
mod races;
mod restart;
mod running;
mod transfers;
