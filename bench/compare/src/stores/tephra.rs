//! tephra, embedded: an event store whose appends are conditioned by a query; it groups by itself.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tephra::{
    AppendCondition, AppendError, EventType, Position, Query, QueryItem, SegmentConfig, SegmentSet,
    Tag, Tags, WriteCoordinator, WriteHandle, WriterConfig,
};

use crate::store::{Held, Refused, Replayed, Store, Work};
use crate::workload::{EVENT_TYPE, Event, HISTORY, name};

/// As in its own example.
const SEGMENT: usize = 256 << 20;

struct Tephra {
    handle: WriteHandle,
    coordinator: Mutex<Option<WriteCoordinator>>,
    event_type: EventType,
}

/// A store in a fresh directory.
pub(crate) fn open(directory: &Path) -> anyhow::Result<Arc<dyn Store>> {
    let set = SegmentSet::open(directory.join("tephra"), SegmentConfig::new(SEGMENT))?;
    let (coordinator, handle) = WriteCoordinator::start(set, WriterConfig::default())?;
    Ok(Arc::new(Tephra {
        handle,
        coordinator: Mutex::new(Some(coordinator)),
        event_type: EventType::new(EVENT_TYPE)?,
    }))
}

fn of(tags: &Tags) -> Query {
    Query::item(QueryItem::with_tags(tags.clone()))
}

fn tags(entity: &str) -> anyhow::Result<Tags> {
    Ok(Tags::new([Tag::new(entity)?])?)
}

impl Tephra {
    fn read(&self, query: &Query, limit: Option<u64>) -> anyhow::Result<Replayed> {
        let mut reads = self.handle.read(query, Position::ZERO, limit);
        let mut replayed = Replayed::default();
        while let Some(event) = reads.next() {
            replayed.add(event?.event.data().len() - ID);
        }
        Ok(replayed)
    }
}

/// Events have no id of their own: it lies in front of the payload.
const ID: usize = 16;

impl Store for Tephra {
    fn append(&self, event: Event, expected: u64) -> Work<'_, Result<u64, Refused>> {
        Box::pin(async move {
            let tags = tags(&event.entity)?;
            let mut data = Vec::with_capacity(ID + event.payload.len());
            data.extend_from_slice(event.id.as_bytes());
            data.extend_from_slice(&event.payload);
            let packed = tephra::Event::new(&self.event_type, &tags, &data)?;
            let condition = AppendCondition::new(of(&tags)).after(Position::new(expected));
            match self
                .handle
                .append_async(vec![packed], Some(condition))
                .await
            {
                Ok(positions) => Ok(positions.last.get()),
                Err(AppendError::Conflict { .. }) => Err(Refused::Conflict),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn replay(&self) -> Work<'_, anyhow::Result<Replayed>> {
        Box::pin(async { self.read(&Query::all(), None) })
    }

    fn history(&self, entity: usize) -> Work<'_, anyhow::Result<Option<Replayed>>> {
        Box::pin(async move {
            let query = of(&tags(&name(entity))?);
            self.read(&query, Some(HISTORY as u64)).map(Some)
        })
    }

    fn follow(&self, held: Held) -> Work<'_, anyhow::Result<bool>> {
        Box::pin(async move {
            let handle = &self.handle;
            let mut subscription = handle.subscribe(Query::all(), handle.head());
            let run = move || {
                while let Some(Ok(events)) = subscription.next_batch() {
                    for _ in events {
                        if held.send(Instant::now()).is_err() {
                            return;
                        }
                    }
                }
            };
            let thread = std::thread::Builder::new().name("subscriber".into());
            thread.spawn(run)?;
            Ok(true)
        })
    }

    fn close(&self) -> Work<'_, anyhow::Result<()>> {
        Box::pin(async {
            let coordinator = self.coordinator.lock().map_or(None, |mut it| it.take());
            if let Some(coordinator) = coordinator {
                tokio::task::spawn_blocking(|| drop(coordinator.shutdown())).await?;
            }
            Ok(())
        })
    }
}
