//! Where a log lies: the files of a directory, a database, or a private server's directory.

use std::path::{Path, PathBuf};

use everfold_postgres::without_password;

use crate::demo::directory;
use crate::failure::refused;

mod choice;
mod reached;

pub use choice::{Choice, ENVIRONMENT, Parser};
pub use reached::{Reached, require_log};

/// The directory of a private server, in the directory that is named.
pub const PRIVATE: &str = "postgres";

/// Where a log lies, as somebody names it.
#[derive(Clone, Debug)]
pub enum Place {
    /// In the files of a directory.
    Directory(PathBuf),
    /// On a private server in a directory, started when it is needed.
    Private(PathBuf),
    /// In a database.
    Database(String),
}

impl Place {
    /// What `--engine` and `--data` mean together.
    ///
    /// # Errors
    /// They contradict each other, or one is missing.
    pub fn named(engine: Option<&Choice>, data: Option<&Path>) -> anyhow::Result<Self> {
        match (engine, data) {
            (None, Some(data)) => Self::of(data),
            // What is named here counts for more than what is set for everything.
            (Some(engine), Some(data)) if engine.is_from_environment() => Self::of(data),
            (Some(Choice::Private), Some(data)) => Ok(Self::Private(data.join(PRIVATE))),
            (Some(Choice::Database(address)), None) => Ok(Self::Database(address.clone())),
            (Some(Choice::Private), None) => Err(refused(
                "--engine postgres starts a private server, which keeps its data in a directory: \
                 name that with --data, or the address of a running server with --engine",
            )),
            (Some(Choice::Database(_)), Some(data)) => Err(refused(format!(
                "the log is either in the database or in {}: leave --engine or --data out",
                data.display()
            ))),
            (None, None) => Err(refused(
                "name the directory of a log with --data, or a database with --engine",
            )),
        }
    }

    /// Where the log of a directory lies: in itself, or where the demonstration keeps it.
    fn of(data: &Path) -> anyhow::Result<Self> {
        // The command line may have been meant for another option.
        if let Some(address) = database_in(data) {
            return Err(refused(format!(
                "{address} is no directory but a database: name it with --engine"
            )));
        }
        match directory::engine_of(data) {
            None => Ok(Self::Directory(data.to_owned())),
            Some(None) => Ok(Self::Directory(data.join(directory::LOG))),
            Some(Some(engine)) if engine == PRIVATE => Ok(Self::Private(data.join(PRIVATE))),
            Some(Some(engine)) => Err(refused(format!(
                "the demonstration of {} keeps its log in {engine}: name that database, with its \
                 password, with --engine",
                data.display()
            ))),
        }
    }
}

/// Refuses the address of a database where a path is meant.
///
/// # Errors
/// It is one; `instead` says what there is for that.
pub fn no_database(path: &Path, instead: &str) -> anyhow::Result<()> {
    database_in(path).map_or(Ok(()), |address| Err(no_files(&address, instead)))
}

/// The directory of a log's files, for a command that means files.
///
/// # Errors
/// The log is in a database; `instead` says what there is for that.
pub fn files(
    data: Option<&Path>,
    engine: Option<&Choice>,
    instead: &str,
) -> anyhow::Result<PathBuf> {
    let database = match (engine, data) {
        (Some(engine), _) => engine.to_string(),
        (None, Some(data)) => match (database_in(data), Place::of(data)) {
            (Some(address), _) => address,
            (None, Ok(Place::Directory(path))) => return Ok(path),
            (None, _) => format!("the log of {}", data.display()),
        },
        (None, None) => {
            return Err(refused("name the directory of a log with --data"));
        }
    };
    Err(no_files(&database, instead))
}

fn no_files(database: &str, instead: &str) -> anyhow::Error {
    refused(format!(
        "{database}: a log in PostgreSQL has no files of its own; {instead}"
    ))
}

/// The address, without its password, that was given for a path.
fn database_in(path: &Path) -> Option<String> {
    let text = path.to_string_lossy();
    let is_address = choice::SCHEMES
        .iter()
        .any(|scheme| text.starts_with(scheme));
    is_address.then(|| without_password(&text))
}
