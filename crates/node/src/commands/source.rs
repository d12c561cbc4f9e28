//! Where a command finds the log that it shows.

use std::path::PathBuf;

use clap::ArgGroup;
use everfold::Inspector;

use crate::place::{Choice, Parser, Place, Reached};
use crate::store;

/// A directory, a database, or a log of a server.
#[derive(clap::Args)]
#[command(group(ArgGroup::new("source").required(true).multiple(true).args(["data", "url", "engine"])))]
pub(super) struct Source {
    /// Directory of a log, or of the demonstration; another process may have it open, as it is only
    /// read: what is shown is durable
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Database to look at instead, postgres://user:password@host/database; or postgres for the
    /// private server of the directory. It is only read, and may be a replica
    #[arg(long, value_name = "ADDRESS", value_parser = Parser)]
    engine: Option<Choice>,
    /// Server to ask instead, http://127.0.0.1:4600 for example
    #[arg(long, value_name = "URL", conflicts_with_all = ["data", "engine"])]
    pub(super) url: Option<String>,
    /// Which of the server's logs
    #[arg(
        long,
        value_name = "NAME",
        default_value = "main",
        conflicts_with_all = ["data", "engine"]
    )]
    pub(super) log: String,
}

impl Source {
    /// Reaches the log, where no server is to be asked.
    pub(super) fn reach(&self) -> anyhow::Result<Reached> {
        let place = Place::named(self.engine.as_ref(), self.data.as_deref())?;
        Reached::to_look_at(place)
    }

    /// Looks at the store, or the ledger, in it.
    pub(super) fn look<T>(
        &self,
        look: impl AsyncFnOnce(&Inspector) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let reached = self.reach()?;
        let runtime = tokio::runtime::Runtime::new()?;
        let seen = runtime.block_on(async {
            let store = store::inspector(&reached).await?;
            let seen = look(&store).await;
            store.engine().close().await;
            seen
        })?;
        drop(runtime);
        reached.close()?;
        Ok(seen)
    }
}
