//! Events of all partitions in one order.

use std::collections::VecDeque;
use std::sync::Arc;

use everfold::engine::engine::{Engine, Query, ReadError, ReadLimit};
use everfold::engine::record::Kind;
use everfold::engine::{EntityKey, Offset, Partition, Position, Record, Timestamp};

/// Which events.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Of one partition only.
    pub partition: Option<Partition>,
    /// What they are.
    pub query: Query,
    /// Every kind of record, not only events; of the query only types of events count.
    pub all_kinds: bool,
}

impl Wanted {
    fn fits(&self, record: &Record) -> bool {
        let types = &self.query.event_types;
        match self.all_kinds {
            true => types.is_empty() || types.contains(&record.portable.event_type),
            false => self.query.matches(record),
        }
    }

    /// Whether most records are none of these, so that an index is worth asking.
    fn is_choosy(&self) -> bool {
        !self.all_kinds && self.query != Query::default()
    }
}

/// What a query is made of, as people write it.
#[derive(Clone, Debug, Default, serde::Deserialize, clap::Args)]
pub struct Asked {
    /// Of one type only
    #[arg(long = "type", value_name = "TYPE")]
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// Of entities of one type only
    #[arg(long, value_name = "TYPE")]
    pub entity_type: Option<String>,
    /// With this label; several with commas between are all wanted
    #[arg(long, value_name = "NAME=VALUE")]
    pub label: Option<String>,
    /// Recorded then or later: a day or a time in UTC, 2026-01-31T14:05:00Z for example
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Recorded before
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

impl Asked {
    /// Each part by its name in a URL.
    pub fn parts(&self) -> [(&'static str, Option<&str>); 5] {
        [
            ("type", self.event_type.as_deref()),
            ("entity_type", self.entity_type.as_deref()),
            ("label", self.label.as_deref()),
            ("since", self.since.as_deref()),
            ("until", self.until.as_deref()),
        ]
    }

    /// Whether a record of an entity's history is asked for; a baseline stands for events.
    pub fn wants(query: &Query, record: &Record) -> bool {
        query.matches(record) || (record.kind == Kind::Baseline && *query == Query::default())
    }

    /// The query.
    ///
    /// # Errors
    /// A label without a value, or a time that is none.
    pub fn query(&self) -> Result<Query, String> {
        let one = |text: &Option<String>| text.iter().map(|text| text.clone().into()).collect();
        let time = |text: &Option<String>| {
            let time = text.as_ref().map(|text| text.parse::<Timestamp>());
            time.transpose().map_err(|error| error.to_string())
        };
        let mut labels = Vec::new();
        for label in self.label.iter().flat_map(|labels| labels.split(',')) {
            let pair = label.split_once('=');
            let (name, value) = pair.ok_or_else(|| format!("label {label:?}: write name=value"))?;
            labels.push((name.to_owned().into(), value.to_owned().into()));
        }
        Ok(Query {
            event_types: one(&self.event_type),
            entity_types: one(&self.entity_type),
            labels,
            since: time(&self.since)?,
            until: time(&self.until)?,
        })
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
            lane.fill(engine, &mut next, limit, wanted).await?;
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
            lane.fill(engine, &mut next, limit, wanted).await?;
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
        wanted: &Wanted,
    ) -> Result<(), ReadError> {
        while self.waiting.is_empty() && self.after < self.head {
            next.advance(self.partition, self.after);
            let limit = ReadLimit {
                records: limit.clamp(16, 1024),
                ..ReadLimit::default()
            };
            let chunk = if wanted.is_choosy() {
                let query = &wanted.query;
                engine
                    .find(self.partition, query, self.after, limit.records)
                    .await?
            } else {
                engine
                    .read_chained(self.partition, self.after, limit)
                    .await?
            };
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
