//! Looking for events by what they are.

use super::{Chunk, Engine, ReadError, ReadLimit};
use crate::Text;
use crate::position::Offset;
use crate::record::{Kind, Record};
use crate::slot::Partition;
use crate::time::Timestamp;

/// Which events are looked for: those that satisfy every part that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Any of these event types; all if empty.
    pub event_types: Vec<Text>,
    /// Events of any of these types of entities; of all if empty.
    pub entity_types: Vec<Text>,
    /// Events that carry all of these labels.
    pub labels: Vec<(Text, Text)>,
    /// Recorded then or later.
    pub since: Option<Timestamp>,
    /// Recorded before.
    pub until: Option<Timestamp>,
}

impl Query {
    /// Whether a record is an event that is looked for.
    pub fn matches(&self, record: &Record) -> bool {
        let portable = &record.portable;
        let recorded = record.recorded();
        let one_of = |wanted: &[Text], found: &Text| wanted.is_empty() || wanted.contains(found);
        record.kind == Kind::Event
            && one_of(&self.event_types, &portable.event_type)
            && one_of(&self.entity_types, &portable.entity.kind)
            && self
                .labels
                .iter()
                .all(|label| portable.labels.contains(label))
            && self.since.is_none_or(|since| recorded >= since)
            && !self.is_past(record)
    }

    /// Whether no later record of the partition can match.
    pub fn is_past(&self, record: &Record) -> bool {
        self.until.is_some_and(|until| record.recorded() >= until)
    }
}

/// Records looked at before an answer is given, however few of them match.
const LOOKED_AT: usize = 16 << 10;

/// Looks through a partition record by record, for engines without an index.
///
/// # Errors
/// Those of [`Engine::read`].
pub async fn scan<E: Engine + ?Sized>(
    engine: &E,
    partition: Partition,
    query: &Query,
    after: Offset,
    limit: usize,
) -> Result<Chunk, ReadError> {
    let mut found = Chunk {
        records: Vec::new(),
        next: after,
        safe_head: after,
    };
    let mut looked_at = 0;
    loop {
        let chunk = engine
            .read(partition, found.next, ReadLimit::default())
            .await?;
        found.safe_head = chunk.safe_head;
        for record in &chunk.records {
            if query.is_past(record) {
                found.next = chunk.safe_head;
                return Ok(found);
            }
            found.next = record.local.offset;
            if query.matches(record) {
                found.records.push(record.clone());
                if found.records.len() >= limit.max(1) {
                    return Ok(found);
                }
            }
        }
        found.next = chunk.next;
        looked_at += chunk.records.len();
        if found.next >= found.safe_head || looked_at >= LOOKED_AT || chunk.records.is_empty() {
            return Ok(found);
        }
    }
}
