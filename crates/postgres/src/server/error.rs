//! Why a private server does not run.

use std::path::PathBuf;

/// A private server that did not do what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// There are no binaries.
    #[error(
        "PostgreSQL {wanted} is not installed on this machine; `apt install postgresql` installs it, \
         or give the address of a running server: postgres://user:password@host/database"
    )]
    NotInstalled {
        /// Which versions will do.
        wanted: String,
    },
    /// Another process runs a server on the directory.
    #[error("{} is in use by another process; stop that one first, or choose another directory", .0.display())]
    InUse(PathBuf),
    /// The directory is none of ours.
    #[error(
        "{} holds {holds} and no server of ours; nothing was touched, choose an empty or new directory",
        directory.display()
    )]
    Strange {
        /// The directory.
        directory: PathBuf,
        /// Something in it.
        holds: String,
    },
    /// The machine has no user that could run it.
    #[error(
        "PostgreSQL refuses to run as root, and this machine has neither a user postgres nor a user \
         nobody; run this program as another user"
    )]
    NoUser,
    /// The database cluster was not made.
    #[error("initdb failed in {}: {log}", directory.display())]
    Initialize {
        /// Where.
        directory: PathBuf,
        /// What it said last.
        log: String,
    },
    /// The server ended, or was not ready in time.
    #[error(
        "the private server in {} did not start; its log ends with: {log}",
        directory.display()
    )]
    Start {
        /// Where.
        directory: PathBuf,
        /// The end of its log.
        log: String,
    },
    /// The server did not stop in time.
    #[error(
        "the private server in {} did not stop and was killed; nothing acknowledged is lost, the next \
         start recovers. Its log ends with: {log}",
        directory.display()
    )]
    Stop {
        /// Where.
        directory: PathBuf,
        /// The end of its log.
        log: String,
    },
    /// A database was not made.
    #[error("the database {name:?} was not made: {reason}")]
    Database {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// The system said no.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}
