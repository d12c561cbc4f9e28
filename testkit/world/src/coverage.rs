//! What really happened: faults that took effect, and places of the code that were reached.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::places::PLACES;

/// How often faults took effect, and how often the code came to places that are seldom reached.
///
/// A fault that was planned but met nothing counts for nothing: a partition counts by the messages
/// that it stopped, a lost acknowledgement when there was one to lose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// By what happened.
    pub faults: BTreeMap<String, u64>,
    /// By the name of the place, as given to `World::reached`.
    pub places: BTreeMap<String, u64>,
}

impl Coverage {
    /// Adds what another run covered.
    pub fn add(&mut self, other: &Self) {
        let add = |to: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>| {
            for (name, count) in from {
                *to.entry(name.clone()).or_default() += count;
            }
        };
        add(&mut self.faults, &other.faults);
        add(&mut self.places, &other.places);
    }

    /// Places that were not reached.
    pub fn missing(&self) -> Vec<&'static str> {
        let unknown = |place: &&&str| !self.places.contains_key(**place);
        PLACES.iter().filter(unknown).copied().collect()
    }
}

/// A table: what, how often; at its end the places that were not reached.
impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, counts) in [("fault", &self.faults), ("place", &self.places)] {
            writeln!(f, "{title:<56} {:>10}", "times")?;
            for (name, count) in counts {
                writeln!(f, "{name:<56} {count:>10}")?;
            }
        }
        for place in self.missing() {
            writeln!(f, "{place:<56} {:>10}", "never")?;
        }
        Ok(())
    }
}

/// Counts of one run.
#[derive(Default)]
pub(crate) struct Counts(Mutex<BTreeMap<&'static str, u64>>);

impl Counts {
    pub(crate) fn count(&self, what: &'static str) {
        self.add(what, 1);
    }

    pub(crate) fn add(&self, what: &'static str, times: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(what).or_default() += times;
    }

    pub(crate) fn taken(&self) -> BTreeMap<String, u64> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .map(|(what, times)| ((*what).to_owned(), *times))
            .collect()
    }
}
