//! Who belongs to a cluster.
//!
//! A cluster has one authority. Whatever it signs belongs to the cluster, under the name and in the
//! role that the certificate states: `node-1.nodes.orders.everfold` is the node `node-1` of the
//! cluster `orders`, `console.clients.orders.everfold` a client of it. Addresses decide nothing, so
//! a node may move to another machine with its files.
//!
//! [`Authority`] is one for development and small installations, made by `everfold init`; an
//! organisation's own authority serves as well, if its certificates carry these names.

mod error;
mod files;
mod identity;
mod issue;
mod name;

pub use error::AuthorityError;
pub use identity::Identity;
pub(crate) use identity::PROTOCOL;
pub use issue::{Authority, Issued};
pub use name::{Kind, PeerName, check_address, check_name};
