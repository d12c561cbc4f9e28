//! Opening an application by address.

use std::future::Future;
use std::sync::Arc;

use everfold_runtime::engine::world::System;
use everfold_runtime::engine::{Engine, World};
use everfold_runtime::{Application, Node, NodeOptions, StartError};

/// Brings an application onto the engine that an address names.
pub trait Open {
    /// Opens `address`: a directory (`./data` or `file:./data`) for the embedded log, `memory:` for
    /// a log that is gone with the process.
    ///
    /// # Errors
    /// [`Error`]: the address, the engine or the application's definition is at fault; each says
    /// what to do.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    fn open(self, address: &str) -> impl Future<Output = Result<Node, Error>> + Send;

    /// The same with options: what may wait, what stays in memory, what is stored and when.
    ///
    /// # Errors
    /// As for [`Open::open`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    fn open_with(
        self,
        address: &str,
        options: NodeOptions,
    ) -> impl Future<Output = Result<Node, Error>> + Send;
}

impl Open for Application {
    async fn open(self, address: &str) -> Result<Node, Error> {
        self.open_with(address, NodeOptions::default()).await
    }

    async fn open_with(self, address: &str, options: NodeOptions) -> Result<Node, Error> {
        let world: Arc<dyn World> = System::current();
        let engine = engine_at(address, world.clone()).await?;
        match self.open_on(engine.clone(), world, options).await {
            Ok(node) => Ok(node),
            Err(error) => {
                engine.close().await;
                Err(error.into())
            }
        }
    }
}

/// The engine that an address names.
///
/// # Errors
/// [`Error`] as for [`Open::open`].
pub async fn engine_at(address: &str, world: Arc<dyn World>) -> Result<Arc<dyn Engine>, Error> {
    match address.split_once(':') {
        #[cfg(feature = "memory")]
        Some(("memory", _)) => {
            let memory = everfold_runtime::engine::memory::Memory::new(world, 16);
            Ok(Arc::new(memory.map_err(|error| Error::Address {
                address: address.to_owned(),
                reason: error.to_string(),
            })?))
        }
        Some(("file", path)) => embedded(path, world).await,
        // One letter is a drive, not a scheme.
        Some((scheme, _)) if scheme.len() > 1 && !scheme.contains(['/', '.']) => {
            let reason = format!("no engine of this build is called {scheme:?}");
            Err(Error::Address {
                address: address.to_owned(),
                reason,
            })
        }
        _ => embedded(address, world).await,
    }
}

#[cfg(feature = "embedded")]
async fn embedded(path: &str, world: Arc<dyn World>) -> Result<Arc<dyn Engine>, Error> {
    let (done, opened) = tokio::sync::oneshot::channel();
    let path = std::path::PathBuf::from(path);
    let inner = world.clone();
    let open = move || {
        let options = everfold_log::Options::default();
        let _ = done.send(everfold_log::Log::open_directory(path, inner, options));
    };
    world.block("open the log", Box::new(open));
    let log = opened.await.map_err(|_| Error::Interrupted)??;
    Ok(log)
}

#[cfg(not(feature = "embedded"))]
async fn embedded(path: &str, _: Arc<dyn World>) -> Result<Arc<dyn Engine>, Error> {
    let reason = "a directory needs the feature `embedded`".to_owned();
    Err(Error::Address {
        address: path.to_owned(),
        reason,
    })
}

/// An application that did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No engine has such an address.
    #[error("cannot open {address:?}: {reason}; give a directory, or `memory:`")]
    Address {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The embedded log did not open.
    #[cfg(feature = "embedded")]
    #[error(transparent)]
    Log(#[from] everfold_log::OpenError),
    /// The application did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A command or query at start-up failed.
    #[error(transparent)]
    Command(#[from] everfold_runtime::CommandError),
    /// The runtime ended while the log was being opened.
    #[error("interrupted while opening; start again")]
    Interrupted,
}
