//! What a member is told before it joins.

use std::net::SocketAddr;
use std::time::Duration;

use everfold_engine::Text;
use everfold_engine::coordination::placement::Placement;

/// How a node takes part in a cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name; no other living node has it.
    pub name: Text,
    /// The cluster, by name and authority: [`Identity::cluster`](crate::Identity::cluster).
    pub cluster: Text,
    /// Where it listens for peers.
    pub listen: SocketAddr,
    /// `host:port` that peers reach it at; empty for the address it listens on.
    pub address: Text,
    /// What fails together with it; standbys are kept in other zones where there are some.
    pub zone: Text,
    /// Its share of partitions beside that of others.
    pub weight: u32,
    /// The build, for people.
    pub build: Text,
    /// How long it is believed to live without a sign.
    pub lease: Duration,
    /// How often it gives one.
    pub beat: Duration,
    /// How long work looks for its owner.
    pub patience: Duration,
    /// How far its clock may be from the store's. A node further off would record events at a wrong time,
    /// and take ids of commands for too old or from the future: it does not join, and gives its
    /// partitions away if its clock is set while it runs.
    pub clock_drift: Duration,
    /// How partitions are placed, should it be the one to do so.
    pub placement: Placement,
}

impl Settings {
    /// Two seconds of lease, a beat every quarter of a second, ten seconds of patience and
    /// of drift.
    pub fn new(name: impl Into<Text>, cluster: impl Into<Text>, listen: SocketAddr) -> Self {
        Self {
            name: name.into(),
            cluster: cluster.into(),
            listen,
            address: Text::new(),
            zone: Text::new(),
            weight: 1,
            build: Text::from_static(env!("CARGO_PKG_VERSION")),
            lease: Duration::from_secs(2),
            beat: Duration::from_millis(250),
            patience: Duration::from_secs(10),
            clock_drift: Duration::from_secs(10),
            placement: Placement::default(),
        }
    }
}
