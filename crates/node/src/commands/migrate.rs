//! `everfold migrate`.

use std::path::PathBuf;

use everfold_postgres::{migrate, schema_sql};

use crate::failure::refused;
use crate::output::{self, say};
use crate::place::{Choice, ENVIRONMENT, Parser, Place, Reached};

/// The schema of an address that names none.
const SCHEMA: &str = "everfold";

/// Creates the schema of a log in a database, or brings it to the format of this version.
///
/// Opening a log does the same. This is for where the application's user may not create tables: run
/// it as one who may, or print it and have it run.
#[derive(clap::Args)]
pub struct Arguments {
    /// Database, postgres://user:password@host/database?schema=NAME; or postgres for the private
    /// server of a directory
    #[arg(long, value_name = "ADDRESS", env = ENVIRONMENT, hide_env_values = true, value_parser = Parser)]
    engine: Choice,
    /// Directory of a private server
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print what would be run on an empty database, and change nothing
    #[arg(long)]
    print: bool,
}

/// Runs it.
///
/// # Errors
/// See the messages.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    if arguments.print {
        return output::line(schema_sql(&schema_of(&arguments.engine)?).trim_end());
    }
    let place = Place::named(Some(&arguments.engine), arguments.data.as_deref())?;
    let reached = Reached::to_look_at(place)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(migrate(reached.database().unwrap_or_default()))?;
    drop(runtime);
    reached.close()?;
    say("the schema has the format of this version");
    Ok(())
}

fn schema_of(engine: &Choice) -> anyhow::Result<String> {
    let query = match engine {
        Choice::Database(address) => address.split_once('?').map_or("", |(_, query)| query),
        Choice::Private => "",
    };
    let named = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("schema="));
    let schema = named.unwrap_or(SCHEMA);
    // It goes into statements as it is.
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if schema.is_empty() || !schema.bytes().all(fits) || schema.as_bytes()[0].is_ascii_digit() {
        return Err(refused(format!(
            "{schema:?} is no name for a schema: small letters, digits and _, a letter first"
        )));
    }
    Ok(schema.to_owned())
}
