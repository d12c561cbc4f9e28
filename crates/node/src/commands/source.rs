//! Where a command finds the log that it shows.

use std::path::{Path, PathBuf};

use clap::ArgGroup;
use everfold::Inspector;

use crate::demo::directory::log_in;
use crate::store;

/// A directory, or a log of a server.
#[derive(clap::Args)]
#[command(group(ArgGroup::new("source").required(true).args(["data", "url"])))]
pub(super) struct Source {
    /// Directory of a log, or of the demonstration; another process may have it open, as it is only
    /// read: what is shown is durable
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Server to ask instead, http://127.0.0.1:4600 for example
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    /// Which of the server's logs
    #[arg(
        long,
        value_name = "NAME",
        default_value = "main",
        conflicts_with = "data"
    )]
    pub(super) log: String,
}

impl Source {
    /// The log's own directory.
    pub(super) fn directory(&self) -> PathBuf {
        log_in(self.data.as_deref().unwrap_or_else(|| Path::new(".")))
    }

    /// Looks at the store in the directory.
    pub(super) fn look<T>(
        &self,
        look: impl AsyncFnOnce(&Inspector) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let path = self.directory();
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(async {
            let store = store::inspector(&path).await?;
            look(&store).await
        })
    }
}
