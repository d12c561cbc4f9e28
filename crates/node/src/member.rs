//! The program as one of many nodes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use everfold::cluster::{Clustered, Identity, Settings};
use everfold::engine::{Engine, World};
use everfold::{Application, NodeOptions};

use crate::failure::refused;
use crate::output::say;

/// How long partitions may take to move away before the node leaves without.
const DRAIN: Duration = Duration::from_secs(20);

/// How a node takes part in a cluster.
#[derive(clap::Args)]
pub struct Member {
    /// Be one of many nodes: the directory with the node's certificate, made by `everfold init`
    #[arg(long, value_name = "DIR", requires = "engine")]
    pub identity: Option<PathBuf>,
    /// Address to listen on for other nodes; any free port for port 0
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:0",
        requires = "identity"
    )]
    peers: SocketAddr,
    /// Address at which other nodes reach this one, if it is another
    #[arg(long, value_name = "HOST:PORT", requires = "identity")]
    advertise: Option<String>,
    /// What fails together with this node: its standbys are in other zones, if there are any
    #[arg(long, value_name = "NAME", requires = "identity")]
    zone: Option<String>,
    /// Share of the partitions, beside that of other nodes
    #[arg(long, value_name = "N", default_value_t = 1, requires = "identity")]
    weight: u32,
}

impl Member {
    /// Joins the cluster of the log.
    ///
    /// # Errors
    /// What is in the way; nothing was joined.
    pub async fn join(
        &self,
        identity: &Path,
        application: Application,
        (engine, world): (Arc<dyn Engine>, Arc<dyn World>),
    ) -> anyhow::Result<Clustered> {
        let joined = self.try_join(identity, application, (engine.clone(), world));
        let joined = joined.await;
        if joined.is_err() {
            engine.close().await;
        }
        let clustered = joined?;
        let members = clustered.roster().members.len();
        say(&format!(
            "one of {members} nodes; `everfold cluster` shows them"
        ));
        Ok(clustered)
    }

    async fn try_join(
        &self,
        identity: &Path,
        application: Application,
        ground: (Arc<dyn Engine>, Arc<dyn World>),
    ) -> anyhow::Result<Clustered> {
        let identity = Identity::from_folder(identity)?;
        let name = identity.name().name.clone();
        let mut settings = Settings::new(name, identity.cluster().clone(), self.peers);
        settings.address = self.advertise.clone().unwrap_or_default().into();
        settings.zone = self.zone.clone().unwrap_or_default().into();
        settings.weight = self.weight;
        let options = NodeOptions::default();
        let joined = Clustered::join(application, ground, options, settings, &identity);
        joined.await.context("this node has not joined")
    }
}

/// Has everything moved to other nodes, and leaves.
///
/// # Errors
/// None so far; the signature is that of what is served before.
pub async fn leave(clustered: Clustered) -> anyhow::Result<()> {
    if !clustered.drain(DRAIN).await {
        say("some partitions had nowhere to go; who takes them over reads them from the log");
    }
    clustered.close().await;
    Ok(())
}

/// A node that takes everything for itself must not take it from a cluster.
///
/// # Errors
/// A cluster serves the log, or the store does not say whether one does.
pub async fn check_alone(engine: &dyn Engine) -> anyhow::Result<()> {
    let Some(coordinator) = engine.coordinator() else {
        return Ok(());
    };
    let roster = coordinator.look().await?;
    let Some(living) = roster.members.first() else {
        return Ok(());
    };
    let (name, cluster) = (&living.member.name, &living.member.cluster);
    Err(refused(format!(
        "{} node(s) of the cluster {cluster} serve this log, {name} among them: join them with \
         --identity DIR (`everfold init` makes one), or stop them first",
        roster.members.len()
    )))
}
