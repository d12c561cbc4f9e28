//! The program as one of many nodes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use everfold::cluster::{Alone, ClusterError, Clustered, Identity, Settings};
use everfold::engine::coordination::JoinError;
use everfold::engine::{Engine, Text, World};
use everfold::{Application, NodeOptions};
use tokio::sync::watch;

use crate::failure::refused;
use crate::output::say;

/// How long partitions may take to move away before the node leaves without.
const DRAIN: Duration = Duration::from_secs(20);

/// How often the files of the identity are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

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
        tokio::spawn(tell_trouble(clustered.trouble()));
        tokio::spawn(watch_identity(identity.to_owned()));
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

/// Tells what keeps the node from being of full use.
async fn tell_trouble(mut trouble: watch::Receiver<Option<Text>>) {
    while trouble.changed().await.is_ok() {
        let now = trouble.borrow_and_update().clone();
        match now {
            Some(trouble) => say(&format!("trouble: {trouble}")),
            None => say("the trouble is over"),
        }
    }
}

/// Tells when the files of the identity are gone: the node goes on with what it has read, but would not
/// come back.
async fn watch_identity(folder: PathBuf) {
    let mut is_there = true;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let looked = Identity::from_folder(&folder);
        if looked.is_ok() != is_there {
            is_there = looked.is_ok();
            match looked {
                Ok(_) => say("the identity can be read again"),
                Err(error) => say(&format!(
                    "trouble: the identity cannot be read any more: {error}. This node goes on, and \
                     will not start again: put the directory back, or issue another certificate"
                )),
            }
        }
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

/// A node that takes everything for itself must not take it from a cluster, and says that it is there.
///
/// # Errors
/// Somebody serves the log, or the store does not say whether anybody does.
pub async fn serve_alone(
    application: &str,
    engine: &Arc<dyn Engine>,
    world: &Arc<dyn World>,
    address: SocketAddr,
) -> anyhow::Result<Option<Alone>> {
    let address = format!("http://{address}/");
    match Alone::register(application, engine, world, &address).await {
        Ok(alone) => Ok(alone),
        Err(ClusterError::Join(JoinError::OtherCluster { living, .. })) => Err(refused(format!(
            "nodes of the cluster {living} serve this log (`everfold cluster` shows them): join them \
             with --identity DIR (`everfold init` makes one), or stop them first"
        ))),
        Err(
            error @ (ClusterError::Alone { .. }
            | ClusterError::Join(JoinError::OtherApplication { .. })),
        ) => Err(refused(error)),
        Err(error) => Err(error.into()),
    }
}
