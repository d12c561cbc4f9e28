//! `everfold restore`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use everfold_log::{Directory, Disk, restore};
use serde_json::json;

use crate::failure::refused;
use crate::output::{self, Progress, say};
use crate::place::{self, Choice, Parser};

/// Makes a log of a backup, and verifies all of it before it can be opened.
#[derive(clap::Args)]
pub struct Arguments {
    /// Directory that `everfold backup` wrote to
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// Directory for the log, empty or new
    #[arg(long, value_name = "DIR", required_unless_present = "engine")]
    data: Option<PathBuf>,
    /// Not for this
    #[arg(long, value_name = "ADDRESS", value_parser = Parser, hide = true)]
    engine: Option<Choice>,
    /// Print what was done as one JSON object
    #[arg(long)]
    json: bool,
}

const INSTEAD: &str = "restore what pg_dump or pg_basebackup made with pg_restore or as its server's \
                       data, then `everfold adopt` lets the log live on";

/// Runs it.
///
/// # Errors
/// The backup is damaged, or see the messages.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (data, engine) = (arguments.data.as_deref(), arguments.engine.as_ref());
    place::files(data, engine, INSTEAD)?;
    let from = &arguments.from;
    place::no_database(from, INSTEAD)?;
    let data = data.unwrap_or(from);
    let source = Directory::read_only(from).map_err(|error| {
        refused(format!(
            "{} cannot be read ({error}); give the directory that `everfold backup` wrote to",
            from.display()
        ))
    })?;
    let source: Arc<dyn Disk> = Arc::new(source);
    let is_new = !data.exists();
    let target = Directory::new(data)
        .with_context(|| format!("{} cannot be made; name another directory", data.display()))?;
    let progress = Progress::new("bytes", 0);
    let done = restore(&source, &target, &mut |done, total| {
        progress.length(total);
        progress.reach(done);
    });
    progress.finish();
    if done.is_err() && is_new {
        // Only if nothing is in it but the lock.
        let _ = std::fs::remove_file(data.join("lock"));
        let _ = std::fs::remove_dir(data);
    }
    let done = done?;
    if arguments.json {
        return output::json(&json!({
            "segments": done.segments,
            "bytes": done.bytes,
            "records": done.records,
            "events": done.events,
        }));
    }
    output::line(&format!(
        "{} segments, {} bytes, {} records, {} of them events",
        done.segments, done.bytes, done.records, done.events
    ))?;
    say(&format!(
        "all is as it was backed up; `everfold serve --data {}` goes on with it",
        data.display()
    ));
    Ok(())
}
