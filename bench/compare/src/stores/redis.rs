//! Redis: one stream for all events, versions in a hash, both changed by one script; one pipelined
//! connection.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Value, cmd};
use rustix::process::Signal;

use crate::server::{Programs, Server, free_port};
use crate::store::{Held, Refused, Replayed, Store, Work};
use crate::workload::{EVENT_TYPE, Event};

const APPEND: &str = "
local version = tonumber(redis.call('HGET', 'versions', ARGV[1]) or '0')
if version ~= tonumber(ARGV[2]) then return -1 end
redis.call('XADD', 'log', '*', 'entity', ARGV[1], 'version', version + 1,
    'id', ARGV[3], 'type', ARGV[4], 'payload', ARGV[5])
return redis.call('HINCRBY', 'versions', ARGV[1], 1)";

/// Entries that a replay asks for at once.
const PAGE: usize = 1_000;

struct Redis {
    server: Server,
    client: Client,
    connection: MultiplexedConnection,
    script: String,
}

/// A server of its own in a fresh directory.
pub(crate) async fn open(directory: &Path, programs: &Programs) -> anyhow::Result<Arc<dyn Store>> {
    let port = free_port()?;
    let mut command = Command::new(programs.find("redis-server")?);
    command
        .current_dir(directory)
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--appendonly", "yes", "--appendfsync", "always"])
        .args(["--save", "", "--daemonize", "no"]);
    let server = Server::start(command, directory, port, Signal::TERM)?;
    let client = Client::open(format!("redis://127.0.0.1:{port}/"))?;
    let mut connection = connect(&client).await?;
    let mut load = cmd("SCRIPT");
    let script = load
        .arg("LOAD")
        .arg(APPEND)
        .query_async(&mut connection)
        .await?;
    Ok(Arc::new(Redis {
        server,
        client,
        connection,
        script,
    }))
}

async fn connect(client: &Client) -> anyhow::Result<MultiplexedConnection> {
    // Waiting is part of what is measured.
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_connection_timeout(None);
    let connected = client.get_multiplexed_async_connection_with_config(&config);
    Ok(connected.await?)
}

/// Waits for entries; an error is the end of the server.
async fn follow(mut connection: MultiplexedConnection, held: Held) {
    let mut after = "$".to_owned();
    loop {
        let mut read = cmd("XREAD");
        read.arg("BLOCK").arg(0).arg("STREAMS").arg("log");
        let read = read.arg(&after).query_async(&mut connection).await;
        let Ok(streams): Result<Streams, _> = read else {
            return;
        };
        for (entry, _) in streams.into_iter().flat_map(|(_, entries)| entries) {
            after = entry;
            if held.send(Instant::now()).is_err() {
                return;
            }
        }
    }
}

/// Streams with their entries, each with its fields.
type Streams = Vec<(String, Vec<(String, Vec<Value>)>)>;

impl Store for Redis {
    fn append(&self, event: Event, expected: u64) -> Work<'_, Result<u64, Refused>> {
        Box::pin(async move {
            let mut connection = self.connection.clone();
            let version: i64 = cmd("EVALSHA")
                .arg(&self.script)
                .arg(0)
                .arg(&event.entity)
                .arg(expected)
                .arg(event.id.as_bytes())
                .arg(EVENT_TYPE)
                .arg(&event.payload)
                .query_async(&mut connection)
                .await?;
            u64::try_from(version).map_err(|_| Refused::Conflict)
        })
    }

    fn replay(&self) -> Work<'_, anyhow::Result<Replayed>> {
        Box::pin(async {
            let mut connection = self.connection.clone();
            let mut replayed = Replayed::default();
            let mut after = "-".to_owned();
            loop {
                let mut page = cmd("XRANGE");
                page.arg("log").arg(&after).arg("+");
                page.arg("COUNT").arg(PAGE);
                let entries: Vec<(String, Vec<Value>)> = page.query_async(&mut connection).await?;
                for (_, fields) in &entries {
                    let Some(Value::BulkString(payload)) = fields.last() else {
                        anyhow::bail!("an entry without a payload");
                    };
                    replayed.add(payload.len());
                }
                if entries.len() < PAGE {
                    return Ok(replayed);
                }
                let (last, _) = entries.last().context("a page is empty")?;
                after = format!("({last}");
            }
        })
    }

    fn history(&self, _: usize) -> Work<'_, anyhow::Result<Option<Replayed>>> {
        // A stream per entity beside the log would double what an append writes.
        Box::pin(async { Ok(None) })
    }

    fn follow(&self, held: Held) -> Work<'_, anyhow::Result<bool>> {
        Box::pin(async move {
            let connection = connect(&self.client).await?;
            tokio::spawn(follow(connection, held));
            Ok(true)
        })
    }

    fn close(&self) -> Work<'_, anyhow::Result<()>> {
        Box::pin(async { self.server.stop() })
    }
}
