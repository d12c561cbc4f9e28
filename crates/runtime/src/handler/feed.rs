//! One reader per partition for all handlers of the node.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use everfold_engine::engine::{Engine, ReadError, ReadLimit};
use everfold_engine::record::Kind;
use everfold_engine::slot::Partition;
use everfold_engine::{Offset, Record};

use crate::event::{DecodeError, Event};
use crate::owner::OwnerStatus;
use crate::schema::Registry;

/// A record on its way to handlers; decoded once for all of them.
pub(crate) struct Delivered {
    record: Arc<Record>,
    decoded: OnceLock<Result<Arc<dyn Any + Send + Sync>, DecodeError>>,
}

impl Delivered {
    pub(crate) fn new(record: Arc<Record>) -> Self {
        Self {
            record,
            decoded: OnceLock::new(),
        }
    }

    pub(crate) fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// The record's event as `V`.
    pub(crate) fn event<V: Event>(&self) -> Result<Arc<V>, DecodeError> {
        let decode = || {
            let portable = &self.record.portable;
            V::decode(
                &portable.event_type,
                portable.schema_version,
                &portable.payload,
            )
            .map(Arc::new)
        };
        let decoded = self.decoded.get_or_init(|| match decode() {
            Ok(event) => Ok(event),
            Err(error) => Err(error),
        });
        match decoded.clone()?.downcast::<V>() {
            Ok(event) => Ok(event),
            // Another handler reads this entity's events as another type.
            Err(_) => decode(),
        }
    }
}

/// A stretch of a partition, whole units only.
pub(crate) struct Fed {
    after: Offset,
    pub(crate) next: Offset,
    records: Vec<Arc<Delivered>>,
}

impl Fed {
    /// The records after an offset.
    pub(crate) fn after(&self, cursor: Offset) -> &[Arc<Delivered>] {
        let skip = self
            .records
            .partition_point(|delivered| delivered.record.local.offset <= cursor);
        &self.records[skip..]
    }
}

/// Reads one partition below its safe head.
pub(crate) struct Feed {
    engine: Arc<dyn Engine>,
    partition: Partition,
    /// Where other nodes may be of later builds: what to know events by, and where to say so.
    mixed: Option<(Arc<Registry>, Arc<OwnerStatus>)>,
    recent: Mutex<VecDeque<Arc<Fed>>>,
    reading: tokio::sync::Mutex<()>,
}

const RECENT: usize = 4;

impl Feed {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        partition: Partition,
        mixed: Option<(Arc<Registry>, Arc<OwnerStatus>)>,
    ) -> Self {
        Self {
            engine,
            partition,
            mixed,
            recent: Mutex::default(),
            reading: tokio::sync::Mutex::const_new(()),
        }
    }

    /// What comes after `cursor`; waits until there is something.
    pub(crate) async fn next(&self, cursor: Offset) -> Result<Arc<Fed>, ReadError> {
        loop {
            if let Some(fed) = self.recent(cursor) {
                return Ok(fed);
            }
            {
                let reading = self.reading.lock().await;
                if let Some(fed) = self.recent(cursor) {
                    return Ok(fed);
                }
                let chunk = self
                    .engine
                    .read(self.partition, cursor, ReadLimit::default())
                    .await?;
                let readable = self.readable(&chunk.records);
                if readable == 0 && !chunk.records.is_empty() {
                    // Nobody here goes past it, so that nothing is set aside which a node of that
                    // build will do.
                    drop(reading);
                    std::future::pending::<()>().await;
                }
                if chunk.next > cursor {
                    let last = match chunk.records.get(readable) {
                        Some(_) => chunk.records[readable - 1].local.offset,
                        None => chunk.next,
                    };
                    let records = chunk
                        .records
                        .into_iter()
                        .take(readable)
                        .map(|record| Arc::new(Delivered::new(record)));
                    let fed = Arc::new(Fed {
                        after: cursor,
                        next: last,
                        records: records.collect(),
                    });
                    let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
                    recent.push_back(fed.clone());
                    if recent.len() > RECENT {
                        recent.pop_front();
                    }
                    return Ok(fed);
                }
            }
            self.engine.wait(self.partition, cursor).await?;
        }
    }

    /// How many records, in whole units, come before the first that only a later build can read.
    fn readable(&self, records: &[Arc<Record>]) -> usize {
        let Some((registry, status)) = &self.mixed else {
            return records.len();
        };
        let is_newer = |record: &Arc<Record>| {
            record.kind == Kind::Event
                && registry
                    .of(&record.portable.entity)
                    .is_newer(&record.portable)
        };
        let Some(first) = records.iter().position(is_newer) else {
            return records.len();
        };
        status.unreadable.store(true, Ordering::Relaxed);
        let mut before = records[..first].iter();
        before
            .rposition(|record| record.portable.unit.is_last())
            .map_or(0, |last| last + 1)
    }

    fn recent(&self, cursor: Offset) -> Option<Arc<Fed>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent
            .iter()
            .rev()
            .find(|fed| fed.after <= cursor && cursor < fed.next)
            .cloned()
    }
}
