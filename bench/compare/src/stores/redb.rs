//! redb: a B-tree with copy on write; one write transaction per group.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use crate::front::{Accepted, Commit, Front, encode, entity_key, entity_keys, payload_length};
use crate::store::{Refused, Replayed, Store, Work};
use crate::workload::{EVENT_TYPE, Event, name};

const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
const ENTITIES: TableDefinition<'_, &[u8], u64> = TableDefinition::new("entities");

struct Redb {
    database: Arc<Database>,
    front: Front,
}

struct Writer(Arc<Database>);

/// A database in a fresh directory.
pub(crate) fn open(directory: &Path) -> anyhow::Result<Arc<dyn Store>> {
    let database = Arc::new(Database::create(directory.join("events.redb"))?);
    let writing = database.begin_write()?;
    writing.open_table(EVENTS)?;
    writing.open_table(ENTITIES)?;
    writing.commit()?;
    let front = Front::start(Writer(database.clone()))?;
    Ok(Arc::new(Redb { database, front }))
}

impl Commit for Writer {
    fn commit(&mut self, accepted: &[Accepted]) -> anyhow::Result<()> {
        let writing = self.0.begin_write()?;
        {
            let mut events = writing.open_table(EVENTS)?;
            let mut entities = writing.open_table(ENTITIES)?;
            for one in accepted {
                events.insert(one.sequence, encode(one, EVENT_TYPE).as_slice())?;
                let key = entity_key(&one.event.entity, one.version);
                entities.insert(key.as_slice(), one.sequence)?;
            }
        }
        // Durable at once, as by default.
        Ok(writing.commit()?)
    }
}

impl Store for Redb {
    fn append(&self, event: Event, expected: u64) -> Work<'_, Result<u64, Refused>> {
        Box::pin(self.front.append(event, expected))
    }

    fn replay(&self) -> Work<'_, anyhow::Result<Replayed>> {
        Box::pin(async {
            let events = self.database.begin_read()?.open_table(EVENTS)?;
            let mut replayed = Replayed::default();
            for entry in events.iter()? {
                replayed.add(payload_length(entry?.1.value())?);
            }
            Ok(replayed)
        })
    }

    fn history(&self, entity: usize) -> Work<'_, anyhow::Result<Option<Replayed>>> {
        Box::pin(async move {
            let reading = self.database.begin_read()?;
            let events = reading.open_table(EVENTS)?;
            let entities = reading.open_table(ENTITIES)?;
            let (first, last) = entity_keys(&name(entity));
            let mut replayed = Replayed::default();
            for entry in entities.range(first.as_slice()..=last.as_slice())? {
                let event = events.get(entry?.1.value())?.context("an event is lost")?;
                replayed.add(payload_length(event.value())?);
            }
            Ok(Some(replayed))
        })
    }

    fn close(&self) -> Work<'_, anyhow::Result<()>> {
        Box::pin(self.front.close())
    }
}
