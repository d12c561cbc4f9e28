//! `everfold entity`.

use anyhow::{Context, anyhow, bail};
use everfold::Inspector;
use everfold::engine::EntityKey;
use serde_json::{Value, json};

use super::events::row;
use super::source::Source;
use crate::client::{Server, escaped};
use crate::inspect::{events, record};
use crate::output;

/// Shows the state of one entity, its version, and the events behind it.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Type and id, customer-00001 for example
    #[arg(value_name = "TYPE-ID")]
    entity: String,
    /// The state after this version instead of the newest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    version: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// See the messages.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let key = EntityKey::of_stream(&arguments.entity);
    let (source, version) = (&arguments.source, arguments.version);
    let shown = match &source.url {
        Some(url) => asked(&Server::at(url)?, &source.log, &key, version)?,
        None => source.look(async |store| read(store, &key, version).await)?,
    };
    if let Some(asked) = arguments.version
        && shown["version"]
            .as_u64()
            .is_some_and(|newest| newest < asked)
    {
        let name = output::plain(&key.stream());
        bail!(
            "{name} has no version {asked}: it is at version {}",
            shown["version"]
        );
    }
    if arguments.json {
        return output::json(&shown);
    }
    let version = &shown["version"];
    output::line(&format!(
        "{} at version {version}",
        output::plain(&key.stream())
    ))?;
    output::line(&output::plain_lines(&serde_json::to_string_pretty(
        &shown["state"],
    )?))?;
    for event in shown["history"].as_array().into_iter().flatten() {
        output::line(&row(event))?;
    }
    Ok(())
}

fn asked(
    server: &Server,
    log: &str,
    key: &EntityKey,
    version: Option<u64>,
) -> anyhow::Result<Value> {
    let mut path = format!(
        "/_inspect/api/logs/{}/entity/{}/{}",
        escaped(log),
        escaped(&key.kind),
        escaped(&key.id)
    );
    if let Some(version) = version {
        path.push_str(&format!("?version={version}"));
    }
    server.get(&path)
}

async fn read(store: &Inspector, key: &EntityKey, version: Option<u64>) -> anyhow::Result<Value> {
    let name = output::plain(&key.stream());
    let found = store.inspect(key, version).await;
    let found = found.with_context(|| format!("{name} cannot be shown"))?;
    let (state, version) = found.ok_or_else(|| anyhow!("there is no {name} in this log"))?;
    let history = events::of_entity(&**store.engine(), key, 0, usize::MAX).await?;
    let history: Vec<Value> = history.iter().map(|record| record::shown(record)).collect();
    Ok(json!({
        "entity": key.stream(),
        "version": version,
        "newest": history.len(),
        "state": state,
        "history": history,
    }))
}
