//! What coordinators refuse.

use crate::Text;
use crate::coordination::NodeId;
use crate::slot::Layout;
use crate::time::Timestamp;

/// A node that did not become a member. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// A living node has the name.
    #[error(
        "a node named {name:?} lives already at {address}: stop it, wait until its lease ends at {until}, or give this one another name"
    )]
    NameTaken {
        /// The name.
        name: Text,
        /// Where the other node is reached.
        address: Text,
        /// When its lease ends, by the store's clock, unless it beats again.
        until: Timestamp,
    },
    /// The log serves another cluster.
    #[error(
        "nodes of cluster {living:?} run on this log, this node is of {asked:?}: give it that cluster's name and authority, or another log"
    )]
    OtherCluster {
        /// Of the living.
        living: Text,
        /// Of this node.
        asked: Text,
    },
    /// The log serves another application.
    #[error(
        "nodes of application {living:?} run on this log, this node runs {asked:?}: start that application, or use another log"
    )]
    OtherApplication {
        /// Of the living.
        living: Text,
        /// Of this node.
        asked: Text,
    },
    /// The node has another idea of the log's partitions.
    #[error(
        "the log has {} partitions (layout {}), this node expects {} (layout {}): restart it so that it reads the log's layout, and leave the number of partitions out of its configuration",
        here.partitions, here.number, asked.partitions, asked.number
    )]
    OtherLayout {
        /// The log's.
        here: Layout,
        /// Of this node.
        asked: Layout,
    },
    /// The store cannot be asked now.
    #[error("the store cannot be reached: {0}; the call may be repeated")]
    Unavailable(String),
}

/// A beat, a departure or a look that did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoordinationError {
    /// The node is no member: its lease ran out, or it left.
    #[error(
        "this node is no member any more: its lease ran out by the store's clock, and others may have taken its partitions over; it gives all of them up and joins again"
    )]
    Expired,
    /// The store cannot be asked now. A beat may have been taken all the same.
    #[error("the store cannot be reached: {0}; the call may be repeated")]
    Unavailable(String),
}

/// A plan that is not known to be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Another member makes plans, or this node is none any more.
    #[error("this node makes no plans: {}", match assigner {
        Some(node) => format!("node {node} does"),
        None => "nobody lives".to_owned(),
    })]
    NotAssigner {
        /// Who does.
        assigner: Option<NodeId>,
    },
    /// The stored plan is not the one that this one follows.
    #[error("plan {stored} is stored, which this one does not follow: look at it, and plan again")]
    Superseded {
        /// The number of the stored plan.
        stored: u64,
    },
    /// The plan breaks a rule of the contract.
    #[error("the plan breaks the contract: {0}")]
    Invalid(String),
    /// The store cannot be asked now. The plan may have been stored all the same: the roster tells.
    #[error("the store cannot be reached: {0}; look at the roster before planning again")]
    Unavailable(String),
}
