//! Opening the log of a store, or of another application, in a directory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use everfold::engine::{World, world::System};
use everfold::{Application, Inspector, Node, NodeOptions};
use everfold_ledger::account::Account;
use everfold_ledger::transit::Transit;
use everfold_log::{Log, OpenError, Options, ReadOnly};

use crate::failure::refused;
use crate::output::say;

/// How often a log in use is read back.
const SCRUB_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Opens the store on a directory, which is made if it is absent.
///
/// # Errors
/// The directory holds something else, is in use or is damaged.
pub async fn open(directory: &Path) -> anyhow::Result<Arc<Node>> {
    open_in(Form::Choreography, directory, NodeOptions::default()).await
}

/// Who leads an order from its placing to its decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Nobody: customers and orders answer each other's events
    #[default]
    Choreography,
    /// A saga for each order, which `everfold sagas` shows
    Saga,
}

/// Opens the store in one of its forms and with options, as [`open`] does.
///
/// # Errors
/// As for [`open`].
pub async fn open_in(
    form: Form,
    directory: &Path,
    options: NodeOptions,
) -> anyhow::Result<Arc<Node>> {
    let application = match form {
        Form::Choreography => everfold_store::application(),
        Form::Saga => everfold_store::orchestrated(),
    };
    open_as(application, directory, options).await
}

/// Opens the store, or the ledger, to be looked at, also while another process has it open: nothing is changed.
///
/// # Errors
/// There is no log, or it is damaged.
pub async fn inspector(directory: &Path) -> anyhow::Result<Inspector> {
    let log = look_at_log(directory).await?;
    // The form with a saga has all types of entities that any form has.
    let entities = everfold_store::orchestrated()
        .entity::<Account>()
        .entity::<Transit>();
    Ok(entities.inspector(log)?)
}

/// Opens the log alone, to be looked at, also while another process has it open.
///
/// # Errors
/// There is no log, or it is damaged.
pub async fn look_at_log(directory: &Path) -> anyhow::Result<Arc<ReadOnly>> {
    require_log(directory)?;
    let world: Arc<dyn World> = System::current();
    let path = directory.to_owned();
    let open = move || Log::open_directory_read_only(path, world, Options::default());
    Ok(tokio::task::spawn_blocking(open).await??)
}

/// Opens any application on a directory, which is made if it is absent.
///
/// # Errors
/// As for [`open`].
pub async fn open_as(
    application: Application,
    directory: &Path,
    options: NodeOptions,
) -> anyhow::Result<Arc<Node>> {
    let world: Arc<dyn World> = System::current();
    let log = open_log(directory, world.clone()).await?;
    match application.open_on(log.clone(), world, options).await {
        Ok(node) => Ok(Arc::new(node)),
        Err(error) => {
            everfold::engine::Engine::close(&*log).await;
            Err(error.into())
        }
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
    Err(refused(format!(
        "there is no log in {}; name the directory of one with --data",
        directory.display()
    )))
}

/// Opens the log alone.
///
/// # Errors
/// As for [`open`].
pub async fn open_log(directory: &Path, world: Arc<dyn World>) -> anyhow::Result<Arc<Log>> {
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
