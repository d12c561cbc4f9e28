//! Opening a store's log in a directory.

use std::path::Path;
use std::sync::Arc;

use everfold::engine::{World, world::System};
use everfold::{Application, Node, NodeOptions};
use everfold_log::{Log, OpenError, Options};
use everfold_store::customer::Customer;
use everfold_store::order::Order;

use crate::failure::refused;
use crate::output::say;

/// Opens the store on a directory, which is made if it is absent.
///
/// # Errors
/// The directory holds something else, is in use or is damaged.
pub async fn open(directory: &Path) -> anyhow::Result<Arc<Node>> {
    open_as(everfold_store::application(), directory).await
}

/// Opens the store to be looked at: nothing follows from what is found there.
///
/// # Errors
/// As for [`open`].
pub async fn open_still(directory: &Path) -> anyhow::Result<Arc<Node>> {
    let entities = Application::new("store")
        .entity::<Customer>()
        .entity::<Order>();
    open_as(entities, directory).await
}

async fn open_as(application: Application, directory: &Path) -> anyhow::Result<Arc<Node>> {
    let world: Arc<dyn World> = System::current();
    let log = open_log(directory, world.clone()).await?;
    let opened = application
        .open_on(log.clone(), world, NodeOptions::default())
        .await;
    match opened {
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
        .into_iter()
        .any(|name| name.to_string_lossy().ends_with(".log"))
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
    let open = move || Log::open_directory(path, world, Options::default());
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
