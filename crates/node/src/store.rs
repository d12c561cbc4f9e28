//! Opening a store's log in a directory.

use std::path::Path;
use std::sync::Arc;

use everfold::engine::{World, world::System};
use everfold::{Node, NodeOptions};
use everfold_log::{Log, Options};

use crate::output::say;

/// Opens the store on a directory, which is made if it is absent.
///
/// # Errors
/// The directory holds something else, is in use or is damaged.
pub async fn open(directory: &Path) -> anyhow::Result<Arc<Node>> {
    let world: Arc<dyn World> = System::current();
    let log = open_log(directory, world.clone()).await?;
    let opened = everfold_store::application()
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

async fn open_log(directory: &Path, world: Arc<dyn World>) -> anyhow::Result<Arc<Log>> {
    let path = directory.to_owned();
    let open = move || Log::open_directory(path, world, Options::default());
    let log = tokio::task::spawn_blocking(open).await??;
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
