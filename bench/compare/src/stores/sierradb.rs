//! SierraDB: streams and partitions behind the Redis protocol; a connection per writer.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Value, cmd};
use rustix::process::Signal;
use tokio::sync::RwLock;

use crate::server::{Programs, Server, free_port};
use crate::store::{Refused, Replayed, Store, Work};
use crate::workload::{EVENT_TYPE, Event, HISTORY, name};

/// As it comes, a writer waits for up to 50 ms; this is the quickest setting known that is no less
/// durable.
const TUNED: &str = "
[network]
cluster_enabled = false
[segment]
size_bytes = 268435456
compression = false
[sync]
interval_ms = 2
idle_interval_ms = 1
max_batch_size = 1000
min_bytes = 65536
";

/// Its default.
const PARTITIONS: usize = 32;
/// Events that a replay asks for at once.
const PAGE: usize = 1_000;

struct Sierra {
    server: Server,
    client: Client,
    connections: RwLock<Vec<MultiplexedConnection>>,
    used: AtomicUsize,
}

/// A server of its own in a fresh directory, as it comes or tuned.
pub(crate) async fn open(
    directory: &Path,
    programs: &Programs,
    tuned: bool,
) -> anyhow::Result<Arc<dyn Store>> {
    let port = free_port()?;
    let mut command = Command::new(programs.find("sierradb")?);
    let config = directory.join("sierra.toml");
    std::fs::write(&config, if tuned { TUNED } else { "" })?;
    command.current_dir(directory).arg("-c").arg(&config);
    command.arg("--dir").arg(directory.join("sierradb"));
    command.args(["--client-address", &format!("127.0.0.1:{port}")]);
    command.args(["--cluster-address", "/ip4/127.0.0.1/tcp/0"]);
    command.args(["--log", "error"]);
    let server = Server::start(command, directory, port, Signal::TERM)?;
    let store = Sierra {
        server,
        client: Client::open(format!("redis://127.0.0.1:{port}/?protocol=resp3"))?,
        connections: RwLock::new(Vec::new()),
        used: AtomicUsize::new(1),
    };
    store.open(1).await?;
    Ok(Arc::new(store))
}

impl Sierra {
    async fn open(&self, count: usize) -> anyhow::Result<()> {
        let mut connections = self.connections.write().await;
        while connections.len() < count {
            let config = AsyncConnectionConfig::new()
                .set_response_timeout(None)
                .set_connection_timeout(None);
            let client = &self.client;
            let connection = client.get_multiplexed_async_connection_with_config(&config);
            connections.push(connection.await?);
        }
        self.used.store(count, Ordering::Relaxed);
        Ok(())
    }

    async fn connection(&self, number: usize) -> anyhow::Result<MultiplexedConnection> {
        let connections = self.connections.read().await;
        let mine = connections.get(number % self.used.load(Ordering::Relaxed));
        mine.cloned().context("no connection")
    }
}

/// A field of an answer that is a map.
fn field<'a>(answer: &'a Value, wanted: &str) -> anyhow::Result<&'a Value> {
    let Value::Map(fields) = answer else {
        anyhow::bail!("no map but {answer:?}");
    };
    let named = |key: &Value| match key {
        Value::SimpleString(key) => key == wanted,
        Value::BulkString(key) => key == wanted.as_bytes(),
        _ => false,
    };
    let found = fields.iter().find(|(key, _)| named(key));
    Ok(&found.with_context(|| format!("no {wanted}"))?.1)
}

/// Adds up the events of an answer; how many there were, and the last one.
fn add<'a>(answer: &'a Value, replayed: &mut Replayed) -> anyhow::Result<&'a [Value]> {
    let Value::Array(events) = field(answer, "events")? else {
        anyhow::bail!("events are no array");
    };
    for event in events {
        let Value::BulkString(payload) = field(event, "payload")? else {
            anyhow::bail!("an event without a payload");
        };
        replayed.add(payload.len());
    }
    Ok(events)
}

impl Store for Sierra {
    fn append(&self, event: Event, expected: u64) -> Work<'_, Result<u64, Refused>> {
        Box::pin(async move {
            let number = event.entity.rsplit('-').next().unwrap_or("0").parse()?;
            let mut connection = self.connection(number).await?;
            let mut append = cmd("EAPPEND");
            append.arg(&event.entity).arg(EVENT_TYPE);
            // Its versions begin with 0. Ids are left to the server: they carry the partition.
            append.arg("EXPECTED_VERSION");
            match expected.checked_sub(1) {
                Some(version) => append.arg(version),
                None => append.arg("empty"),
            };
            append.arg("PAYLOAD").arg(&event.payload);
            match append.query_async::<Value>(&mut connection).await {
                Ok(answer) => match field(&answer, "stream_version")? {
                    Value::Int(version) => Ok(*version as u64 + 1),
                    other => Err(anyhow::anyhow!("the version {other:?}").into()),
                },
                Err(error) if error.to_string().contains("WRONGVER") => Err(Refused::Conflict),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn expect_writers(&self, writers: usize) -> Work<'_, anyhow::Result<()>> {
        Box::pin(self.open(writers))
    }

    fn replay(&self) -> Work<'_, anyhow::Result<Replayed>> {
        Box::pin(async {
            let mut connection = self.connection(0).await?;
            let mut replayed = Replayed::default();
            for partition in 0..PARTITIONS {
                let mut from = 0;
                loop {
                    let mut page = cmd("EPSCAN");
                    page.arg(partition).arg(from).arg("+");
                    page.arg("COUNT").arg(PAGE);
                    let answer: Value = page.query_async(&mut connection).await?;
                    let events = add(&answer, &mut replayed)?;
                    let Some(last) = events.last() else {
                        break;
                    };
                    let Value::Int(last) = field(last, "partition_sequence")? else {
                        anyhow::bail!("an event without a place");
                    };
                    from = last + 1;
                    if events.len() < PAGE {
                        break;
                    }
                }
            }
            Ok(replayed)
        })
    }

    fn history(&self, entity: usize) -> Work<'_, anyhow::Result<Option<Replayed>>> {
        Box::pin(async move {
            let mut connection = self.connection(0).await?;
            let mut scan = cmd("ESCAN");
            scan.arg(name(entity)).arg("-").arg("+");
            scan.arg("COUNT").arg(HISTORY);
            let answer: Value = scan.query_async(&mut connection).await?;
            let mut replayed = Replayed::default();
            add(&answer, &mut replayed)?;
            Ok(Some(replayed))
        })
    }

    fn close(&self) -> Work<'_, anyhow::Result<()>> {
        Box::pin(async { self.server.stop() })
    }
}
