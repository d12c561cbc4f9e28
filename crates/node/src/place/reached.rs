//! Opening the log of a place.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use everfold::engine::world::System;
use everfold::engine::{Engine, World};
use everfold_log::{Log, OpenError, Options, ReadOnly};
use everfold_postgres::Postgres;
use everfold_postgres::server::{PrivateServer, ServerError};

use super::{PRIVATE, Place};
use crate::failure::refused;
use crate::output::say;

/// How often a log in use is read back.
const SCRUB_EVERY: Duration = Duration::from_secs(24 * 3600);
/// The first pause before a store that is away is tried again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// The database of a private server.
const DATABASE: &str = "everfold";

/// A place whose log can be opened: a private server runs, and does so until this is dropped. So it
/// has to outlive whatever is opened.
pub struct Reached {
    kind: Kind,
    server: Option<PrivateServer>,
}

enum Kind {
    Directory(PathBuf),
    Database(String),
}

impl Reached {
    /// Reaches a place to write to it; starts a private server if it is one's. Blocks.
    ///
    /// # Errors
    /// The server does not start.
    pub fn to_write(place: Place) -> anyhow::Result<Self> {
        match place {
            Place::Directory(path) => Ok(Self::without_server(Kind::Directory(path))),
            Place::Database(address) => Ok(Self::without_server(Kind::Database(address))),
            Place::Private(path) => {
                if !has_server(&path) {
                    say("setting up a private PostgreSQL server");
                }
                let server = PrivateServer::start(&path, &[]).map_err(in_use)?;
                server.create_database(DATABASE)?;
                Ok(Self {
                    kind: Kind::Database(server.address(DATABASE)),
                    server: Some(server),
                })
            }
        }
    }

    /// The same to look only: nothing is made where nothing is.
    ///
    /// # Errors
    /// There is no log, or the server does not start.
    pub fn to_look_at(place: Place) -> anyhow::Result<Self> {
        match &place {
            Place::Directory(path) => require_log(path)?,
            Place::Private(path) if !has_server(path) => {
                return Err(refused(format!(
                    "there is no private server in {}",
                    path.display()
                )));
            }
            _ => {}
        }
        Self::to_write(place)
    }

    fn without_server(kind: Kind) -> Self {
        Self { kind, server: None }
    }

    /// The address of the database, password included, if it is one.
    pub fn database(&self) -> Option<&str> {
        match &self.kind {
            Kind::Database(address) => Some(address),
            Kind::Directory(_) => None,
        }
    }

    /// Opens the log for writing; makes it if it is absent.
    ///
    /// # Errors
    /// It is in use, damaged, or cannot be reached.
    pub async fn open(&self, world: Arc<dyn World>) -> anyhow::Result<Arc<dyn Engine>> {
        match &self.kind {
            Kind::Directory(path) => Ok(open_log(path, world).await?),
            Kind::Database(address) => {
                let log = Postgres::open(address, world, everfold_postgres::Options::default());
                Ok(log.await?)
            }
        }
    }

    /// As [`Reached::open`], and waits for a database that is away: it may be starting, as this node is.
    ///
    /// # Errors
    /// As for [`Reached::open`], but for a database that does not answer.
    pub async fn open_patiently(&self, world: Arc<dyn World>) -> anyhow::Result<Arc<dyn Engine>> {
        let mut pause = PAUSES.0;
        loop {
            let error = match self.open(world.clone()).await {
                Ok(engine) => return Ok(engine),
                Err(error) => error,
            };
            let away = error.downcast_ref::<everfold_postgres::OpenError>();
            let is_away = away.is_some_and(|error| {
                use everfold_postgres::OpenError::Unreachable;
                matches!(error, Unreachable { passing: true, .. })
            });
            if !is_away {
                return Err(error);
            }
            say(&format!(
                "waiting for the store, nothing is joined: {error}"
            ));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Opens the log to be looked at, also while another process has it open: nothing is changed.
    ///
    /// # Errors
    /// There is none, it is damaged, or it cannot be reached.
    pub async fn look(&self) -> anyhow::Result<Arc<dyn Engine>> {
        let world: Arc<dyn World> = System::current();
        match &self.kind {
            Kind::Directory(path) => Ok(look_at_log(path, world).await?),
            Kind::Database(address) => {
                let options = everfold_postgres::Options::default();
                Ok(Postgres::open_read_only(address, world, options).await?)
            }
        }
    }

    /// Stops the private server, if there is one. Dropping does so too, and tells nobody.
    ///
    /// # Errors
    /// It had to be killed.
    pub fn close(self) -> anyhow::Result<()> {
        Ok(self.server.map_or(Ok(()), PrivateServer::stop)?)
    }
}

fn has_server(path: &Path) -> bool {
    path.join("data").is_dir()
}

fn in_use(error: ServerError) -> anyhow::Error {
    match error {
        ServerError::InUse(_) => anyhow::Error::new(error)
            .context("if the log is served, commands that only look can ask the server with --url"),
        error => error.into(),
    }
}

/// Refuses a directory without a log, so that looking at one does not make one.
///
/// # Errors
/// There is none.
pub fn require_log(directory: &Path) -> anyhow::Result<()> {
    // Any segment will do: which ones are missing is the log's to say.
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    if names
        .map(|name| name.to_string_lossy().into_owned())
        .any(|name| [".log", ".sealed"].iter().any(|end| name.ends_with(end)))
    {
        return Ok(());
    }
    let instead = match has_server(&directory.join(PRIVATE)) {
        true => "its log is on a private server: add --engine postgres",
        false => "name the directory of one with --data",
    };
    Err(refused(format!(
        "there is no log in {}; {instead}",
        directory.display()
    )))
}

async fn look_at_log(path: &Path, world: Arc<dyn World>) -> anyhow::Result<Arc<ReadOnly>> {
    let path = path.to_owned();
    let open = move || Log::open_directory_read_only(path, world, Options::default());
    Ok(tokio::task::spawn_blocking(open).await??)
}

async fn open_log(directory: &Path, world: Arc<dyn World>) -> anyhow::Result<Arc<Log>> {
    let path = directory.to_owned();
    let mut options = Options::default();
    options.scrub_every = Some(SCRUB_EVERY);
    let open = move || Log::open_directory(path, world, options);
    let opened = tokio::task::spawn_blocking(open).await?;
    let log = opened.map_err(|error| match error {
        OpenError::InUse { .. } => anyhow::Error::new(error)
            .context("if it is served, commands that only look can ask the server with --url"),
        error => error.into(),
    })?;
    let report = log.report();
    if let Some((file, at, bytes)) = &report.torn {
        say(&format!(
            "{file}: {bytes} bytes from byte {at} on were cut off; nobody was told that they were \
             written"
        ));
    }
    if let Some(reason) = &report.areas_discarded {
        say(&format!(
            "stored views were discarded ({reason}) and are made again from the log"
        ));
    }
    Ok(log)
}
