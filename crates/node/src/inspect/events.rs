//! Events of all partitions in one order.

use std::collections::VecDeque;
use std::sync::Arc;

use everfold::engine::engine::{Engine, ReadError, ReadLimit};
use everfold::engine::record::Kind;
use everfold::engine::{EntityKey, Offset, Partition, Position, Record};

/// Which events.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Of one partition only.
    pub partition: Option<Partition>,
    /// Of one type only.
    pub event_type: Option<String>,
    /// Every kind of record, not only events.
    pub all_kinds: bool,
}

impl Wanted {
    fn fits(&self, record: &Record) -> bool {
        let of_kind = self.all_kinds || record.kind == Kind::Event;
        let event_type = self.event_type.as_deref();
        of_kind && event_type.is_none_or(|wanted| *record.portable.event_type == *wanted)
    }
}

/// Some events, and where to go on.
pub struct Page {
    /// In order of their stamps.
    pub records: Vec<Arc<Record>>,
    /// Everything up to here was looked at.
    pub next: Position,
    /// Whether there is more already.
    pub more: bool,
}

/// Records looked at for one page, wanted or not.
const MOST_READ: usize = 20_000;

struct Lane {
    partition: Partition,
    head: Offset,
    after: Offset,
    waiting: VecDeque<Arc<Record>>,
}

/// The next events after a position, at most `limit`.
///
/// # Errors
/// The log cannot be read.
pub async fn after(
    engine: &dyn Engine,
    position: &Position,
    wanted: &Wanted,
    limit: usize,
) -> Result<Page, ReadError> {
    let mut next = position.clone();
    let mut lanes = lanes(engine, wanted.partition, |partition, _| {
        position.offset(partition)
    })
    .await?;
    let mut records = Vec::new();
    for _ in 0..MOST_READ {
        if records.len() == limit {
            break;
        }
        for lane in &mut lanes {
            lane.fill(engine, &mut next, limit).await?;
        }
        let first = lanes.iter_mut().filter(|lane| !lane.waiting.is_empty());
        let first = first.min_by_key(|lane| lane.waiting.front().map(|r| r.local.stamp));
        let Some((lane, record)) = first.and_then(|lane| {
            let record = lane.waiting.pop_front()?;
            Some((lane, record))
        }) else {
            break;
        };
        next.advance(lane.partition, record.local.offset);
        if wanted.fits(&record) {
            records.push(record);
        }
    }
    let more = lanes
        .iter()
        .any(|lane| !lane.waiting.is_empty() || lane.after < lane.head);
    Ok(Page {
        records,
        next,
        more,
    })
}

/// About the last `limit` events, and the end of the log.
///
/// # Errors
/// The log cannot be read.
pub async fn last(engine: &dyn Engine, wanted: &Wanted, limit: usize) -> Result<Page, ReadError> {
    let back = |_, head: Offset| Offset(head.0.saturating_sub(limit as u64));
    let mut lanes = lanes(engine, wanted.partition, back).await?;
    let mut next = engine.identity().start();
    let mut records = Vec::new();
    for lane in &mut lanes {
        while lane.after < lane.head {
            lane.fill(engine, &mut next, limit).await?;
            records.extend(lane.waiting.drain(..).filter(|record| wanted.fits(record)));
        }
        next.advance(lane.partition, lane.after);
    }
    records.sort_by_key(|record| record.local.stamp);
    let surplus = records.len().saturating_sub(limit);
    records.drain(..surplus);
    Ok(Page {
        records,
        next,
        more: false,
    })
}

/// The events of one entity after a version, at most `limit`.
///
/// # Errors
/// The log cannot be read.
pub async fn of_entity(
    engine: &dyn Engine,
    entity: &EntityKey,
    after: u64,
    limit: usize,
) -> Result<Vec<Arc<Record>>, ReadError> {
    let partition = engine.identity().layout.partition(&entity.id);
    engine.read_entity(partition, entity, after, limit).await
}

async fn lanes(
    engine: &dyn Engine,
    only: Option<Partition>,
    begin: impl Fn(Partition, Offset) -> Offset,
) -> Result<Vec<Lane>, ReadError> {
    let mut lanes = Vec::new();
    for partition in engine.identity().layout.all() {
        if only.is_none_or(|only| only == partition) {
            let head = engine.safe_head(partition).await?;
            lanes.push(Lane {
                partition,
                head,
                after: begin(partition, head),
                waiting: VecDeque::new(),
            });
        }
    }
    Ok(lanes)
}

impl Lane {
    /// Reads on if nothing waits.
    async fn fill(
        &mut self,
        engine: &dyn Engine,
        next: &mut Position,
        limit: usize,
    ) -> Result<(), ReadError> {
        while self.waiting.is_empty() && self.after < self.head {
            next.advance(self.partition, self.after);
            let limit = ReadLimit {
                records: limit.clamp(16, 1024),
                ..ReadLimit::default()
            };
            let chunk = engine
                .read_chained(self.partition, self.after, limit)
                .await?;
            if chunk.next <= self.after {
                self.head = self.after;
                break;
            }
            self.after = chunk.next;
            self.waiting.extend(chunk.records);
        }
        if self.waiting.is_empty() {
            next.advance(self.partition, self.after);
        }
        Ok(())
    }
}
