//! The server of a measurement, and the two schemas in it that are removed at the end.

use std::path::Path;

use anyhow::{Context as _, bail};
use everfold_postgres::server::PrivateServer;
use everfold_postgres::{Postgres, remove, schema_sql, without_password};

/// Our side's log.
pub(crate) const OURS: &str = "everfold_bench";
/// The same tables, for the bare loop.
pub(crate) const BARE: &str = "everfold_bench_bare";
/// The database on a private server.
const DATABASE: &str = "bench";
/// What a server for measurements is told: room for the load, so that checkpoints do not fall into
/// one side's turn more than into the other's. Durability is as it comes.
const SETTINGS: &[(&str, &str)] = &[("shared_buffers", "1GB"), ("max_wal_size", "8GB")];

/// A server with room for both sides.
pub(crate) struct Site {
    address: String,
    private: Option<PrivateServer>,
}

impl Site {
    /// The server at an address, or for `postgres` a private one below a directory.
    pub(crate) fn find(engine: &str, directory: &Path) -> anyhow::Result<Self> {
        if engine == "postgres" {
            let server = PrivateServer::start(&directory.join("server"), SETTINGS)?;
            server.create_database(DATABASE)?;
            let address = format!("{}?schema={OURS}", server.address(DATABASE));
            return Ok(Self {
                address,
                private: Some(server),
            });
        }
        if !engine.starts_with("postgres://") && !engine.starts_with("postgresql://") {
            bail!(
                "{:?} is not measured here: give `postgres`, or postgres://user@host/database",
                without_password(engine)
            );
        }
        // Whatever the address says: the log of somebody is none to measure on.
        let joint = if engine.contains('?') { '&' } else { '?' };
        Ok(Self {
            address: format!("{engine}{joint}schema={OURS}"),
            private: None,
        })
    }

    /// Our side's log.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A second log on the same server, in the schema that is the bare loop's otherwise.
    pub(crate) fn other_address(&self) -> String {
        self.address
            .replace(&format!("schema={OURS}"), &format!("schema={BARE}"))
    }

    /// Removes what an earlier measurement has left that was interrupted.
    pub(crate) async fn clear(&self) -> anyhow::Result<()> {
        for address in [self.address.clone(), self.other_address()] {
            remove(&address)
                .await
                .with_context(|| format!("{OURS} cannot be made anew"))?;
        }
        Ok(())
    }

    /// Makes the bare loop's tables: the same definition, without a log in it.
    pub(crate) async fn make_bare(&self, log: &Postgres) -> anyhow::Result<()> {
        let session = log.session().await?;
        let drop = format!("drop schema if exists {BARE} cascade");
        session.batch_execute(&drop).await?;
        session.batch_execute(&schema_sql(BARE)).await?;
        Ok(())
    }

    /// What the server was told that matters for figures.
    pub(crate) async fn settings(&self, log: &Postgres) -> anyhow::Result<String> {
        let session = log.session().await?;
        let sql = "select 'PostgreSQL ' || current_setting('server_version') || ', ' || \
                   string_agg(name || '=' || current_setting(name), ', ' order by name) \
                   from pg_settings where name in ('fsync', 'synchronous_commit', \
                   'full_page_writes', 'wal_sync_method', 'shared_buffers', 'max_wal_size', \
                   'commit_delay', 'ssl', 'wal_compression')";
        Ok(session.query_one(sql, &[]).await?.try_get(0)?)
    }

    /// Removes both schemas and ends a private server.
    pub(crate) async fn close(self, log: &Postgres) -> anyhow::Result<()> {
        if self.private.is_none() {
            let session = log.session().await?;
            let drop = format!("drop schema if exists {BARE} cascade");
            session.batch_execute(&drop).await?;
        }
        everfold_engine::Engine::close(log).await;
        match self.private {
            Some(server) => Ok(server.stop()?),
            None => Ok(remove(&self.address).await?),
        }
    }

    /// Removes both logs, which nobody has open any more, and ends a private server.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        match self.private {
            Some(server) => Ok(server.stop()?),
            None => self.clear().await,
        }
    }
}
