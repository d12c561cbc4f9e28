//! How calls fail.

use std::net::SocketAddr;
use std::time::Duration;

use everfold_engine::Text;

use crate::authority::AuthorityError;

/// Which side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This process.
    Here,
    /// The peer.
    There,
}

/// Why there is no answer. [`CallError::may_be_done`] says whether the call may have been carried out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// There is no connection; nothing was sent. Ask another node, or later.
    #[error("{address} cannot be reached, nothing was sent: {reason}")]
    Unreachable {
        /// The peer's.
        address: Text,
        /// What happened.
        reason: Text,
    },
    /// One side does not accept the certificate of the other; nothing was sent.
    #[error(
        "{}, nothing was sent: {reason}; give both certificates of one authority, as `everfold init` \
         makes them",
        match .side {
            Side::Here => format!("{address} is not trusted here"),
            Side::There => format!("{address} does not trust us"),
        }
    )]
    Untrusted {
        /// The peer's.
        address: Text,
        /// Who refuses.
        side: Side,
        /// What is wrong with the certificate of the other side.
        reason: Text,
    },
    /// The peer belongs to another cluster of the same authority; nothing was sent.
    #[error(
        "{address} is of the cluster {theirs}, and we are of {ours}; nothing was sent: correct the \
         address, or use a certificate of that cluster"
    )]
    OtherCluster {
        /// The peer's.
        address: Text,
        /// The name of our cluster.
        ours: Text,
        /// The name of the other.
        theirs: Text,
    },
    /// No version of the protocol is known to both; nothing was sent.
    #[error(
        "{address} speaks versions {} to {} of the protocol and we speak {} to {}; nothing was sent: \
         upgrade the older side", .theirs.0, .theirs.1, .ours.0, .ours.1
    )]
    OtherVersion {
        /// The peer's.
        address: Text,
        /// Lowest and highest of ours.
        ours: (u16, u16),
        /// Lowest and highest of theirs.
        theirs: (u16, u16),
    },
    /// As much as may be is in flight to this peer; nothing was sent. Wait, then repeat.
    #[error(
        "{in_flight} calls are in flight to {address}, which is the most; nothing was sent: try again in {} ms",
        .retry_after.as_millis()
    )]
    Overloaded {
        /// The peer's.
        address: Text,
        /// How many calls are.
        in_flight: usize,
        /// When half of them are likely to be answered, as fast as answers came lately.
        retry_after: Duration,
    },
    /// The call, or what would answer it, is larger than one frame.
    #[error(
        "the {} is {bytes} bytes long, and {limit} are the most; ask for less at a time",
        match .side {
            Side::Here => "call",
            Side::There => "answer",
        }
    )]
    TooLarge {
        /// Here: the call, which was not sent. There: the answer, so the call was carried out.
        side: Side,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// The connection broke, or the peer failed, after the call was sent: it may have been carried
    /// out. Repeat it only under the same id.
    #[error("the call to {address} was sent, its outcome is unknown: {reason}")]
    Lost {
        /// The peer's.
        address: Text,
        /// What happened.
        reason: Text,
    },
    /// No answer in time. If it was sent, it may be carried out yet.
    #[error(
        "no answer from {address} within {after:?}; the call was {}",
        if *.sent { "sent, its outcome is unknown" } else { "not sent" }
    )]
    Deadline {
        /// The peer's.
        address: Text,
        /// How long the caller would wait.
        after: Duration,
        /// Whether the call had left.
        sent: bool,
    },
}

impl CallError {
    /// Whether the peer may have carried out the call, or may do so yet.
    pub fn may_be_done(&self) -> bool {
        match self {
            Self::Lost { .. } => true,
            Self::Deadline { sent, .. } => *sent,
            Self::TooLarge { side, .. } => *side == Side::There,
            Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::OtherCluster { .. }
            | Self::OtherVersion { .. }
            | Self::Overloaded { .. } => false,
        }
    }
}

/// Why a node does not listen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ListenError {
    /// The identity is none of a node.
    #[error(transparent)]
    Identity(#[from] AuthorityError),
    /// The address cannot be had.
    #[error(
        "{address} cannot be listened on: {reason}; choose another address or end what uses it"
    )]
    Bind {
        /// Which.
        address: SocketAddr,
        /// What the system says.
        reason: Text,
    },
}
