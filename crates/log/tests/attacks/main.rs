//! What a hostile reader of the log engine tries: races, stale files, and promises taken literally.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod history;
mod hooked;
mod promises;

#[path = "../support/mod.rs"]
mod support;
