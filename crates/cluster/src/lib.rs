//! Many nodes as one: whom a node trusts, and how nodes and clients call each other.
//!
//! - [`authority`]: one authority per cluster signs a certificate for each node and client. Who
//!   somebody is, is what the certificate says, not an address.
//! - [`transport`]: calls of opaque bytes over mutual TLS, many at a time on one connection.
//!
//! ```no_run
//! use std::{path::Path, sync::Arc, time::Duration};
//!
//! use everfold_cluster::{Answers, Identity, PeerName, Peers, listen};
//! use everfold_engine::{Bytes, engine::BoxFuture};
//!
//! struct Echo;
//!
//! impl Answers for Echo {
//!     fn answer(&self, _from: &PeerName, request: Bytes) -> BoxFuture<'static, Bytes> {
//!         Box::pin(async { request })
//!     }
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Identity::from_folder(Path::new("everfold.d/node-1"))?;
//! let (stop, stopped) = tokio::sync::watch::channel(false);
//! let listening = listen("127.0.0.1:7000".parse()?, &node, Arc::new(Echo), stopped).await?;
//!
//! let client = Peers::new(&Identity::from_folder(Path::new("everfold.d/console"))?);
//! let answer = client.call("127.0.0.1:7000", "hello".into(), Duration::from_secs(1)).await?;
//! assert_eq!(answer, "hello");
//!
//! stop.send_replace(true);
//! listening.ended.await;
//! # Ok(())
//! # }
//! ```

pub mod authority;
mod client;
mod membership;
pub mod transport;

pub use authority::{Authority, AuthorityError, Identity, Kind, PeerName};
pub use client::Client;
pub use membership::{Alone, ClusterError, Clustered, Road, Settings};
pub use transport::{Answers, CallError, Limits, ListenError, Listening, Peers, Side, listen};
