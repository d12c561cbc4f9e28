//! The server of both sides, each in a schema of its own.

use std::path::Path;

use anyhow::Context as _;
use everfold_postgres::server::PrivateServer;
use tempfile::TempDir;

/// Of our side's log.
const SCHEMA_OF_OURS: &str = "everfold_bench_commands";
/// Of the other side's table.
pub(crate) const SCHEMA_OF_PEER: &str = "everfold_bench_peer";
/// Room for the load, and for a connection per caller.
const SETTINGS: &[(&str, &str)] = &[
    ("shared_buffers", "1GB"),
    ("max_wal_size", "8GB"),
    ("max_connections", "300"),
];

/// A server with room for both sides.
pub(crate) struct Site {
    address: String,
    private: Option<(PrivateServer, TempDir)>,
    load_before: String,
}

impl Site {
    /// The server at an address, or for `postgres` a private one below a directory.
    pub(crate) fn find(engine: &str, data: &Path) -> anyhow::Result<Self> {
        let load_before = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load_before = load_before.trim().to_owned();
        if engine != "postgres" {
            return Ok(Self {
                address: engine.to_owned(),
                private: None,
                load_before,
            });
        }
        std::fs::create_dir_all(data)?;
        let data = data.canonicalize()?;
        let directory = tempfile::Builder::new()
            .prefix("everfold-compare-")
            .tempdir_in(&data)
            .with_context(|| format!("cannot use {}", data.display()))?;
        let server = PrivateServer::start(&directory.path().join("server"), SETTINGS)?;
        server.create_database("bench")?;
        Ok(Self {
            address: server.address("bench"),
            private: Some((server, directory)),
            load_before,
        })
    }

    /// The database.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Our side's log in it.
    pub(crate) fn address_of_ours(&self) -> String {
        let joint = if self.address.contains('?') { '&' } else { '?' };
        format!("{}{joint}schema={SCHEMA_OF_OURS}", self.address)
    }

    /// The load averages before anything was started.
    pub(crate) fn load_before(&self) -> &str {
        &self.load_before
    }

    /// Ends a private server and removes its files.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        match self.private {
            Some((server, _directory)) => Ok(server.stop()?),
            None => Ok(()),
        }
    }
}
