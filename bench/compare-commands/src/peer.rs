//! cqrs-es: the same order as its aggregate, its event store on PostgreSQL as it comes.

use std::str::FromStr as _;
use std::sync::Arc;

use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use postgres_es::{PostgresCqrs, postgres_cqrs};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Executor as _, Pool, Postgres, Row as _};

use crate::load::Target;
use crate::order::{Line, name};
use crate::server::{SCHEMA_OF_PEER, Site};

/// Connections that it has if nobody says how many.
pub(crate) const USUAL: u32 = 10;

/// Its own definition, from `db/init.sql` of postgres-es.
const TABLE: &str = "create table events (
    aggregate_type text not null,
    aggregate_id text not null,
    sequence bigint check (sequence >= 0) not null,
    event_type text not null,
    event_version text not null,
    payload json not null,
    metadata json not null,
    primary key (aggregate_type, aggregate_id, sequence))";

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
enum OrderEvent {
    LineAdded(Line),
}

impl DomainEvent for OrderEvent {
    fn event_type(&self) -> String {
        "LineAdded".to_owned()
    }

    fn event_version(&self) -> String {
        "1.0".to_owned()
    }
}

#[derive(Serialize, Deserialize, Default, Debug)]
struct Order {
    lines: u64,
    total: u64,
}

#[derive(Debug, thiserror::Error)]
enum Never {}

impl Aggregate for Order {
    const TYPE: &'static str = "order";
    type Command = Line;
    type Event = OrderEvent;
    type Error = Never;
    type Services = ();

    async fn handle(&mut self, command: Line, _: &(), sink: &EventSink<Self>) -> Result<(), Never> {
        sink.write(OrderEvent::LineAdded(command), self).await;
        Ok(())
    }

    fn apply(&mut self, event: OrderEvent) {
        let OrderEvent::LineAdded(line) = event;
        self.lines += 1;
        self.total += u64::from(line.quantity) * u64::from(line.price);
    }
}

/// The framework with its pool.
#[derive(Clone)]
pub(crate) struct Peer {
    cqrs: Arc<PostgresCqrs<Order>>,
    pool: Pool<Postgres>,
}

impl Peer {
    pub(crate) async fn open(site: &Site, connections: Option<u32>) -> anyhow::Result<Self> {
        let options = PgConnectOptions::from_str(site.address())?;
        let options = options.options([("search_path", SCHEMA_OF_PEER)]);
        let pool = match connections {
            // As `default_postgress_pool` makes it, in a schema of its own.
            None => PgPoolOptions::new().max_connections(USUAL),
            Some(count) => PgPoolOptions::new()
                .max_connections(count)
                .min_connections(count)
                .test_before_acquire(false),
        };
        let pool = pool.connect_with(options).await?;
        let make = format!(
            "drop schema if exists {SCHEMA_OF_PEER} cascade; create schema {SCHEMA_OF_PEER}; {TABLE}"
        );
        pool.execute(make.as_str()).await?;
        Ok(Self {
            cqrs: Arc::new(postgres_cqrs(pool.clone(), Vec::new(), ())),
            pool,
        })
    }

    /// What the server was told that matters for figures.
    pub(crate) async fn settings(&self) -> anyhow::Result<String> {
        let sql = "select 'PostgreSQL ' || current_setting('server_version') || ', ' || \
                   string_agg(name || '=' || current_setting(name), ', ' order by name) \
                   from pg_settings where name in ('fsync', 'synchronous_commit', \
                   'full_page_writes', 'wal_sync_method', 'shared_buffers', 'max_wal_size')";
        Ok(self.pool.fetch_one(sql).await?.try_get(0)?)
    }

    pub(crate) async fn close(self) -> anyhow::Result<()> {
        let drop = format!("drop schema {SCHEMA_OF_PEER} cascade");
        self.pool.execute(drop.as_str()).await?;
        self.pool.close().await;
        Ok(())
    }
}

impl Target for Peer {
    async fn send(&self, order: usize, seed: u64) -> anyhow::Result<()> {
        let line = Line::any(order, seed);
        Ok(self.cqrs.execute(&name(order), line).await?)
    }
}
