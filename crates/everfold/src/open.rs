//! Opening an application by address.

use std::future::Future;
use std::sync::Arc;

use everfold_runtime::engine::world::System;
use everfold_runtime::engine::{Engine, World};
use everfold_runtime::{Application, Node, NodeOptions, StartError};

/// Brings an application onto the engine that an address names.
pub trait Open {
    /// Opens `address`:
    ///
    /// - `./data` or `file:./data`: the embedded log in a directory, with the feature `embedded`
    ///   (the default);
    /// - `postgres://user:password@host:5432/database`: a log in a PostgreSQL database, with the
    ///   feature `postgres`. `?schema=orders` keeps it apart from others in the same database,
    ///   `?partitions=32` says how many partitions a new one gets, `?sslmode=verify-full` asks for
    ///   TLS with a certificate that can be believed;
    /// - `memory:`: a log that is gone with the process, with the feature `memory`.
    ///
    /// The application is the same on all of them.
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
        Some(("postgres" | "postgresql", _)) => database(address, world).await,
        // One letter is a drive, not a scheme.
        Some((scheme, _)) if scheme.len() > 1 && !scheme.contains(['/', '.']) => {
            let reason = format!("no engine of this build is called {scheme:?}");
            Err(Error::Address {
                address: only_scheme(address),
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

#[cfg(feature = "postgres")]
async fn database(address: &str, world: Arc<dyn World>) -> Result<Arc<dyn Engine>, Error> {
    let options = everfold_postgres::Options::default();
    let log = everfold_postgres::Postgres::open(address, world, options).await?;
    Ok(log)
}

#[cfg(not(feature = "postgres"))]
async fn database(address: &str, _: Arc<dyn World>) -> Result<Arc<dyn Engine>, Error> {
    let reason = "a database needs the feature `postgres` of the crate everfold".to_owned();
    Err(Error::Address {
        address: only_scheme(address),
        reason,
    })
}

/// What follows may hold a password.
fn only_scheme(address: &str) -> String {
    match address.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://..."),
        None => address.to_owned(),
    }
}

/// An application that did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No engine has such an address.
    #[error(
        "cannot open {address:?}: {reason}; give a directory, postgres://user:password@host/database, or `memory:`"
    )]
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
    /// The log in the database did not open.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Postgres(#[from] everfold_postgres::OpenError),
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
