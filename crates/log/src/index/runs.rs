//! The runs of a log: which segments they cover, and looking through them.

use std::sync::{Arc, PoisonError, RwLock};

use everfold_engine::position::Incarnation;

use super::{Run, Trust};
use crate::cache::ReadCache;
use crate::disk::Disk;
use crate::error::{Damage, OpenError};

const SUFFIX: &str = ".index";

/// The file of the run over some generations.
pub(crate) fn name(generations: (u64, u64)) -> String {
    format!("{:010}-{:010}{SUFFIX}", generations.0, generations.1)
}

/// Whether a file is a run's.
pub(crate) fn is_run(name: &str) -> bool {
    span_of(name).is_some()
}

/// The generations behind the name of a run's file.
fn span_of(name: &str) -> Option<(u64, u64)> {
    let (first, last) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    let number = |digits: &str| {
        let all_digits = digits.len() >= 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
        all_digits.then(|| digits.parse::<u64>().ok()).flatten()
    };
    let span = (number(first)?, number(last)?);
    (1 <= span.0 && span.0 <= span.1).then_some(span)
}

/// Which files of runs are of use, in order: of those that overlap the widest.
fn choose(names: &[String]) -> Vec<(u64, u64)> {
    let mut spans: Vec<(u64, u64)> = names.iter().filter_map(|name| span_of(name)).collect();
    spans.sort_unstable_by_key(|(first, last)| (*first, std::cmp::Reverse(*last)));
    let mut chosen: Vec<(u64, u64)> = Vec::new();
    for span in spans {
        if chosen.last().is_none_or(|before| span.0 > before.1) {
            chosen.push(span);
        }
    }
    chosen
}

/// The files of runs that are not used.
fn unused<'a>(names: &'a [String], used: &'a [String]) -> impl Iterator<Item = &'a String> {
    names
        .iter()
        .filter(|name| is_run(name) && !used.contains(name))
}

/// Names of runs over segments before `active`, and of the others.
fn before(active: u64, names: &[String]) -> (Vec<String>, Vec<String>) {
    let runs = names.iter().filter_map(|name| Some((span_of(name)?, name)));
    let (before, ahead): (Vec<_>, Vec<_>) = runs.partition(|(span, _)| span.1 < active);
    let names = |runs: Vec<((u64, u64), &String)>| {
        let names = runs.into_iter().map(|(_, name)| name.clone());
        names.collect()
    };
    (names(before), names(ahead))
}

fn is_ahead(name: &str, active: u64) -> Damage {
    Damage {
        passing: false,
        file: name.to_owned(),
        at: 0,
        expected: format!("an index of segments before {active}"),
        found: "one of segments that are not full".into(),
    }
}

/// Nothing is thrown away that was read wrong once.
fn open_twice(
    disk: &dyn Disk,
    name: &str,
    incarnation: Incarnation,
    cache: &Arc<ReadCache>,
) -> Result<Run, Damage> {
    let open = || Run::open(disk, name, incarnation, cache);
    open().or_else(|_| open())
}

/// Runs in use, oldest first; they do not overlap.
pub(crate) struct Runs {
    list: RwLock<Arc<[Arc<Run>]>>,
}

impl Runs {
    /// Opens what a directory has. Runs that cannot be used are removed: they are made again. So are
    /// those that reach over `active`, the segment that is written: they are of another history.
    ///
    /// # Errors
    /// What the system says when one is to be removed.
    pub(crate) fn open(
        disk: &dyn Disk,
        names: &[String],
        incarnation: Incarnation,
        active: u64,
        cache: &Arc<ReadCache>,
        discarded: &mut Vec<Damage>,
    ) -> Result<Self, OpenError> {
        let ahead = before(active, names).1;
        discarded.extend(ahead.iter().map(|name| is_ahead(name, active)));
        let (runs, damaged) = Self::look(disk, names, incarnation, active, cache);
        discarded.extend(damaged);
        let used: Vec<String> = runs.list().iter().map(|run| run.name.clone()).collect();
        for name in unused(names, &used) {
            disk.remove(name).map_err(OpenError::io(name))?;
        }
        Ok(runs)
    }

    /// Opens what a directory has, and changes nothing in it.
    ///
    /// # Errors
    /// Those that cannot be used, beside the others.
    pub(crate) fn look(
        disk: &dyn Disk,
        names: &[String],
        incarnation: Incarnation,
        active: u64,
        cache: &Arc<ReadCache>,
    ) -> (Self, Vec<Damage>) {
        let (mut list, mut damaged) = (Vec::new(), Vec::new());
        for span in choose(&before(active, names).0) {
            match open_twice(disk, &name(span), incarnation, cache) {
                Ok(run) if run.generations() == span => list.push(Arc::new(run)),
                Ok(_) => {}
                Err(damage) => damaged.push(damage),
            }
        }
        let list = RwLock::new(list.into());
        (Self { list }, damaged)
    }

    pub(crate) fn list(&self) -> Arc<[Arc<Run>]> {
        Arc::clone(&self.list.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a segment is indexed.
    pub(crate) fn cover(&self, generation: u64) -> bool {
        self.covering(generation).is_some()
    }

    pub(crate) fn covering(&self, generation: u64) -> Option<Arc<Run>> {
        let list = self.list();
        let index = list.partition_point(|run| run.generations().1 < generation);
        let run = list.get(index)?;
        (run.generations().0 <= generation).then(|| Arc::clone(run))
    }

    /// Takes runs in, in place of those that they overlap; these are returned.
    pub(crate) fn add(&self, runs: Vec<Run>) -> Vec<Arc<Run>> {
        let overlap = |other: &Arc<Run>| {
            let (first, last) = other.generations();
            let spans = runs.iter().map(Run::generations);
            spans
                .into_iter()
                .any(|span| first <= span.1 && span.0 <= last)
        };
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        let (replaced, mut kept): (Vec<_>, Vec<_>) = list.iter().cloned().partition(overlap);
        kept.extend(runs.into_iter().map(Arc::new));
        kept.sort_unstable_by_key(|run| run.generations());
        *list = kept.into();
        replaced
    }

    /// Whether damage was found in a run, and nothing was done about it yet.
    pub(crate) fn are_damaged(&self) -> bool {
        self.list().iter().any(|run| run.trust() == Trust::Lost)
    }

    /// Lets go of runs that cover nothing but segments before `generation`; they are returned.
    pub(crate) fn forget_before(&self, generation: u64) -> Vec<Arc<Run>> {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        let (gone, kept): (Vec<_>, Vec<_>) = list
            .iter()
            .cloned()
            .partition(|run| run.generations().1 < generation);
        *list = kept.into();
        gone
    }

    /// Neighbouring runs of about the same size that are better one: the oldest such group.
    pub(crate) fn to_merge(&self) -> Option<Vec<Arc<Run>>> {
        let list = self.list();
        let level = |run: &Arc<Run>| {
            let (first, last) = run.generations();
            (last - first + 1).ilog(FAN_IN)
        };
        let neighbours = |pair: &[Arc<Run>]| pair[0].generations().1 + 1 == pair[1].generations().0;
        list.windows(FAN_IN as usize)
            .find(|group| {
                group.iter().all(|run| run.trust() == Trust::Full)
                    && group.iter().all(|run| level(run) == level(&group[0]))
                    && group.windows(2).all(neighbours)
            })
            .map(<[_]>::to_vec)
    }
}

/// So many runs become one.
const FAN_IN: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_run_counts() {
        let names: Vec<String> = [(9, 9), (1, 8), (3, 3), (10, 10), (1, 1)]
            .into_iter()
            .map(name)
            .chain([
                "0000000001.log".into(),
                "0000000002-0000000001.index".into(),
            ])
            .collect();
        let chosen = choose(&names);
        assert_eq!(chosen, [(1, 8), (9, 9), (10, 10)]);
        let used: Vec<String> = chosen.into_iter().map(name).collect();
        let unused: Vec<&String> = unused(&names, &used).collect();
        assert_eq!(unused, [&name((3, 3)), &name((1, 1))]);
    }
}
