//! PostgreSQL with one statement for all events that wait, over two connections.

use anyhow::{Context as _, anyhow};
use everfold_engine::Uuid;
use everfold_engine::map::{self, Set};
use tokio::sync::mpsc;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};

use super::postgres::Database;
use crate::front::{GROUP, QUEUE, Request, ask};
use crate::store::{Refused, Replayed, Store, Work};
use crate::workload::{EVENT_TYPE, Event};

/// Inserts those whose entity is where they expect it, and says which they are.
const INSERT: &str = "INSERT INTO events (id, entity, version, type, payload)
    SELECT new.id, new.entity, new.expected + 1, $5, new.payload
    FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bytea[])
        WITH ORDINALITY AS new (id, entity, expected, payload, place)
    WHERE coalesce((SELECT max(version) FROM events WHERE entity = new.entity), 0) = new.expected
    ORDER BY new.place
    ON CONFLICT (entity, version) DO NOTHING
    RETURNING id";

const CONNECTIONS: usize = 2;

pub(super) struct Groups {
    database: Database,
    senders: Vec<mpsc::Sender<Request>>,
}

impl Groups {
    pub(super) async fn new(database: Database) -> anyhow::Result<Self> {
        let mut senders = Vec::new();
        for _ in 0..CONNECTIONS {
            let client = database.connect().await?;
            let types = [
                Type::UUID_ARRAY,
                Type::TEXT_ARRAY,
                Type::INT8_ARRAY,
                Type::BYTEA_ARRAY,
                Type::TEXT,
            ];
            let statement = client.prepare_typed(INSERT, &types).await?;
            let (sender, inbox) = mpsc::channel(QUEUE);
            tokio::spawn(serve(client, statement, inbox));
            senders.push(sender);
        }
        Ok(Self { database, senders })
    }
}

async fn serve(client: Client, statement: Statement, mut inbox: mpsc::Receiver<Request>) {
    let mut waiting = Vec::with_capacity(GROUP);
    while inbox.recv_many(&mut waiting, GROUP).await > 0 {
        let inserted = insert(&client, &statement, &waiting).await;
        for request in waiting.drain(..) {
            let answer = match &inserted {
                Ok(ids) if ids.contains(&request.event.id) => Ok(request.expected + 1),
                Ok(_) => Err(Refused::Conflict),
                Err(error) => Err(Refused::Failed(anyhow!("not inserted: {error:#}"))),
            };
            // Whoever asked may have gone away.
            let _ = request.done.send(answer);
        }
    }
}

async fn insert(
    client: &Client,
    statement: &Statement,
    requests: &[Request],
) -> anyhow::Result<Set<Uuid>> {
    let ids: Vec<Uuid> = requests.iter().map(|it| it.event.id).collect();
    let entities: Vec<&str> = requests.iter().map(|it| &*it.event.entity).collect();
    let expected: Vec<i64> = requests.iter().map(|it| it.expected as i64).collect();
    let payloads: Vec<&[u8]> = requests.iter().map(|it| &*it.event.payload).collect();
    let rows = client
        .query(
            statement,
            &[&ids, &entities, &expected, &payloads, &EVENT_TYPE],
        )
        .await?;
    let mut inserted = map::seeded_set(0);
    for row in rows {
        inserted.insert(row.try_get(0)?);
    }
    Ok(inserted)
}

impl Store for Groups {
    fn append(&self, event: Event, expected: u64) -> Work<'_, Result<u64, Refused>> {
        Box::pin(async move {
            let number: usize = event.entity.rsplit('-').next().unwrap_or("0").parse()?;
            let sender = self.senders.get(number % CONNECTIONS);
            ask(sender.context("no connection")?, event, expected).await
        })
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
