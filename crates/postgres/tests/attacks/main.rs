//! Attacks on the engine over real servers: frozen owners, lost answers, crashes, transactions of
//! others, restored backups, statements that fail.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "what supports a test fails with it"
)]

mod beside;
mod coordination;
mod crashes;
mod frozen;
mod lost;
mod outside;
mod owner;
mod proxy;
mod readable;
mod replicas;
mod restored;
mod rights;
mod servers;
mod tls;
