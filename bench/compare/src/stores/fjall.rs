//! fjall: a log-structured merge tree; one batch per group.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::front::{Accepted, Commit, Front, encode, entity_key, entity_keys, payload_length};
use crate::store::{Refused, Replayed, Store, Work};
use crate::workload::{EVENT_TYPE, Event, name};

#[derive(Clone)]
struct Files {
    database: Database,
    events: Keyspace,
    entities: Keyspace,
}

struct Fjall {
    files: Files,
    front: Front,
}

/// A database in a fresh directory.
pub(crate) fn open(directory: &Path) -> anyhow::Result<Arc<dyn Store>> {
    let database = Database::builder(directory.join("fjall")).open()?;
    let events = database.keyspace("events", KeyspaceCreateOptions::default)?;
    let entities = database.keyspace("entities", KeyspaceCreateOptions::default)?;
    let files = Files {
        database,
        events,
        entities,
    };
    let front = Front::start(files.clone())?;
    Ok(Arc::new(Fjall { files, front }))
}

impl Commit for Files {
    fn commit(&mut self, accepted: &[Accepted]) -> anyhow::Result<()> {
        let batch = self.database.batch();
        let mut batch = batch.durability(Some(PersistMode::SyncData));
        for one in accepted {
            // Big-endian, so that byte order is the order of the log.
            let sequence = one.sequence.to_be_bytes();
            batch.insert(&self.events, sequence, encode(one, EVENT_TYPE));
            let key = entity_key(&one.event.entity, one.version);
            batch.insert(&self.entities, key, sequence);
        }
        Ok(batch.commit()?)
    }
}

impl Store for Fjall {
    fn append(&self, event: Event, expected: u64) -> Work<'_, Result<u64, Refused>> {
        Box::pin(self.front.append(event, expected))
    }

    fn replay(&self) -> Work<'_, anyhow::Result<Replayed>> {
        Box::pin(async {
            let mut replayed = Replayed::default();
            for guard in self.files.events.iter() {
                replayed.add(payload_length(&guard.value()?)?);
            }
            Ok(replayed)
        })
    }

    fn history(&self, entity: usize) -> Work<'_, anyhow::Result<Option<Replayed>>> {
        Box::pin(async move {
            let (first, last) = entity_keys(&name(entity));
            let mut replayed = Replayed::default();
            for guard in self.files.entities.range(first..=last) {
                let event = self.files.events.get(guard.value()?)?;
                let event = event.context("an event is lost")?;
                replayed.add(payload_length(&event)?);
            }
            Ok(Some(replayed))
        })
    }

    fn close(&self) -> Work<'_, anyhow::Result<()>> {
        Box::pin(self.front.close())
    }
}
