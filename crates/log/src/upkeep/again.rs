//! Indexes that are made again while the log is in use: damaged ones, and missing ones.
//!
//! A damaged index stays in use until another one can take its place: what it can still tell is
//! right, and without it readers would be told less than there is.

use std::sync::Arc;

use everfold_engine::Offset;

use super::Upkeep;
use crate::error::OpenError;
use crate::index::{Fresh, Run, Subjects, Trust};

impl Upkeep {
    /// Makes the indexes again that are damaged, and those that are missing.
    pub(super) fn index_again(&self) -> Result<(), OpenError> {
        let mut result = Ok(());
        if self.source.runs.are_damaged() {
            // Damage seldom comes alone, and each one found by a reader is a reader turned away.
            for run in self.source.runs.list().iter() {
                if run.trust() == Trust::Full && !self.is_closing() {
                    // What is found is noted with the run.
                    let _ = run.check();
                }
            }
        }
        for run in self.source.runs.list().iter() {
            if matches!(run.trust(), Trust::Full | Trust::GivenUp) {
                continue;
            }
            run.set_trust(Trust::Tried);
            let made = self.replace(run);
            if matches!(made, Err(OpenError::Damaged(_))) {
                run.set_trust(Trust::GivenUp);
            }
            result = result.and(made);
        }
        result.and_then(|()| self.index_missing())
    }

    /// Takes the indexes of its segments in place of a damaged one.
    fn replace(&self, damaged: &Arc<Run>) -> Result<(), OpenError> {
        let (first, last) = damaged.generations();
        let forms = self.source.segments.forms();
        let mut runs = Vec::new();
        for (generation, _) in forms.range(first..=last) {
            if self.is_closing() {
                return Ok(());
            }
            match self.index_of(*generation) {
                Ok(run) => runs.push(run),
                Err(error) => {
                    // The damaged one covers them, and stays.
                    for run in runs {
                        let _ = self.disk.remove(&run.name);
                    }
                    return Err(error);
                }
            }
        }
        self.take(runs)
    }

    fn index_missing(&self) -> Result<(), OpenError> {
        let active = self.source.segments.active();
        for generation in self.source.segments.forms().into_keys() {
            let waits = || {
                let mut shards = self.shards.iter();
                shards.any(|shard| {
                    let state = shard.state();
                    let mut waiting = state.waiting().iter();
                    waiting.any(|waiting| waiting.generation == generation)
                })
            };
            // What waits has just been looked after, or is the business of the next time.
            if generation >= active || self.source.runs.cover(generation) || waits() {
                continue;
            }
            if self.is_closing() {
                return Ok(());
            }
            let run = self.index_of(generation)?;
            self.take(vec![run])?;
        }
        Ok(())
    }

    /// Writes the index of a full segment from what the segment holds.
    fn index_of(&self, generation: u64) -> Result<Run, OpenError> {
        let subjects = Subjects::of(self.identity.incarnation);
        let empty = || (Fresh::new(generation), Offset(0));
        let mut parts: Vec<_> = self.shards.iter().map(|_| empty()).collect();
        self.for_each_batch(generation, &mut |batch| {
            let Some((fresh, last)) = parts.get_mut(batch.header.partition.index()) else {
                return;
            };
            batch
                .place
                .into_iter()
                .for_each(|place| fresh.push_frame(place));
            for record in &batch.records {
                fresh.push(record, subjects);
                *last = record.local.offset.max(*last);
            }
        })?;
        let parts: Vec<_> = parts
            .iter()
            .enumerate()
            .map(|(partition, (fresh, last))| (partition as u16, fresh, *last))
            .collect();
        self.write_index((generation, generation), &parts)
    }
}
