//! `everfold adopt`.

use std::path::PathBuf;

use everfold_postgres::{adopt, without_password};

use crate::failure::refused;
use crate::output;
use crate::place::{Choice, ENVIRONMENT, Parser, Place, Reached};

/// Lets a log live on that was restored from a backup, or moved to another server.
///
/// Such a log may lack what was acknowledged after the backup was made, and its original may still
/// be written. So it is refused when it is opened, until somebody who knows says that this copy is
/// the one that goes on. It gets a new incarnation: position tokens, stored views and nodes of the
/// old one are refused from then on, and views are made again.
#[derive(clap::Args)]
pub struct Arguments {
    /// Database with the log, postgres://user:password@host/database?schema=NAME; or postgres for the
    /// private server of a directory
    #[arg(long, value_name = "ADDRESS", env = ENVIRONMENT, hide_env_values = true, value_parser = Parser)]
    engine: Choice,
    /// Directory of a private server
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Really
    #[arg(long)]
    yes: bool,
}

/// Runs it.
///
/// # Errors
/// It was not confirmed, or see the messages.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let place = Place::named(Some(&arguments.engine), arguments.data.as_deref())?;
    if !arguments.yes {
        return Err(refused(format!(
            "the log in {} would go on as a new incarnation: what was acknowledged and is not in it \
             is given up, position tokens of the old one are refused, and there is no way back. Stop \
             whatever still writes to its original, then repeat with --yes",
            arguments.engine
        )));
    }
    let reached = Reached::to_look_at(place)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let address = reached.database().unwrap_or_default();
    let incarnation = runtime.block_on(adopt(address))?;
    output::line(&format!(
        "{} goes on as incarnation {incarnation}",
        without_password(address)
    ))?;
    drop(runtime);
    reached.close()
}
