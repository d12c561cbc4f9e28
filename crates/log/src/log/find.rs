//! Events by type, label and time, through the indexes of all segments.

use std::sync::Arc;

use everfold_engine::engine::{Chunk, Query, ReadError, scan};
use everfold_engine::{Offset, Partition, Record, Stamp, Timestamp};

use super::Log;
use crate::index::{Subject, Subjects};
use crate::partition::State;
use crate::read::{Source, read_damage, read_error};
use crate::segments::Form;

/// So many records are looked up at once, at least.
const AT_ONCE: usize = 64;

/// What one look has found.
struct Look {
    records: Vec<Arc<Record>>,
    /// Everything up to here was looked at.
    until: Offset,
}

impl Log {
    pub(super) async fn events_like(
        &self,
        partition: Partition,
        query: &Query,
        after: Offset,
        limit: usize,
    ) -> Result<Chunk, ReadError> {
        let shard = self.readable(partition)?;
        let subjects: Arc<[Subject]> = subjects_of(query, self.subjects).into();
        let mut next = after;
        if let Some(since) = query.since {
            next = next.max(self.before_time(partition, since).await?);
        }
        if subjects.is_empty() {
            return scan(self, partition, query, next, limit).await;
        }
        let limit = limit.max(1);
        let mut records: Vec<Arc<Record>> = Vec::new();
        loop {
            let wanted = (limit - records.len()).max(AT_ONCE);
            // In one act: what leaves memory in between would be looked for in neither place.
            let (safe_head, found) = {
                let state = shard.state();
                let stored_until = state.stored_until();
                let found = match next < stored_until {
                    true => Err(stored_until),
                    false => Ok(in_memory(&state, &subjects, next, wanted)),
                };
                (state.at.last, found)
            };
            let look = match found {
                Err(stored_until) => {
                    let subjects = Arc::clone(&subjects);
                    self.stored(move |source| {
                        source.look(partition, &subjects, next, stored_until, wanted)
                    })
                    .await?
                }
                Ok((offsets, until)) => Look {
                    records: self.records_at(shard, partition, &offsets).await?,
                    until,
                },
            };
            for record in look.records {
                if query.is_past(&record) {
                    next = safe_head;
                    return Ok(Chunk {
                        records,
                        next,
                        safe_head,
                    });
                }
                if query.matches(&record) {
                    next = record.local.offset;
                    records.push(record);
                    if records.len() == limit {
                        return Ok(Chunk {
                            records,
                            next,
                            safe_head,
                        });
                    }
                }
            }
            next = look.until.max(next);
            if next >= safe_head {
                return Ok(Chunk {
                    records,
                    next,
                    safe_head,
                });
            }
        }
    }

    /// An offset before everything recorded at a time or later, and not far before.
    async fn before_time(
        &self,
        partition: Partition,
        since: Timestamp,
    ) -> Result<Offset, ReadError> {
        // The lowest stamp of that time; stamps grow with offsets.
        let stamp = Stamp::first_of(since);
        if let Some(known) = self.readable(partition)?.state().before_stamp(stamp.0) {
            return Ok(known);
        }
        self.stored(move |source| source.before_stamp(partition, stamp))
            .await
    }
}

/// One list that holds everything that is looked for, and as little else as may be: a label's, else
/// those of the types.
fn subjects_of(query: &Query, subjects: Subjects) -> Vec<Subject> {
    if let Some((name, value)) = query.labels.first() {
        return vec![subjects.label(name, value)];
    }
    let event_types = query.event_types.iter();
    let of_events: Vec<_> = event_types.map(|name| subjects.event_type(name)).collect();
    if !of_events.is_empty() {
        return of_events;
    }
    let entity_types = query.entity_types.iter();
    entity_types
        .map(|name| subjects.entity_type(name))
        .collect()
}

/// The first `wanted` of all offsets, and up to where these are all there are.
fn first_of(mut offsets: Vec<u64>, wanted: usize, end: Offset) -> (Vec<u64>, Offset) {
    offsets.sort_unstable();
    offsets.dedup();
    offsets.truncate(wanted);
    let until = match offsets.last() {
        Some(last) if offsets.len() == wanted => Offset(*last),
        _ => end,
    };
    (offsets, until)
}

/// Offsets after `after` in segments that are indexed in memory.
fn in_memory(
    state: &State,
    subjects: &[Subject],
    after: Offset,
    wanted: usize,
) -> (Vec<u64>, Offset) {
    let mut offsets = Vec::new();
    for subject in subjects {
        let layers: Vec<_> = state.layers(*subject).collect();
        let mut taken = 0;
        for (_, places, last) in layers.into_iter().rev() {
            let all = places.map(|places| places.offsets()).unwrap_or_default();
            let begin = all.partition_point(|offset| *offset <= after.0);
            let end = all.partition_point(|offset| *offset <= last.0);
            let here = all.get(begin..end).unwrap_or_default();
            let here = &here[..here.len().min(wanted - taken)];
            taken += here.len();
            offsets.extend_from_slice(here);
        }
    }
    first_of(offsets, wanted, state.at.last)
}

impl Source {
    /// Records of some subjects after `after` in segments that end with `end` at the latest.
    fn look(
        &self,
        partition: Partition,
        subjects: &[Subject],
        after: Offset,
        end: Offset,
        wanted: usize,
    ) -> Result<Look, ReadError> {
        let from = self
            .segments
            .holding(partition, Offset(after.0 + 1))
            .map_err(read_error)?;
        let mut offsets = Vec::new();
        for subject in subjects {
            let mut taken = 0;
            for run in self
                .runs
                .list()
                .iter()
                .filter(|run| run.generations().1 >= from)
            {
                if taken >= wanted || !run.may_hold(partition.0, *subject).map_err(read_damage)? {
                    continue;
                }
                let first = after.0 + 1;
                for piece in run
                    .postings(partition.0, *subject, first)
                    .map_err(read_damage)?
                {
                    let piece = piece.map_err(read_damage)?;
                    let here = piece.offsets().iter().copied();
                    let here = here.filter(|offset| *offset >= first && *offset <= end.0);
                    let before = offsets.len();
                    offsets.extend(here.take(wanted - taken));
                    taken += offsets.len() - before;
                    if taken >= wanted {
                        break;
                    }
                }
            }
        }
        let (offsets, until) = first_of(offsets, wanted, end);
        let records = self.at(partition, &offsets)?;
        Ok(Look { records, until })
    }

    /// An offset before the first record with a stamp at or above `stamp`.
    fn before_stamp(&self, partition: Partition, stamp: Stamp) -> Result<Offset, ReadError> {
        let generation = self
            .segments
            .holding_stamp(partition, stamp)
            .map_err(read_error)?;
        let before = self
            .segments
            .before(generation, partition)
            .map_err(read_error)?;
        if self.segments.form(generation) != Some(Form::Sealed) {
            return self.frame_before_stamp(generation, partition, before, stamp);
        }
        let file = self.segments.sealed(generation).map_err(read_error)?;
        let directory = file.directory().map_err(read_damage)?;
        let blocks = directory.from(partition.0, Offset(0));
        let earlier = blocks.partition_point(|block| block.stamp < stamp.0);
        let last = earlier.checked_sub(1).and_then(|index| blocks.get(index));
        Ok(last.map_or(before, |block| {
            Offset(block.first.0.saturating_sub(1)).max(before)
        }))
    }

    /// The same within a segment that is not packed, which begins behind `low`.
    fn frame_before_stamp(
        &self,
        generation: u64,
        partition: Partition,
        mut low: Offset,
        stamp: Stamp,
    ) -> Result<Offset, ReadError> {
        let Some(run) = self.runs.covering(generation) else {
            return Ok(low);
        };
        let end = self.segments.before(generation + 1, partition);
        let mut high = end.map_err(read_error)?;
        while low.0 + 1 < high.0 {
            let middle = Offset(low.0 + (high.0 - low.0) / 2);
            let mut frames = run.frames(partition.0, middle).map_err(read_damage)?;
            match frames.next().transpose().map_err(read_damage)? {
                Some(frame) if frame.stamp < stamp.0 && frame.first.0 > low.0 + 1 => {
                    low = Offset(frame.first.0 - 1);
                }
                _ => high = Offset(middle.0.min(high.0 - 1)),
            }
        }
        Ok(low)
    }
}
