//! `everfold trim`.

use std::path::PathBuf;

use clap::ArgGroup;
use everfold::NodeOptions;
use everfold::engine::{EntityKey, Timestamp};
use serde_json::json;

use crate::output;
use crate::place::{self, Choice, Parser, Place, Reached};
use crate::store::{self, Form};

/// Lets go of history. Nothing goes but what a baseline stands for, which is written first: states
/// stay as they are, the events behind them are gone. There is no way back but a backup.
#[derive(clap::Args)]
#[command(group(ArgGroup::new("what").required(true).args(["before", "entity"])))]
pub struct Arguments {
    /// Directory of a store, or of the demonstration, that nobody has open
    #[arg(long, value_name = "DIR", required_unless_present = "engine")]
    data: Option<PathBuf>,
    /// Not for this
    #[arg(long, value_name = "ADDRESS", value_parser = Parser, hide = true)]
    engine: Option<Choice>,
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

const INSTEAD: &str = "nothing is trimmed there; keep old rows on cheaper storage, in a tablespace";

/// Runs it.
///
/// # Errors
/// See the messages.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (data, engine) = (arguments.data.as_deref(), arguments.engine.as_ref());
    let path = place::files(data, engine, INSTEAD)?;
    let reached = Reached::to_look_at(Place::Directory(path))?;
    let runtime = tokio::runtime::Runtime::new()?;
    let trimmed = runtime.block_on(async {
        let node = store::open(
            arguments.form.application(),
            &reached,
            NodeOptions::default(),
        )
        .await?;
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
