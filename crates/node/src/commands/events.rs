//! `everfold events`.

use std::thread;
use std::time::Duration;

use anyhow::bail;
use everfold::engine::{EntityKey, Partition, engine::Engine};
use serde_json::Value;

use super::source::Source;
use crate::client::{Server, escaped};
use crate::inspect::events::{self, Asked, Wanted};
use crate::inspect::{begin, record};
use crate::output;

/// Prints events in the order in which they were recorded.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Of one partition only
    #[arg(long, value_name = "N")]
    partition: Option<u16>,
    /// Of one entity only
    #[arg(long, value_name = "TYPE-ID", conflicts_with = "partition")]
    entity: Option<String>,
    #[command(flatten)]
    asked: Asked,
    /// Begin after a position token; with --partition an offset, with --entity a version
    #[arg(long, value_name = "PLACE")]
    after: Option<String>,
    /// End after so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Go on with what happens from now on; of a server or a database
    #[arg(long, conflicts_with = "data")]
    follow: bool,
    /// Print one JSON object per event, with all its fields
    #[arg(long)]
    json: bool,
}

/// Events asked for at once.
const PAGE: usize = 500;
/// How long to wait when nothing new has happened.
const PAUSE: Duration = Duration::from_millis(300);

/// Some events, and where to go on if there are more.
struct Found {
    events: Vec<Value>,
    next: String,
    more: bool,
}

/// Runs it.
///
/// # Errors
/// See the messages.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    if let Some(url) = &arguments.source.url {
        let server = Server::at(url)?;
        return print(&arguments, |after, limit| {
            let answer = server.get(&path(&arguments, after, limit))?;
            Ok(Found {
                events: answer["events"].as_array().cloned().unwrap_or_default(),
                next: answer["next"].as_str().unwrap_or_default().to_owned(),
                more: answer["more"].as_bool().unwrap_or_default(),
            })
        });
    }
    let reached = arguments.source.reach()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let log = runtime.block_on(reached.look())?;
    let partitions = log.identity().layout.partitions;
    if let Some(partition) = arguments.partition.filter(|asked| *asked >= partitions) {
        bail!("there is no partition {partition}: this log has {partitions}, counted from 0");
    }
    print(&arguments, |after, limit| {
        runtime.block_on(read(&arguments, &*log, after, limit))
    })?;
    runtime.block_on(log.close());
    drop(runtime);
    reached.close()
}

fn print(
    arguments: &Arguments,
    mut read: impl FnMut(Option<&str>, usize) -> anyhow::Result<Found>,
) -> anyhow::Result<()> {
    let mut left = arguments.limit.unwrap_or(usize::MAX);
    let mut after = arguments.after.clone();
    while left > 0 {
        let found = read(after.as_deref(), left.min(PAGE))?;
        for event in &found.events {
            if arguments.json {
                output::json(event)?;
            } else {
                output::line(&row(event))?;
            }
        }
        left -= found.events.len().min(left);
        after = Some(found.next);
        if !found.more {
            if !arguments.follow {
                break;
            }
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// An event for people: when, where, what.
pub(super) fn row(event: &Value) -> String {
    let text = |name: &str| output::plain(event[name].as_str().unwrap_or_default());
    let place = format!("{}:{}", event["partition"], event["offset"]);
    let payload = match &event["payload"] {
        Value::Null => text("payload_base64"),
        payload => output::plain(&payload.to_string()),
    };
    format!(
        "{:<27} {place:>9}  {:<24} {:>4}  {:<16} {payload}",
        text("recorded"),
        text("entity"),
        event["version"].to_string(),
        text("type"),
    )
}

fn path(arguments: &Arguments, after: Option<&str>, limit: usize) -> String {
    let log = escaped(&arguments.source.log);
    let mut path = format!("/_inspect/api/logs/{log}/events?limit={limit}");
    let number = arguments.partition.map(|partition| partition.to_string());
    let parts = [
        ("partition", number.as_deref()),
        ("entity", arguments.entity.as_deref()),
        ("after", after),
    ];
    for (name, value) in parts.into_iter().chain(arguments.asked.parts()) {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", escaped(value)));
        }
    }
    path
}

async fn read(
    arguments: &Arguments,
    log: &dyn Engine,
    after: Option<&str>,
    limit: usize,
) -> anyhow::Result<Found> {
    let wanted = Wanted {
        partition: arguments.partition.map(Partition),
        query: arguments.asked.query().map_err(anyhow::Error::msg)?,
        all_kinds: false,
    };
    if let Some(entity) = &arguments.entity {
        let version = after.unwrap_or("0").parse();
        let version = version.map_err(|_| anyhow::anyhow!("--after with --entity is a version"))?;
        let entity = EntityKey::of_stream(entity);
        let records = events::of_entity(log, &entity, version, limit).await?;
        let next = records
            .last()
            .map_or(version, |record| record.local.version);
        return Ok(Found {
            more: records.len() == limit,
            events: records
                .iter()
                .filter(|record| Asked::wants(&wanted.query, record))
                .map(|record| record::shown(record))
                .collect(),
            next: next.to_string(),
        });
    }
    let start = log.identity().start();
    let position = begin(after, wanted.partition, start).map_err(anyhow::Error::msg)?;
    let page = events::after(log, &position, &wanted, limit).await?;
    Ok(Found {
        events: page
            .records
            .iter()
            .map(|record| record::shown(record))
            .collect(),
        next: page.next.to_string(),
        more: page.more,
    })
}
