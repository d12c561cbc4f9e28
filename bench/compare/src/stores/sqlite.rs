//! SQLite through rusqlite: one transaction per group, in the write-ahead log.

use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::anyhow;
use rusqlite::{Connection, params};

use crate::front::{Accepted, Commit, Front};
use crate::store::{Refused, Replayed, Store, Work};
use crate::workload::{EVENT_TYPE, Event, name};

const SCHEMA: &str = "CREATE TABLE events (
    sequence INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    entity TEXT NOT NULL,
    version INTEGER NOT NULL,
    type TEXT NOT NULL,
    payload BLOB NOT NULL,
    UNIQUE (entity, version))";
const INSERT: &str = "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

struct Sqlite {
    reader: Mutex<Connection>,
    front: Front,
}

struct Writer(Connection);

/// A database in a fresh directory.
pub(crate) fn open(directory: &Path) -> anyhow::Result<Arc<dyn Store>> {
    let path = directory.join("events.sqlite");
    let writer = connect(&path)?;
    writer.execute(SCHEMA, ())?;
    let reader = Mutex::new(connect(&path)?);
    let front = Front::start(Writer(writer))?;
    Ok(Arc::new(Sqlite { reader, front }))
}

fn connect(path: &Path) -> anyhow::Result<Connection> {
    let connection = Connection::open(path)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    anyhow::ensure!(mode == "wal", "no write-ahead log, but {mode}");
    // A commit is synced; with NORMAL it would not be.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // 64 MiB of pages.
    connection.pragma_update(None, "cache_size", -65_536)?;
    Ok(connection)
}

impl Commit for Writer {
    fn commit(&mut self, accepted: &[Accepted]) -> anyhow::Result<()> {
        let writing = self.0.transaction()?;
        {
            let mut insert = writing.prepare_cached(INSERT)?;
            for Accepted {
                event,
                version,
                sequence,
            } in accepted
            {
                let id = event.id.as_bytes().as_slice();
                insert.execute(params![
                    *sequence as i64,
                    id,
                    event.entity,
                    *version as i64,
                    EVENT_TYPE,
                    event.payload
                ])?;
            }
        }
        Ok(writing.commit()?)
    }
}

impl Sqlite {
    fn read(&self, sql: &str, entity: Option<&str>) -> anyhow::Result<Replayed> {
        let reader = self.reader.lock().map_err(|_| anyhow!("a read panicked"))?;
        let mut statement = reader.prepare_cached(sql)?;
        let mut rows = match entity {
            Some(entity) => statement.query([entity])?,
            None => statement.query(())?,
        };
        let mut replayed = Replayed::default();
        while let Some(row) = rows.next()? {
            replayed.add(row.get_ref(4)?.as_blob()?.len());
        }
        Ok(replayed)
    }
}

impl Store for Sqlite {
    fn append(&self, event: Event, expected: u64) -> Work<'_, Result<u64, Refused>> {
        Box::pin(self.front.append(event, expected))
    }

    fn durability(&self) -> Option<String> {
        let flags = option_env!("LIBSQLITE3_FLAGS").unwrap_or_default();
        let data_only = flags.contains("-DHAVE_FDATASYNC");
        let sync = if data_only { "fdatasync" } else { "fsync" };
        Some(format!(
            "after the commit's {sync} of the log (WAL, synchronous=FULL)"
        ))
    }

    fn replay(&self) -> Work<'_, anyhow::Result<Replayed>> {
        const ALL: &str = "SELECT id, entity, version, type, payload FROM events ORDER BY sequence";
        Box::pin(async { self.read(ALL, None) })
    }

    fn history(&self, entity: usize) -> Work<'_, anyhow::Result<Option<Replayed>>> {
        const ONE: &str = "SELECT id, entity, version, type, payload FROM events
            WHERE entity = ?1 ORDER BY version";
        Box::pin(async move { self.read(ONE, Some(&name(entity))).map(Some) })
    }

    fn close(&self) -> Work<'_, anyhow::Result<()>> {
        Box::pin(self.front.close())
    }
}
