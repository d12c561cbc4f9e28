//! Many nodes as one: whom a node trusts, and how nodes and clients call each other.
//!
//! - [`authority`]: one authority per cluster signs a certificate for each node and client. Who
//!   somebody is, is what the certificate says, not an address.
//! - [`transport`]: calls of opaque bytes over mutual TLS, many at a time on one connection.

pub mod authority;
mod client;
mod membership;
pub mod transport;

pub use authority::{Authority, AuthorityError, Identity, Kind, PeerName};
pub use client::Client;
pub use membership::{ClusterError, Clustered, Road, Settings};
pub use transport::{Answers, CallError, Limits, ListenError, Listening, Peers, Side, listen};
