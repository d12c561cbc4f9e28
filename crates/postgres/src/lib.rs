//! The engine contract over PostgreSQL 15 and later: a readable row for each event.

#[cfg(feature = "server")]
pub mod server;
