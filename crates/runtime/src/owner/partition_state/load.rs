//! Reading a partition's stored state, and proving that it is of this log.

use everfold_engine::engine::{Area, Engine, ReadLimit};
use everfold_engine::slot::Partition;
use everfold_engine::{Bytes, Offset, Text, Timestamp};

use super::PartitionState;
use super::bytes::{HEAD, Head, read_head, read_page};
use crate::owner::known::{Known, oldest};

/// Values read at once; a page may have megabytes.
const VALUES: usize = 8;

/// Where a partition's own state is kept.
pub(crate) fn partition_area(partition: Partition) -> Area {
    Area {
        name: Text::from_static("partition"),
        partition,
    }
}

/// What was found of a partition's state.
pub(crate) enum Found {
    Usable(Box<PartitionState>, Box<Known>),
    /// Nothing is stored.
    Nothing,
    /// It is damaged, incomplete or of another format.
    Unusable,
    /// It is of another history than the log's: another incarnation, or ahead of the log.
    Foreign,
}

impl PartitionState {
    /// Reads what is stored of a partition into an empty table.
    pub(crate) async fn load(
        engine: &dyn Engine,
        partition: Partition,
        mut known: Known,
        now: Timestamp,
    ) -> Found {
        let area = partition_area(partition);
        let head = match engine.get(&area, HEAD).await {
            Ok(Some(head)) => read_head(&head),
            Ok(None) => {
                let rest = engine.scan(&area, None, 1).await;
                let empty = rest.is_ok_and(|rest| rest.is_empty());
                return if empty {
                    Found::Nothing
                } else {
                    Found::Unusable
                };
            }
            Err(_) => None,
        };
        let Some(head) = head else {
            return Found::Unusable;
        };
        match is_of(engine, partition, &head).await {
            Some(true) => {}
            Some(false) => return Found::Foreign,
            None => return Found::Unusable,
        }
        for ((handler, partition), offset) in &head.settled {
            known.settle(handler, *partition, *offset);
        }
        let oldest = oldest(now).max(head.forgotten);
        known.forget_before(oldest);
        let mut pages = Vec::new();
        let mut after: Option<Bytes> = None;
        loop {
            let Ok(values) = engine.scan(&area, after.as_deref(), VALUES).await else {
                return Found::Unusable;
            };
            let Some((last, _)) = values.last() else {
                break;
            };
            after = Some(last.clone());
            for (_, value) in values.iter().filter(|(key, _)| key != HEAD) {
                let Some(page) = read_page(value, &mut known, oldest) else {
                    return Found::Unusable;
                };
                pages.push(page);
            }
        }
        pages.sort_by_key(|page| page.number);
        pages.dedup_by_key(|page| page.number);
        if pages.len() as u64 != head.pages {
            return Found::Unusable;
        }
        let state = Self {
            offset: head.offset,
            stamp: head.stamp,
            clock: head.clock,
            settled: head.settled,
            pages,
            next: head.next,
            ..Self::default()
        };
        Found::Usable(Box::new(state), Box::new(known))
    }
}

/// Whether a stored state ends with a record of this log; `None` if the log cannot say.
///
/// The record may have been trimmed since: no other has its offset then. What the state knows of
/// trimmed records the log cannot say again, so it must not be given up for that.
async fn is_of(engine: &dyn Engine, partition: Partition, head: &Head) -> Option<bool> {
    if head.incarnation != engine.identity().incarnation || head.offset == Offset(0) {
        return Some(false);
    }
    let limit = ReadLimit {
        records: 1,
        bytes: 1,
    };
    let mut after = Offset(head.offset.0 - 1);
    loop {
        let chunk = engine.read_chained(partition, after, limit).await.ok()?;
        if chunk.safe_head < head.offset {
            return Some(false);
        }
        if let Some(record) = chunk.records.first() {
            let adjacent = record.local.offset.0 == head.offset.0 + 1;
            return Some(if record.local.offset == head.offset {
                record.local.stamp == head.stamp && record.local.link == head.clock.link
            } else if adjacent && engine.identity().chained {
                record.link_after(head.clock.link) == record.local.link
            } else {
                record.local.stamp > head.stamp
            });
        }
        if chunk.next <= after {
            // Everything from there on has been trimmed.
            return Some(true);
        }
        after = chunk.next;
    }
}
