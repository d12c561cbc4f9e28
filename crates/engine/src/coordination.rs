//! The coordination contract: which nodes live, and who should own what.
//!
//! A store that several nodes share keeps their *roster*: the members whose leases have not run out,
//! by its own clock, and the *plan*, which names an owner and standbys for every partition. One
//! member, the *assigner*, makes plans; it is chosen by the store, like everything else here.
//!
//! All of this decides *liveness* only. A node that believes in an old plan does no harm: what it
//! appends is refused by the [epoch](crate::engine::Epoch), in the same act as the append.
//!
//! The crate `everfold-contract` holds the suite that every coordinator passes.

mod error;
pub mod memory;
pub mod placement;
mod roster;

use std::time::Duration;

use crate::Text;
use crate::engine::{BoxFuture, Epoch};
use crate::position::Offset;
use crate::slot::{Layout, Partition};

pub use error::{CoordinationError, JoinError, PlanError};
pub use roster::{Living, NodeId, Place, Plan, Roster};

/// What a node says of itself when it joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Drawn anew by every start.
    pub node: NodeId,
    /// Configured; unique among the living.
    pub name: Text,
    /// The cluster: its name, and the fingerprint of its authority. One log serves one cluster.
    pub cluster: Text,
    /// The name of the application. One cluster runs one application.
    pub application: Text,
    /// `host:port` that peers reach it at.
    pub address: Text,
    /// What fails together; standbys are put into other zones if there are any.
    pub zone: Text,
    /// Its share of partitions beside that of others; 0 takes nothing (draining).
    pub weight: u32,
    /// The build, for people.
    pub build: Text,
    /// How it believes the log to be cut.
    pub layout: Layout,
}

/// What a node says again and again while it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// As in [`Member::weight`]; the last one counts.
    pub weight: u32,
    /// The partitions whose state it has in memory, and those that it cannot serve.
    pub held: Vec<Held>,
    /// Believed to live for so long from the moment at which the store takes the beat.
    pub lease: Duration,
}

/// A partition whose state a node has in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub partition: Partition,
    /// As what.
    pub role: Role,
    /// The state reflects everything up to here.
    pub offset: Offset,
    /// The epoch under which it owns the partition, or that it last read.
    pub epoch: Epoch,
}

/// What a node is to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Serves it.
    Owner,
    /// Keeps its state warm.
    Standby,
    /// Cannot serve it: a later build has written to it. Said beside what the node holds of it, or
    /// without that; offset and epoch are 0.
    Unable,
}

/// Keeps the roster of the nodes that share a log.
///
/// # Contract
/// - Time is the store's. Clocks of nodes count for nothing.
/// - A member whose lease ran out is gone, whoever looks, and a beat does not bring it back: it has
///   to join again, so a node that was frozen learns of it.
/// - Members are listed in the order in which they joined. The first of them is the assigner; so it
///   stays assigner while it lives. An engine with an election of its own may choose another living
///   member, which then stays.
/// - A plan is stored only if it comes from the assigner and follows the stored one by number; both
///   are checked in the same act as the storing.
/// - Plans outlive those who made them.
pub trait Coordinator: Send + Sync + 'static {
    /// Becomes a member. Who joins again while it lives changes what it says of itself and keeps its
    /// place in the order, so the call may be repeated when its answer was lost.
    ///
    /// # Errors
    /// [`JoinError`] says what is in the way; nothing was changed.
    fn join(&self, member: Member, lease: Duration) -> BoxFuture<'_, Result<Roster, JoinError>>;

    /// Goes on living, and learns who else does.
    ///
    /// # Errors
    /// [`CoordinationError::Expired`]: the lease ran out before; own nothing, and join again.
    fn beat(&self, node: NodeId, beat: Beat) -> BoxFuture<'_, Result<Roster, CoordinationError>>;

    /// Replaces the plan. [`Plan::number`] is the stored number and one.
    ///
    /// # Errors
    /// [`PlanError`]: another member plans, or planned meanwhile; look at the roster again.
    fn plan(&self, node: NodeId, plan: Plan) -> BoxFuture<'_, Result<(), PlanError>>;

    /// Is no member any more, at once. Who is none has left already.
    ///
    /// # Errors
    /// [`CoordinationError::Unavailable`]: the lease will run out instead.
    fn leave(&self, node: NodeId) -> BoxFuture<'_, Result<(), CoordinationError>>;

    /// The roster, for who is no member.
    ///
    /// # Errors
    /// [`CoordinationError::Unavailable`].
    fn look(&self) -> BoxFuture<'_, Result<Roster, CoordinationError>>;
}
