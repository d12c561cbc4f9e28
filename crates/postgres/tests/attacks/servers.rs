//! Servers, shared by tests where none of them stops it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use everfold_engine::world::System;
use everfold_postgres::server::PrivateServer;
use everfold_postgres::{Options, Postgres};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// The database that logs of tests are in.
pub const DATABASE: &str = "shop";

/// A server and the directory it works in.
pub struct Server {
    // The server ends before its directory does.
    pub server: PrivateServer,
    pub directory: TempDir,
    schemas: AtomicU64,
}

static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());

impl Server {
    /// A server of its own, for a test that stops it or needs other settings.
    pub fn own(settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = PrivateServer::start(&directory.path().join("server"), settings).unwrap();
        server.create_database(DATABASE).unwrap();
        Self {
            server,
            directory,
            schemas: AtomicU64::new(0),
        }
    }

    /// The server that tests share; it ends with the last of them.
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(|error| error.into_inner());
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Self::own(&[("max_connections", "200")]));
        *shared = Arc::downgrade(&server);
        server
    }

    /// The address of a log that does not exist yet.
    pub fn fresh(&self) -> String {
        let number = self.schemas.fetch_add(1, Ordering::Relaxed);
        self.log(&format!("log_{number}"))
    }

    /// The address of the log in a schema.
    pub fn log(&self, schema: &str) -> String {
        format!("{}?schema={schema}&sslmode=disable", self.database())
    }

    /// The address of the database.
    pub fn database(&self) -> String {
        self.server.address(DATABASE)
    }
}

/// The schema in the address of a log.
pub fn schema(address: &str) -> &str {
    let (_, query) = address.split_once("schema=").unwrap();
    query.split('&').next().unwrap()
}

/// Opens a log of four partitions.
pub async fn open(address: &str) -> Arc<Postgres> {
    open_with(address, 4).await
}

/// Opens a log of so many partitions.
pub async fn open_with(address: &str, partitions: u16) -> Arc<Postgres> {
    let options = Options {
        partitions: Some(partitions),
        ..Options::default()
    };
    let log = Postgres::open(address, System::current(), options).await;
    log.unwrap_or_else(|error| panic!("{error}"))
}

/// A session of somebody else, in the database of an address.
pub async fn outsider(address: &str) -> Client {
    let base = address.split('?').next().unwrap();
    let (client, connection) = tokio_postgres::connect(base, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
