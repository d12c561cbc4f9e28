//! The rows that events lead to, in whatever order they come.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::Arc;

use everfold_engine::{Record, Text, Timestamp};
use serde_json::Value;

use super::{MOMENT, json, stored};
use crate::entity::Entity;
use crate::handler::Delivered;
use crate::key::Key;
use crate::view::{Row, View};

/// Up to here every order is tried; beyond, this many drawn ones.
const ORDERS: usize = 2_000;

/// Starts a specification of a view.
///
/// Events of one entity arrive in their order; those of several entities may interleave in any
/// way, because they may live in different partitions. Every interleaving is tried (of many events
/// a fixed draw of 2,000) and must lead to the same rows.
///
/// ```text
/// let row = view(&customer_history())
///     .given::<Customer>("c-1", [opened(100)])
///     .given::<Order>("o-1", [placed("c-1", 20), approved("c-1", 20)])
///     .row(&"c-1".into());
/// assert_eq!(row.orders.len(), 1);
/// ```
pub fn view<K: Key, R: Row>(view: &View<K, R>) -> ViewSpec<'_, K, R> {
    ViewSpec {
        view,
        sequences: Vec::new(),
    }
}

/// A view under specification.
pub struct ViewSpec<'a, K, R> {
    view: &'a View<K, R>,
    /// Per entity its events in order.
    sequences: Vec<Vec<(TypeId, Arc<Record>)>>,
}

impl<K: Key, R: Row> ViewSpec<'_, K, R> {
    /// The history of the entity `E` with this id, at [`MOMENT`].
    #[must_use]
    #[track_caller]
    pub fn given<E: Entity>(self, id: &str, events: impl IntoIterator<Item = E::Event>) -> Self {
        self.given_at::<E>(id, events.into_iter().map(|event| (MOMENT, event)))
    }

    /// The history of the entity `E` with this id; each event with its business time.
    #[must_use]
    #[track_caller]
    pub fn given_at<E: Entity>(
        mut self,
        id: &str,
        events: impl IntoIterator<Item = (Timestamp, E::Event)>,
    ) -> Self {
        let numbered = (1..).zip(events);
        let records = numbered
            .map(|(version, (moment, event))| {
                (
                    TypeId::of::<E::Event>(),
                    stored::<E>(id, version, moment, &event),
                )
            })
            .collect();
        self.sequences.push(records);
        self
    }

    /// The row of a key; as it starts if no event names the key.
    #[track_caller]
    pub fn row(&self, key: &K) -> R {
        self.rows().remove(key).unwrap_or_default()
    }

    /// All rows.
    #[track_caller]
    pub fn rows(&self) -> BTreeMap<K, R> {
        let lengths: Vec<usize> = self.sequences.iter().map(Vec::len).collect();
        let mut first: Option<(BTreeMap<Text, R>, Vec<usize>)> = None;
        for order in orders(&lengths) {
            let rows = self.fold(&order);
            let Some((expected, reference)) = &first else {
                first = Some((rows, order));
                continue;
            };
            let (expected, actual) = (as_json(expected), as_json(&rows));
            assert_eq!(
                actual,
                expected,
                "the rows of view {:?} depend on the order of arrival: left after\n  {}\nright after\n  {}",
                self.view.name,
                self.describe(&order),
                self.describe(reference),
            );
        }
        let rows = first.map(|(rows, _)| rows).unwrap_or_default();
        rows.into_iter()
            .map(|(key, row)| (K::from_text(&key), row))
            .collect()
    }

    /// Folds one order of arrival, given as the sequence that each next event comes from.
    #[track_caller]
    fn fold(&self, order: &[usize]) -> BTreeMap<Text, R> {
        let mut rows: BTreeMap<Text, R> = BTreeMap::new();
        self.each(order, |event, record| {
            for subscription in &self.view.subscriptions {
                if subscription.event != event {
                    continue;
                }
                let mut with = |key: &str, change: &mut dyn FnMut(&mut R)| {
                    let row = rows.entry(key.into()).or_default();
                    change(row);
                    *row = through_the_target(row);
                };
                let folded = (subscription.fold)(&Delivered::new(record.clone()), &mut with);
                if let Err(error) = folded {
                    panic!("an event cannot be read back: {error}");
                }
            }
        });
        rows
    }

    fn each(&self, order: &[usize], mut with: impl FnMut(TypeId, &Arc<Record>)) {
        let mut next: Vec<_> = self.sequences.iter().map(|events| events.iter()).collect();
        for &sequence in order {
            if let Some((event, record)) = next[sequence].next() {
                with(*event, record);
            }
        }
    }

    fn describe(&self, order: &[usize]) -> String {
        let mut steps = Vec::new();
        self.each(order, |_, record| {
            let portable = &record.portable;
            steps.push(format!("{} {}", portable.entity, portable.event_type));
        });
        steps.join(", ")
    }
}

/// Rows are kept as JSON; a field that does not survive it is found here.
#[track_caller]
fn through_the_target<R: Row>(row: &R) -> R {
    let stored = json(row);
    let read: R = match serde_json::from_value(stored.clone()) {
        Ok(read) => read,
        Err(error) => panic!("a row cannot be read back: {error}; written as {stored}"),
    };
    assert_eq!(
        json(&read),
        stored,
        "a row changes when it is stored and read back"
    );
    read
}

fn as_json<R: Row>(rows: &BTreeMap<Text, R>) -> BTreeMap<Text, Value> {
    rows.iter()
        .map(|(key, row)| (key.clone(), json(row)))
        .collect()
}

/// All interleavings of sequences of these lengths, or a draw if they are too many.
fn orders(lengths: &[usize]) -> Vec<Vec<usize>> {
    let sorted: Vec<usize> = lengths
        .iter()
        .enumerate()
        .flat_map(|(sequence, &length)| vec![sequence; length])
        .collect();
    let mut all = vec![sorted.clone()];
    let mut order = sorted.clone();
    while next_permutation(&mut order) {
        if all.len() == ORDERS {
            return drawn(&sorted);
        }
        all.push(order.clone());
    }
    all
}

/// The next arrangement in lexical order, equal elements not told apart; false after the last.
fn next_permutation(order: &mut [usize]) -> bool {
    let Some(pivot) = order.windows(2).rposition(|pair| pair[0] < pair[1]) else {
        return false;
    };
    let Some(successor) = order.iter().rposition(|&one| one > order[pivot]) else {
        return false;
    };
    order.swap(pivot, successor);
    order[pivot + 1..].reverse();
    true
}

/// Shuffles that are the same in every run, and the two extremes.
fn drawn(sorted: &[usize]) -> Vec<Vec<usize>> {
    let mut state = 0u64;
    // Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
    let mut random = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let mut all = vec![sorted.to_vec(), sorted.iter().rev().copied().collect()];
    while all.len() < ORDERS {
        let mut order = sorted.to_vec();
        for last in (1..order.len()).rev() {
            order.swap(last, (random() % (last as u64 + 1)) as usize);
        }
        all.push(order);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_events_come_in_every_order() {
        assert_eq!(orders(&[]), [Vec::<usize>::new()]);
        assert_eq!(orders(&[2, 1]), [[0, 0, 1], [0, 1, 0], [1, 0, 0]]);
        assert_eq!(orders(&[3, 3, 3]).len(), 1680);
    }

    #[test]
    fn many_events_come_in_drawn_orders_that_stay_the_same() {
        let drawn = orders(&[10, 10, 10]);
        assert_eq!(drawn.len(), ORDERS);
        assert_eq!(drawn, orders(&[10, 10, 10]));
        for order in drawn {
            assert!((0..3).all(|one| order.iter().filter(|&&other| other == one).count() == 10));
        }
    }
}
