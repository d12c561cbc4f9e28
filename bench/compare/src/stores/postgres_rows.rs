//! PostgreSQL with one statement per event and one connection per writer.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use tokio::sync::RwLock;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Statement};

use super::postgres::{CONNECTIONS, Database};
use crate::store::{Refused, Replayed, Store, Work};
use crate::workload::{EVENT_TYPE, Event};

/// No row is inserted if the entity is elsewhere; two that see the same fall over the unique key.
const INSERT: &str = "INSERT INTO events (id, entity, version, type, payload)
    SELECT $1, $2, $3 + 1, $4, $5
    WHERE coalesce((SELECT max(version) FROM events WHERE entity = $2), 0) = $3";

pub(super) struct Rows {
    database: Database,
    connections: RwLock<Vec<(Client, Statement)>>,
    used: AtomicUsize,
}

impl Rows {
    pub(super) fn new(database: Database) -> Self {
        Self {
            database,
            connections: RwLock::new(Vec::new()),
            used: AtomicUsize::new(1),
        }
    }

    async fn open(&self, count: usize) -> anyhow::Result<()> {
        let mut connections = self.connections.write().await;
        while connections.len() < count {
            let client = self.database.connect().await?;
            let types = [
                tokio_postgres::types::Type::UUID,
                tokio_postgres::types::Type::TEXT,
                tokio_postgres::types::Type::INT8,
                tokio_postgres::types::Type::TEXT,
                tokio_postgres::types::Type::BYTEA,
            ];
            let statement = client.prepare_typed(INSERT, &types).await?;
            connections.push((client, statement));
        }
        self.used.store(count, Ordering::Relaxed);
        Ok(())
    }
}

impl Store for Rows {
    fn append(&self, event: Event, expected: u64) -> Work<'_, Result<u64, Refused>> {
        Box::pin(async move {
            let connections = self.connections.read().await;
            let number: usize = event.entity.rsplit('-').next().unwrap_or("0").parse()?;
            // Writer w of N has the entities congruent to w modulo N.
            let mine = connections.get(number % self.used.load(Ordering::Relaxed));
            let (client, statement) = mine.context("no connection")?;
            let version = expected as i64;
            let inserted = client
                .execute(
                    statement,
                    &[
                        &event.id,
                        &event.entity,
                        &version,
                        &EVENT_TYPE,
                        &event.payload,
                    ],
                )
                .await;
            match inserted {
                Ok(1) => Ok(expected + 1),
                Ok(_) => Err(Refused::Conflict),
                Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                    Err(Refused::Conflict)
                }
                Err(error) => Err(error.into()),
            }
        })
    }

    fn expect_writers(&self, writers: usize) -> Work<'_, anyhow::Result<()>> {
        Box::pin(self.open(writers.min(CONNECTIONS)))
    }

    fn replay(&self) -> Work<'_, anyhow::Result<Replayed>> {
        Box::pin(self.database.replay())
    }

    fn history(&self, entity: usize) -> Work<'_, anyhow::Result<Option<Replayed>>> {
        Box::pin(async move { self.database.history(entity).await.map(Some) })
    }

    fn close(&self) -> Work<'_, anyhow::Result<()>> {
        Box::pin(async { self.database.stop() })
    }
}
