//! Why a node is not a member.

use everfold_engine::Text;
use everfold_engine::coordination::JoinError;
use everfold_runtime::StartError;

use crate::transport::ListenError;

/// A node that did not join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The engine serves one node.
    #[error(
        "this engine is one node's: many nodes need a log that they share; open it on PostgreSQL (`postgres://...`)"
    )]
    OneNodeOnly,
    /// It cannot be listened there.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// What the node says of itself leads nowhere.
    #[error(
        "nobody reaches this node at {address}: {reason}; advertise an address that peers can connect to (`--advertise HOST:PORT`)"
    )]
    Address {
        /// The address.
        address: String,
        /// What happened on the way.
        reason: String,
    },
    /// Its clock cannot be right, or the store's.
    #[error("this node's clock is {}; set it (and keep it so, by NTP for example), or that of the store", off(*.micros))]
    Clock {
        /// By how much it is ahead of the store's, in microseconds; negative if it is behind.
        micros: i64,
    },
    /// A node without a cluster serves the log.
    #[error(
        "a node alone, at {address}, serves this log (`everfold serve` without --identity): stop it first, or use another log"
    )]
    Alone {
        /// Where people find it.
        address: Text,
    },
    /// The store, or who is there already, does not take it.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The application cannot run.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No node tells where the others are.
    #[error("no node of the cluster answers ({0}); name nodes that are up")]
    NobodyAnswers(String),
}

/// How far a clock is off, for people.
pub(super) fn off(micros: i64) -> String {
    let seconds = micros.unsigned_abs() / 1_000_000;
    let side = if micros < 0 { "behind" } else { "ahead of" };
    format!("{seconds} seconds {side} that of the store")
}
