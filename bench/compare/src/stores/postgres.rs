//! PostgreSQL: the server and the table, for both ways to append.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::ensure;
use rustix::process::Signal;
use tokio_postgres::{Client, NoTls, Statement};

use super::{postgres_groups, postgres_rows};
use crate::server::{Programs, Server, free_port, lesser_user, run_as};
use crate::store::{Replayed, Store};
use crate::workload::name;

const SCHEMA: &str = "CREATE TABLE events (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL,
    entity text NOT NULL,
    version bigint NOT NULL,
    type text NOT NULL,
    payload bytea NOT NULL,
    UNIQUE (entity, version))";

/// Everything that matters for what an acknowledgement means, and what Debian's defaults leave small.
const SETTINGS: &[&str] = &[
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "wal_sync_method=fdatasync",
    "shared_buffers=1GB",
    "max_wal_size=4GB",
    "max_connections=300",
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
];

/// The most connections that single rows are inserted over.
pub(super) const CONNECTIONS: usize = 256;

/// A server of its own with an empty table.
pub(super) struct Database {
    server: Server,
    port: u16,
    reader: Client,
    one_entity: Statement,
}

const ONE_ENTITY: &str = "SELECT sequence, id, entity, version, type, payload FROM events
    WHERE entity = $1 ORDER BY version";

/// Group commits over two connections.
pub(crate) async fn open_groups(
    directory: &Path,
    programs: &Programs,
) -> anyhow::Result<Arc<dyn Store>> {
    let database = Database::start(directory, programs).await?;
    Ok(Arc::new(postgres_groups::Groups::new(database).await?))
}

/// A row per statement, a connection per writer.
pub(crate) async fn open_rows(
    directory: &Path,
    programs: &Programs,
) -> anyhow::Result<Arc<dyn Store>> {
    let database = Database::start(directory, programs).await?;
    Ok(Arc::new(postgres_rows::Rows::new(database)))
}

impl Database {
    async fn start(directory: &Path, programs: &Programs) -> anyhow::Result<Self> {
        let postgres = programs.find("postgres")?;
        let initdb = programs.find("initdb")?;
        let user = lesser_user("postgres", directory)?;
        let data = directory.join("postgres");
        let mut make = Command::new(initdb);
        run_as(&mut make, user);
        make.current_dir(directory).arg("-D").arg(&data);
        make.args(["-A", "trust", "-U", "everfold", "-E", "UTF8", "--locale=C"]);
        let made = make.output()?;
        let said = String::from_utf8_lossy(&made.stderr);
        ensure!(made.status.success(), "initdb failed: {said}");
        let port = free_port()?;
        let mut command = Command::new(postgres);
        run_as(&mut command, user);
        command.current_dir(directory).arg("-D").arg(&data);
        command.args(["-p", &port.to_string()]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        // SIGINT is its fast shutdown.
        let server = Server::start(command, directory, port, Signal::INT)?;
        let reader = connect(port).await?;
        reader.batch_execute(SCHEMA).await?;
        let one_entity = reader.prepare(ONE_ENTITY).await?;
        Ok(Self {
            server,
            port,
            reader,
            one_entity,
        })
    }

    pub(super) async fn connect(&self) -> anyhow::Result<Client> {
        connect(self.port).await
    }

    /// Everything, in pages by the primary key.
    pub(super) async fn replay(&self) -> anyhow::Result<Replayed> {
        const PAGE: i64 = 5_000;
        let sql = "SELECT sequence, id, entity, version, type, payload FROM events
            WHERE sequence > $1 ORDER BY sequence LIMIT $2";
        let statement = self.reader.prepare(sql).await?;
        let (mut after, mut replayed) = (0i64, Replayed::default());
        loop {
            let rows = self.reader.query(&statement, &[&after, &PAGE]).await?;
            for row in &rows {
                replayed.add(row.try_get::<_, &[u8]>(5)?.len());
            }
            match rows.last() {
                Some(last) => after = last.try_get(0)?,
                None => return Ok(replayed),
            }
        }
    }

    pub(super) async fn history(&self, entity: usize) -> anyhow::Result<Replayed> {
        let entity = name(entity);
        let rows = self.reader.query(&self.one_entity, &[&entity]).await?;
        let mut replayed = Replayed::default();
        for row in &rows {
            replayed.add(row.try_get::<_, &[u8]>(5)?.len());
        }
        Ok(replayed)
    }

    pub(super) fn stop(&self) -> anyhow::Result<()> {
        self.server.stop()
    }
}

async fn connect(port: u16) -> anyhow::Result<Client> {
    let address = format!("host=127.0.0.1 port={port} user=everfold dbname=postgres");
    let mut tries = 0;
    let (client, connection) = loop {
        match tokio_postgres::connect(&address, NoTls).await {
            Ok(connected) => break connected,
            // It listens a moment before it lets anybody in.
            Err(_) if tries < 200 => tries += 1,
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    tokio::spawn(async move {
        // Whoever uses the client hears of it.
        let _ = connection.await;
    });
    Ok(client)
}
