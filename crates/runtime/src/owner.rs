//! The partition owner: one loop per partition, no locks around state.
//!
//! Commands are decided on state in memory and folded into it at once, ahead of the disk. While one
//! batch is on its way to the engine the next is decided. No answer leaves before everything that
//! its decision could have seen is durable and the ownership has been proven since it arrived.

mod backlog;
mod baseline;
mod batch;
mod doubtful;
mod keeper;
mod known;
mod ownership;
mod partition_state;
mod read;
mod recover;
mod remembered;
mod residents;
mod room;
mod router;
mod serve;
mod settle;
mod single;
mod snapshot;
mod standby;
mod unit;
mod work;

pub(crate) use backlog::{Allowed, Place};
pub(crate) use baseline::Stand;
pub(crate) use doubtful::Doubtful;
pub(crate) use known::ANSWERED;
pub use ownership::OwnerReport;
pub(crate) use ownership::{Owner, OwnerStatus};
pub(crate) use read::{Shown, Strength, Watch};
pub(crate) use residents::{Resident, Residents};
pub(crate) use router::Router;
pub use router::Sent;
pub(crate) use single::{
    Single, command_digest, context, digest_of, draft, guard, not_json, to_json,
};
pub(crate) use snapshot::Loader;
pub(crate) use work::{Answer, Decided, Desk, Draft, Envelope, Heard, Ruling, Work};
