//! Boundaries: declared consistency scopes whose appends may carry a condition.
//!
//! Dynamic consistency boundaries as specified at <https://dcb.events>: the events of a boundary live
//! in one partition, and an append fails if an event that matches a query has been added since the
//! caller looked.

use std::collections::BTreeMap;

use everfold_engine::engine::Engine;
use everfold_engine::record::Kind;
use everfold_engine::{EntityKey, Record, Text};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use crate::error::CommandError;
use crate::node::Node;
use crate::owner::{Strength, Watch};
use crate::sending::Sending;
use crate::stream::{Append, Expected, NewEvent, Parts};

/// A name and value that events carry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Label {
    name: Text,
    value: Text,
}

impl Label {
    /// The label `name` with `value`.
    pub fn new(name: impl Into<Text>, value: impl Into<Text>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }
}

/// Which events of a boundary matter: those that match any of its items.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    items: Vec<Item>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Item {
    types: Vec<Text>,
    labels: Vec<Label>,
}

impl Query {
    /// Every event of the boundary.
    pub fn everything() -> Self {
        Self {
            items: vec![Item::default()],
        }
    }

    /// Events of one of `types` (of any type if empty) that carry all of `labels`.
    pub fn of(
        types: impl IntoIterator<Item = impl Into<Text>>,
        labels: impl IntoIterator<Item = Label>,
    ) -> Self {
        let types = types.into_iter().map(Into::into).collect();
        Self {
            items: vec![Item {
                types,
                labels: labels.into_iter().collect(),
            }],
        }
    }

    /// These events or those.
    #[must_use]
    pub fn or(mut self, other: Query) -> Self {
        self.items.extend(other.items);
        self
    }
}

/// Fails an append if an event matching `query` was added after `marker`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    pub(crate) query: Query,
    pub(crate) marker: u64,
}

impl Condition {
    /// No event of the boundary matches `query`, ever: for what must be unique.
    pub fn none_ever(query: Query) -> Self {
        Self { query, marker: 0 }
    }

    pub(crate) fn write(&self, parts: &mut Parts) {
        parts.number(self.marker);
        parts.number(self.query.items.len() as u64);
        for item in &self.query.items {
            parts.number(item.types.len() as u64);
            item.types.iter().for_each(|t| parts.part(t.as_bytes()));
            parts.number(item.labels.len() as u64);
            for label in &item.labels {
                parts.part(label.name.as_bytes());
                parts.part(label.value.as_bytes());
            }
        }
    }
}

/// Events of a boundary as they were at one moment.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The matching events, in order.
    pub events: Vec<Arc<Record>>,
    query: Query,
    marker: u64,
}

impl Selection {
    /// Nothing that matches the selection's query was added since it was made.
    pub fn unchanged(&self) -> Condition {
        Condition {
            query: self.query.clone(),
            marker: self.marker,
        }
    }
}

/// A boundary of a node.
pub struct BoundaryRef<'a> {
    pub(crate) node: &'a Node,
    pub(crate) entity: EntityKey,
}

impl BoundaryRef<'_> {
    /// The events that match, and the moment they were read at.
    ///
    /// # Errors
    /// [`CommandError`] as for a command.
    pub async fn read(&self, query: Query) -> Result<Selection, CommandError> {
        let router = &self.node.router;
        let wanted = query.clone();
        let look =
            move |index: &BoundaryIndex, version| Some((version, index.matching(&wanted, 0)));
        let (watch, answer) = Watch::new(self.entity.clone(), Strength::Linearizable, look);
        let partition = router.partition(&self.entity.id);
        router.submit(partition, Box::new(watch));
        let ((marker, versions), _) = answer.await.unwrap_or(Err(CommandError::Closed))?;
        let events = read_versions(self.node.engine.as_ref(), &self.entity, &versions).await?;
        Ok(Selection {
            events,
            query,
            marker,
        })
    }

    /// Appends events when it is awaited, if the condition holds; all of them or none. Fails with
    /// [`CommandError::Conflict`] if it does not hold: read again and decide anew.
    pub fn append(&self, events: Vec<NewEvent>, condition: Option<Condition>) -> Sending<Append> {
        let append = Append {
            entity: self.entity.clone(),
            events,
            expected: Expected::Any,
            condition,
            statements: Vec::new(),
        };
        Sending::new(&self.node.router, append)
    }
}

async fn read_versions(
    engine: &dyn Engine,
    entity: &EntityKey,
    versions: &[u64],
) -> Result<Vec<Arc<Record>>, CommandError> {
    let partition = engine.identity().layout.partition(&entity.id);
    let mut events = Vec::with_capacity(versions.len());
    let mut rest = versions;
    while let Some(first) = rest.first() {
        let read = engine.read_entity(partition, entity, first - 1, 256).await;
        let page = read.map_err(|error| CommandError::History {
            entity: entity.to_string(),
            reason: error.to_string(),
        })?;
        let Some(last) = page.last().map(|record| record.local.version) else {
            break;
        };
        let (here, later) = rest.split_at(rest.partition_point(|version| *version <= last));
        events.extend(page.into_iter().filter(|record| {
            record.kind == Kind::Event && here.binary_search(&record.local.version).is_ok()
        }));
        rest = later;
    }
    Ok(events)
}

/// What a boundary remembers of its events: types and labels by version.
#[derive(Default)]
pub(crate) struct BoundaryIndex {
    version: u64,
    types: BTreeMap<Text, Vec<u64>>,
    labels: BTreeMap<(Text, Text), Vec<u64>>,
}

impl BoundaryIndex {
    pub(crate) fn add(&mut self, event_type: &Text, labels: &[(Text, Text)]) {
        self.version += 1;
        self.types
            .entry(event_type.clone())
            .or_default()
            .push(self.version);
        for label in labels {
            let versions = self.labels.entry(label.clone()).or_default();
            if versions.last() != Some(&self.version) {
                versions.push(self.version);
            }
        }
    }

    /// The versions above `after` that match, ascending.
    pub(crate) fn matching(&self, query: &Query, after: u64) -> Vec<u64> {
        let mut versions: Vec<u64> = query
            .items
            .iter()
            .flat_map(|item| self.matching_item(item, after))
            .collect();
        versions.sort_unstable();
        versions.dedup();
        versions
    }

    fn matching_item(&self, item: &Item, after: u64) -> Vec<u64> {
        let newer = |versions: Option<&Vec<u64>>| match versions {
            Some(versions) => {
                versions[versions.partition_point(|version| *version <= after)..].to_vec()
            }
            None => Vec::new(),
        };
        let mut sets: Vec<Vec<u64>> = item
            .labels
            .iter()
            .map(|label| newer(self.labels.get(&(label.name.clone(), label.value.clone()))))
            .collect();
        if !item.types.is_empty() {
            let mut of_types: Vec<u64> = item
                .types
                .iter()
                .flat_map(|name| newer(self.types.get(name)))
                .collect();
            of_types.sort_unstable();
            sets.push(of_types);
        }
        // The rarest first: it bounds the work.
        sets.sort_by_key(Vec::len);
        let mut sets = sets.into_iter();
        let Some(first) = sets.next() else {
            return (after + 1..=self.version).collect();
        };
        sets.fold(first, |found, set| {
            found
                .into_iter()
                .filter(|version| set.binary_search(version).is_ok())
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> BoundaryIndex {
        let mut index = BoundaryIndex::default();
        let label = |name: &str, value: &str| (Text::from(name), Text::from(value));
        index.add(&"Defined".into(), &[label("course", "c1")]);
        index.add(
            &"Subscribed".into(),
            &[label("course", "c1"), label("student", "s1")],
        );
        index.add(
            &"Subscribed".into(),
            &[label("course", "c2"), label("student", "s1")],
        );
        index
    }

    #[test]
    fn all_labels_and_any_type_of_an_item_must_match_and_any_item() {
        let index = index();
        let course = || Label::new("course", "c1");
        let student = || Label::new("student", "s1");
        let none: [Text; 0] = [];
        assert_eq!(
            index.matching(&Query::of(none.clone(), [course()]), 0),
            [1, 2]
        );
        assert_eq!(
            index.matching(&Query::of(["Subscribed"], [course()]), 0),
            [2]
        );
        assert_eq!(
            index.matching(&Query::of(none.clone(), [course(), student()]), 0),
            [2]
        );
        assert_eq!(
            index.matching(&Query::of(["Defined", "Subscribed"], []), 1),
            [2, 3]
        );
        assert_eq!(index.matching(&Query::everything(), 1), [2, 3]);
        let either = Query::of(["Defined"], []).or(Query::of(none, [Label::new("course", "c2")]));
        assert_eq!(index.matching(&either, 0), [1, 3]);
        assert_eq!(index.matching(&Query::default(), 0), [0u64; 0]);
    }
}
