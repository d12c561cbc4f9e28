//! `everfold verify`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use everfold_log::{Damage, Directory, Disk, Verified, is_backup, verify, verify_backup};
use serde_json::{Value, json};

use crate::failure::{Damaged, NotLookedAt, refused};
use crate::output::{self, Progress, say};
use crate::place::{self, Choice, Parser};

/// Checks every checksum, every record, every link of the hash chain, every version and every index.
///
/// Nothing is changed, and nothing is made. Nobody else may have the log open meanwhile. Goes on
/// behind whatever is damaged, and names all of it.
#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Arguments {
    /// Directory of a log, of the demonstration, or of a backup
    #[arg(long, value_name = "DIR", required_unless_present = "engine")]
    data: Option<PathBuf>,
    /// Not for this
    #[arg(long, value_name = "ADDRESS", value_parser = Parser, hide = true)]
    engine: Option<Choice>,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

const INSTEAD: &str = "its server answers for its pages: initdb --data-checksums, pg_amcheck, and \
                       pg_verifybackup for a pg_basebackup";

const EXIT_CODES: &str = "\
Exit codes:
  0  all is as it was written
  1  damaged
  2  cannot look: no log there, in use, or not understood";

/// Runs it.
///
/// # Errors
/// Damage, or see the messages.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (data, engine) = (arguments.data.as_deref(), arguments.engine.as_ref());
    let path = place::files(data, engine, INSTEAD).map_err(|error| error.context(NotLookedAt))?;
    let verified = look(&path).map_err(|error| error.context(NotLookedAt))?;
    let torn = verified.torn.as_ref();
    if arguments.json {
        output::json(&json!({
            "segments": verified.segments,
            "bytes": verified.bytes,
            "records": verified.records,
            "events": verified.events,
            "torn": torn.map(|(file, at, bytes)| json!({ "file": file, "at": at, "bytes": bytes })),
            "damage": shown(&verified.damage),
            "indexes": shown(&verified.indexes),
        }))?;
    } else {
        output::line(&format!(
            "{} segments, {} bytes, {} records, {} of them events",
            verified.segments, verified.bytes, verified.records, verified.events
        ))?;
        if let Some((file, at, bytes)) = torn {
            output::line(&format!(
                "{file}: {bytes} bytes from byte {at} on are the rest of a write that nobody was \
                 told of; opening the log cuts them off"
            ))?;
        }
        for damage in &verified.indexes {
            output::line(&format!(
                "index: {damage}; nothing is lost, remove the file and it is made again when the \
                 log is opened"
            ))?;
        }
        for damage in &verified.damage {
            output::line(&format!("damaged: {damage}"))?;
        }
    }
    let Some(first) = verified.damage.first() else {
        say("all is as it was written");
        return Ok(());
    };
    Err(Damaged(format!(
        "{} is damaged in {} places, first in {first}; restore the files named from a backup, or all \
         with `everfold restore`",
        path.display(),
        verified.damage.len()
    ))
    .into())
}

fn look(path: &Path) -> anyhow::Result<Verified> {
    let missing = || {
        refused(format!(
            "there is no log in {}; name the directory of one with --data",
            path.display()
        ))
    };
    let disk = Directory::read_only(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => missing(),
        _ => error.into(),
    })?;
    let progress = Progress::new("bytes", 0);
    let mut tell = |done, total| {
        progress.length(total);
        progress.reach(done);
    };
    let verified = if is_backup(&disk)? {
        let disk: Arc<dyn Disk> = Arc::new(disk);
        verify_backup(&disk, &mut tell)?
    } else {
        place::require_log(path)?;
        verify(&disk, &mut tell)?
    };
    progress.finish();
    Ok(verified)
}

fn shown(damage: &[Damage]) -> Vec<Value> {
    let shown = |damage: &Damage| {
        json!({
            "file": damage.file,
            "at": damage.at,
            "expected": damage.expected,
            "found": damage.found,
        })
    };
    damage.iter().map(shown).collect()
}
