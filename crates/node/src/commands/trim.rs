//! `everfold trim`.

use std::path::PathBuf;

use clap::ArgGroup;
use everfold::NodeOptions;
use everfold::engine::{EntityKey, Timestamp};
use serde_json::json;

use crate::demo::directory::log_in;
use crate::output;
use crate::store::{self, Form};

/// Lets go of history. Nothing goes but what a baseline stands for, which is written first: states
/// stay as they are, the events behind them are gone. There is no way back but a backup.
#[derive(clap::Args)]
#[command(group(ArgGroup::new("what").required(true).args(["before", "entity"])))]
pub struct Arguments {
    /// Directory of a store, or of the demonstration, that nobody has open
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Everything recorded before a day or a time in UTC, as far as whole segments end before; not
    /// the last day, whose commands may be repeated
    #[arg(long, value_name = "TIME")]
    before: Option<Timestamp>,
    /// The past of one entity, as far as it lies in full segments
    #[arg(long, value_name = "TYPE-ID")]
    entity: Option<String>,
    /// The form that the store is served in
    #[arg(long, value_enum, default_value_t)]
    form: Form,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// See the messages.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let path = log_in(&arguments.data);
    store::require_log(&path)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let trimmed = runtime.block_on(async {
        let node = store::open_in(arguments.form, &path, NodeOptions::default()).await?;
        node.caught_up().await?;
        let trimmed = match (&arguments.before, &arguments.entity) {
            (Some(time), _) => node.trim_before(*time).await,
            (None, entity) => {
                let name = entity.as_deref().unwrap_or_default();
                node.trim_key(EntityKey::of_stream(name)).await
            }
        };
        node.close().await;
        anyhow::Ok(trimmed?)
    })?;
    if arguments.json {
        return output::json(&json!({
            "records": trimmed.records,
            "bytes": trimmed.bytes,
        }));
    }
    output::line(&format!(
        "{} records went, {} bytes are free again",
        trimmed.records, trimmed.bytes
    ))
}
