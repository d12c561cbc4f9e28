//! `everfold verify`.

use std::path::PathBuf;

use everfold_log::{Directory, verify};
use serde_json::json;

use crate::demo::directory::log_in;
use crate::failure::refused;
use crate::output::{self, Progress, say};
use crate::store;

/// Checks every checksum, every record, every link of the hash chain and every version.
///
/// Nothing is changed. Nobody else may have the log open meanwhile.
#[derive(clap::Args)]
pub struct Arguments {
    /// Directory of a log, or of the demonstration
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// Damage, or see the messages.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let path = log_in(&arguments.data);
    store::require_log(&path)?;
    let disk = Directory::new(&path)?;
    let progress = Progress::new("bytes", 0);
    let verified = verify(&disk, &mut |done, total| {
        progress.length(total);
        progress.reach(done);
    })?;
    progress.finish();
    let torn = verified.torn.as_ref();
    if arguments.json {
        let damage = verified.damage.iter().map(|damage| {
            json!({
                "file": damage.file,
                "at": damage.at,
                "expected": damage.expected,
                "found": damage.found,
            })
        });
        output::json(&json!({
            "segments": verified.segments,
            "bytes": verified.bytes,
            "records": verified.records,
            "events": verified.events,
            "torn": torn.map(|(file, at, bytes)| json!({ "file": file, "at": at, "bytes": bytes })),
            "damage": damage.collect::<Vec<_>>(),
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
        for damage in &verified.damage {
            output::line(&format!("damaged: {damage}"))?;
        }
    }
    let Some(first) = verified.damage.first() else {
        say("all is as it was written");
        return Ok(());
    };
    Err(refused(format!(
        "{} is damaged in {} places, first in {first}; restore the files named from a backup",
        path.display(),
        verified.damage.len()
    )))
}
