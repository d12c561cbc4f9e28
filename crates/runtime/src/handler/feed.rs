//! One reader per partition for all handlers of the node.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use everfold_engine::engine::{Engine, ReadError, ReadLimit};
use everfold_engine::slot::Partition;
use everfold_engine::{Offset, Record};

use crate::event::{DecodeError, Event};

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
    recent: Mutex<VecDeque<Arc<Fed>>>,
    reading: tokio::sync::Mutex<()>,
}

const RECENT: usize = 4;

impl Feed {
    pub(crate) fn new(engine: Arc<dyn Engine>, partition: Partition) -> Self {
        Self {
            engine,
            partition,
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
                let _reading = self.reading.lock().await;
                if let Some(fed) = self.recent(cursor) {
                    return Ok(fed);
                }
                let chunk = self
                    .engine
                    .read(self.partition, cursor, ReadLimit::default())
                    .await?;
                if chunk.next > cursor {
                    let records = chunk
                        .records
                        .into_iter()
                        .map(|record| Arc::new(Delivered::new(record)));
                    let fed = Arc::new(Fed {
                        after: cursor,
                        next: chunk.next,
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

    fn recent(&self, cursor: Offset) -> Option<Arc<Fed>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent
            .iter()
            .rev()
            .find(|fed| fed.after <= cursor && cursor < fed.next)
            .cloned()
    }
}
