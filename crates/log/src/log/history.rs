//! The history of one entity, through the indexes of all segments.

use std::sync::Arc;

use everfold_engine::engine::ReadError;
use everfold_engine::{EntityKey, Offset, Partition, Record};

use super::Log;
use crate::index::{FramePlace, Subject};
use crate::partition::{Shard, State};
use crate::read::{Links, Source, read_damage};

/// How many events of an entity are read in one go.
const EVENTS_AT_ONCE: usize = 1024;

/// Where a subject's records are, as far as memory knows.
pub(super) struct InMemory {
    /// Offsets by segment, newest segment first.
    layers: Vec<(u64, Vec<u64>)>,
    /// Whether older segments hold nothing that is wanted.
    complete: bool,
}

impl Log {
    pub(super) async fn events_of(
        &self,
        partition: Partition,
        entity: &EntityKey,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Record>>, ReadError> {
        let shard = self.readable(partition)?;
        let subject = self.subjects.entity(entity);
        let known = in_memory(&shard.state(), subject, after);
        let offsets = self.offsets(partition, subject, after, known).await?;
        let mut events = Vec::new();
        // Another entity may share the hash: go on until there are enough of the right one.
        let mut rest = &offsets[..];
        while events.len() < limit && !rest.is_empty() {
            let wanted = (limit - events.len()).min(EVENTS_AT_ONCE).min(rest.len());
            let (here, behind) = rest.split_at(wanted);
            let found = self.records_at(shard, partition, here).await?;
            let of_entity = |record: &Arc<Record>| {
                record.portable.entity == *entity && record.local.version > after
            };
            events.extend(found.into_iter().filter(of_entity));
            rest = behind;
        }
        let first = events.first().map(|first| first.local.version);
        let whole = first.is_some_and(|first| first == after + 1) || !self.source.is_trimmed();
        match whole || limit == 0 {
            true => Ok(events),
            false => {
                self.behind_baseline(partition, entity, after, limit, events)
                    .await
            }
        }
    }

    /// The same where the first events are missing: the baseline that stands for them, if there is
    /// one, and what follows it.
    async fn behind_baseline(
        &self,
        partition: Partition,
        entity: &EntityKey,
        after: u64,
        limit: usize,
        events: Vec<Arc<Record>>,
    ) -> Result<Vec<Arc<Record>>, ReadError> {
        let (upkeep, key) = (Arc::clone(&self.upkeep), entity.clone());
        let baseline = self
            .stored(move |_| upkeep.baseline(partition, &key))
            .await?
            .filter(|baseline| baseline.local.version > after);
        let Some(baseline) = baseline else {
            return Ok(events);
        };
        let version = baseline.local.version;
        let mut history = vec![baseline];
        if limit > 1 {
            let rest = Box::pin(self.events_of(partition, entity, version, limit - 1));
            history.extend(rest.await?);
        }
        Ok(history)
    }

    /// All offsets of an entity's events with versions above `after`; perhaps others too.
    async fn offsets(
        &self,
        partition: Partition,
        subject: Subject,
        after: u64,
        known: InMemory,
    ) -> Result<Vec<u64>, ReadError> {
        let mut layers = known.layers;
        if !known.complete && !self.source.is_unknown(partition, subject) {
            let in_memory: Vec<u64> = layers.iter().map(|(generation, _)| *generation).collect();
            let stored = self
                .stored(move |source| source.layers(partition, subject, after, &in_memory))
                .await?;
            layers.extend(stored);
        }
        let mut offsets: Vec<u64> = layers
            .into_iter()
            .flat_map(|(_, offsets)| offsets)
            .collect();
        // A segment may have been indexed on disk, and merged, since memory was asked.
        offsets.sort_unstable();
        offsets.dedup();
        Ok(offsets)
    }

    /// The records at some offsets, ascending and durable.
    pub(super) async fn records_at(
        &self,
        shard: &Shard,
        partition: Partition,
        offsets: &[u64],
    ) -> Result<Vec<Arc<Record>>, ReadError> {
        loop {
            let changes = self.source.segments.changes();
            let places = places_of(&shard.state(), offsets);
            if places.frames.is_empty() && places.stored.is_empty() {
                return Ok(places.found);
            }
            match self.read_places(partition, offsets, places).await {
                // What memory knew of may have been packed before it was read.
                Err(_) if self.source.segments.changes() != changes => {}
                read => return read,
            }
        }
    }

    async fn read_places(
        &self,
        partition: Partition,
        offsets: &[u64],
        places: Places,
    ) -> Result<Vec<Arc<Record>>, ReadError> {
        let Places {
            mut found,
            frames,
            stored,
        } = places;
        let offsets = offsets.to_vec();
        // What lies on disk is older than what is in memory.
        let before = found.first().map_or(u64::MAX, |first| first.local.offset.0);
        let mut old = self
            .stored(move |source| {
                // A frame on disk may reach into the tail: what was found there comes from there.
                let wanted = |offset| offset < before && offsets.binary_search(&offset).is_ok();
                let mut old = source.at(partition, &stored)?;
                old.extend(source.frames(&frames, Links::Known, &wanted)?);
                // Indexes of segments may have gone to disk one before the other.
                old.sort_by_key(|record| record.local.offset);
                Ok(old)
            })
            .await?;
        old.append(&mut found);
        Ok(old)
    }
}

/// What memory knows of a subject.
pub(super) fn in_memory(state: &State, subject: Subject, after: u64) -> InMemory {
    let mut known = InMemory {
        layers: Vec::new(),
        complete: false,
    };
    for (generation, places, last) in state.layers(subject) {
        let mut offsets = Vec::new();
        if let Some(places) = places {
            offsets.extend(
                places
                    .after_version(after)
                    .iter()
                    .filter(|at| **at <= last.0),
            );
            // Versions grow: what lies before is older. Other segments may lie in between, but no
            // newer ones.
            known.complete |= places.reaches_back_to(after);
        }
        known.layers.push((generation, offsets));
        if known.complete {
            break;
        }
    }
    known
}

struct Places {
    found: Vec<Arc<Record>>,
    frames: Vec<FramePlace>,
    /// Offsets in segments that are indexed on disk.
    stored: Vec<u64>,
}

fn places_of(state: &State, offsets: &[u64]) -> Places {
    let mut places = Places {
        found: Vec::new(),
        frames: Vec::new(),
        stored: Vec::new(),
    };
    for offset in offsets {
        if let Some(record) = state.tail.get(*offset) {
            places.found.push(Arc::clone(record));
            continue;
        }
        match state.frames_from(Offset(*offset)) {
            Some(frames) => {
                if let Some(frame) = frames.first()
                    && places.frames.last() != Some(frame)
                {
                    places.frames.push(*frame);
                }
            }
            None => places.stored.push(*offset),
        }
    }
    places
}

impl Source {
    /// Whether full segments are known, without reading, not to hold a subject.
    fn is_unknown(&self, partition: Partition, subject: Subject) -> bool {
        self.runs
            .list()
            .iter()
            .all(|run| run.is_known_not_to_hold(partition.0, subject))
    }

    /// The offsets of an entity in full segments other than `except`: versions above `after`, and
    /// perhaps some before.
    fn layers(
        &self,
        partition: Partition,
        subject: Subject,
        after: u64,
        except: &[u64],
    ) -> Result<Vec<(u64, Vec<u64>)>, ReadError> {
        let mut layers = Vec::new();
        for run in self.runs.list().iter().rev() {
            let (first, last) = run.generations();
            let holds = run.may_hold(partition.0, subject).map_err(read_damage)?;
            if except.contains(&first) || !holds {
                continue;
            }
            let (mut offsets, mut complete) = (Vec::new(), false);
            for postings in run.postings(partition.0, subject, 0).map_err(read_damage)? {
                let places = postings.map_err(read_damage)?;
                complete |= places.reaches_back_to(after);
                offsets.extend_from_slice(places.after_version(after));
            }
            layers.push((last, offsets));
            if complete {
                break;
            }
        }
        Ok(layers)
    }
}
