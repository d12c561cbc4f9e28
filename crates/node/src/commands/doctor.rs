//! `everfold doctor`.

use std::path::PathBuf;

use clap::ArgGroup;
use serde_json::json;

use crate::place::{Choice, ENVIRONMENT, Parser, Place, Reached};
use crate::{output, production};

/// Says what an acknowledgement is worth where a log is kept: what was looked at, what was found,
/// and whether an acknowledged event could be lost because of it.
#[derive(clap::Args)]
#[command(group(ArgGroup::new("place").required(true).multiple(true).args(["data", "engine"])))]
pub struct Arguments {
    /// Directory of a log, or of the demonstration
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Database with a log, postgres://user:password@host/database; or postgres for the private
    /// server of the directory
    #[arg(long, value_name = "ADDRESS", env = ENVIRONMENT, hide_env_values = true, value_parser = Parser)]
    engine: Option<Choice>,
    /// Fail if an acknowledged event could be lost
    #[arg(long)]
    production: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// Not for production, or see the messages.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let place = Place::named(arguments.engine.as_ref(), arguments.data.as_deref())?;
    let reached = Reached::to_look_at(place)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let findings = runtime.block_on(async {
        let engine = reached.look().await?;
        let findings = engine.doctor();
        engine.close().await;
        anyhow::Ok(findings)
    })?;
    drop(runtime);
    reached.close()?;
    if arguments.json {
        let shown = findings.iter().map(|finding| {
            json!({
                "name": finding.name,
                "value": finding.value,
                "loses_data": finding.loses_data,
            })
        });
        output::json(&json!({
            "findings": shown.collect::<Vec<_>>(),
            "loses_data": findings.iter().any(|finding| finding.loses_data),
        }))?;
    } else {
        let width = findings.iter().map(|finding| finding.name.len()).max();
        let width = width.unwrap_or_default();
        for finding in &findings {
            let value = output::plain(&finding.value);
            let loses = match finding.loses_data {
                true => "  LOSES DATA: an acknowledged event may be gone after a crash",
                false => "",
            };
            output::line(&format!("{:<width$}  {value}{loses}", finding.name))?;
        }
    }
    if arguments.production {
        production::check(&findings)?;
    }
    Ok(())
}
