//! Which entities there are.
//!
//! Names only, in memory: the log is the list, and no engine keeps another one.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Mutex as Lock;
use std::sync::{Arc, PoisonError};

use everfold_engine::engine::{Engine, ReadError, ReadLimit};
use everfold_engine::map::{Map, seeded};
use everfold_engine::record::Kind;
use everfold_engine::slot::Partition;
use everfold_engine::{Offset, Text};
use tokio::sync::Mutex;

/// The names of a partition's entities, as far as its log was read for them.
#[derive(Default)]
struct Listed {
    reached: Offset,
    by_kind: Vec<(Text, BTreeSet<Text>)>,
}

/// The names of all entities, by partition. A partition's log is read when its names are first asked
/// for, and from then on what it has gained since.
pub(crate) struct Directory {
    partitions: Lock<Map<Partition, Arc<Mutex<Listed>>>>,
}

/// Names above one and before another.
pub(crate) struct Range<'a> {
    pub(crate) from: Option<&'a str>,
    pub(crate) before: Option<&'a str>,
    /// Only those behind it.
    pub(crate) above: Option<&'a str>,
}

impl Directory {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            partitions: Lock::new(seeded(seed)),
        }
    }

    /// At most `most` names of one type, ascending, of all that the log has up to `head`.
    pub(crate) async fn names(
        &self,
        engine: &dyn Engine,
        (partition, head): (Partition, Offset),
        kind: &Text,
        range: &Range<'_>,
        most: usize,
    ) -> Result<Vec<Text>, ReadError> {
        let listed = {
            let mut partitions = self
                .partitions
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            partitions.entry(partition).or_default().clone()
        };
        let mut listed = listed.lock().await;
        // What was read stays, also if whoever asks gives up half way.
        while listed.reached < head {
            let limit = ReadLimit::default();
            let chunk = engine.read(partition, listed.reached, limit).await?;
            for record in &chunk.records {
                let entity = &record.portable.entity;
                // The entities of an application are those of the default tenant.
                let is_state = matches!(record.kind, Kind::Event | Kind::Baseline);
                if is_state && entity.tenant.is_empty() {
                    listed.add(&entity.kind, &entity.id);
                }
            }
            if chunk.next == listed.reached {
                break;
            }
            listed.reached = chunk.next;
        }
        Ok(listed.within(kind, range, most))
    }
}

impl Listed {
    fn add(&mut self, kind: &Text, id: &Text) {
        // Copied: a name that is part of what was read would keep all of that in memory.
        let copy = |text: &Text| Text::from(&text[..]);
        let place = match self.by_kind.iter().position(|(known, _)| known == kind) {
            Some(place) => place,
            None => {
                self.by_kind.push((copy(kind), BTreeSet::new()));
                self.by_kind.len() - 1
            }
        };
        let names = &mut self.by_kind[place].1;
        if !names.contains(id) {
            names.insert(copy(id));
        }
    }

    fn within(&self, kind: &Text, range: &Range<'_>, most: usize) -> Vec<Text> {
        let Some((_, names)) = self.by_kind.iter().find(|(known, _)| known == kind) else {
            return Vec::new();
        };
        let from = range.from.map_or(Bound::Unbounded, Bound::Included);
        let start = match range.above {
            Some(above) if range.from.is_none_or(|from| above >= from) => Bound::Excluded(above),
            _ => from,
        };
        let wanted = |name: &&Text| range.before.is_none_or(|before| &name[..] < before);
        let found = names.range::<str, _>((start, Bound::Unbounded));
        found.take_while(wanted).take(most).cloned().collect()
    }
}
