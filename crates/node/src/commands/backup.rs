//! `everfold backup`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use everfold_log::{Directory, Disk, backup};
use serde_json::json;

use crate::output::{self, Progress, say};
use crate::place::{self, Choice, Parser};

/// Copies a log to a directory that keeps copies; a second time only what is new.
///
/// Another process may have the log open and write to it: the directory is only read, and what is
/// copied is made durable first. A backup that is interrupted leaves the one before it.
#[derive(clap::Args)]
pub struct Arguments {
    /// Directory of a log, or of the demonstration
    #[arg(long, value_name = "DIR", required_unless_present = "engine")]
    data: Option<PathBuf>,
    /// Not for this
    #[arg(long, value_name = "ADDRESS", value_parser = Parser, hide = true)]
    engine: Option<Choice>,
    /// Directory for the backup: an empty or new one, or that of an earlier backup of the same log
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// Print what was done as one JSON object
    #[arg(long)]
    json: bool,
}

const INSTEAD: &str = "back it up with pg_dump, or its whole server with pg_basebackup; after a \
                       restore `everfold adopt` lets it live on";

/// Runs it.
///
/// # Errors
/// See the messages.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (data, engine) = (arguments.data.as_deref(), arguments.engine.as_ref());
    let path = place::files(data, engine, INSTEAD)?;
    place::no_database(&arguments.to, INSTEAD)?;
    place::require_log(&path)?;
    let source = Directory::read_only(&path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let to = &arguments.to;
    let target = Directory::new(to)
        .with_context(|| format!("{} cannot be made; name another directory", to.display()))?;
    let target: Arc<dyn Disk> = Arc::new(target);
    let progress = Progress::new("bytes", 0);
    let done = backup(&source, &target, &mut |done, total| {
        progress.length(total);
        progress.reach(done);
    })?;
    progress.finish();
    if arguments.json {
        return output::json(&json!({
            "number": done.number,
            "segments": done.segments,
            "copied": done.copied,
            "bytes": done.bytes,
            "records": done.records,
        }));
    }
    output::line(&format!(
        "backup {} of {} records in {} segments; {} of them copied, {} bytes",
        done.number, done.records, done.segments, done.copied, done.bytes
    ))?;
    say(&format!(
        "`everfold verify --data {}` checks it, `everfold restore` makes a log of it",
        to.display()
    ));
    Ok(())
}
