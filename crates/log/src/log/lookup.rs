//! Everything that is read by offset.

use std::sync::Arc;

use everfold_engine::engine::rules::whole_units;
use everfold_engine::engine::{Chunk, ReadError, ReadLimit};
use everfold_engine::{Offset, Partition, Record};

use super::Log;
use crate::index::FramePlace;
use crate::partition::{Shard, State};
use crate::read::{Links, Stretch};

/// Where the records after an offset are.
enum Where {
    Memory(Vec<Arc<Record>>),
    /// On disk, and where is known.
    Frames(Vec<FramePlace>),
    /// On disk, in full segments.
    Stored,
}

impl Log {
    pub(super) fn readable(&self, partition: Partition) -> Result<&Shard, ReadError> {
        self.shards
            .get(partition.index())
            .ok_or(ReadError::NoPartition(partition))
    }

    pub(super) async fn read_after(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
        links: Links,
    ) -> Result<Chunk, ReadError> {
        let shard = self.readable(partition)?;
        // Where history was trimmed, what is left may all be in memory.
        let after = after.max(self.source.begin(partition)?);
        let (safe_head, stretch) = loop {
            let changes = self.source.segments.changes();
            let (safe_head, found) = {
                let state = shard.state();
                let more = self.limits.batch_records;
                (state.at.last, find(&state, after, limit, more))
            };
            let read = match found {
                Where::Memory(records) => Ok(Stretch {
                    until: records.last().map_or(after, |last| last.local.offset),
                    records,
                }),
                Where::Frames(frames) => {
                    self.stored(move |source| {
                        let wanted = |offset| offset > after.0;
                        let records = source.frames(&frames, links, &wanted)?;
                        let until = records.last().map_or(after, |last| last.local.offset);
                        Ok(Stretch { records, until })
                    })
                    .await
                }
                Where::Stored => {
                    self.stored(move |source| source.after(partition, after, limit, links))
                        .await
                }
            };
            match read {
                // What memory knew of may have been packed before it was read.
                Err(_) if self.source.segments.changes() != changes => {}
                read => break (safe_head, read?),
            }
        };
        let Stretch { mut records, until } = stretch;
        // What is on its way to the disk is in the tail already, and not to be seen.
        records.retain(|record| (after.0 + 1..=safe_head.0).contains(&record.local.offset.0));
        let found = records.len();
        if self.source.is_trimmed() {
            units_with_gaps(&mut records, limit);
        } else {
            whole_units(&mut records, limit);
        }
        let next = match records.last() {
            Some(last) if records.len() < found => last.local.offset,
            _ => until.min(safe_head).max(after),
        };
        Ok(Chunk {
            records,
            next,
            safe_head,
        })
    }

    /// Reads from disk where it holds up no task.
    pub(super) async fn stored<T: Send + 'static>(
        &self,
        read: impl FnOnce(&crate::read::Source) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let source = Arc::clone(&self.source);
        self.blocking("read", move || read(&source))
            .await
            .unwrap_or_else(|| Err(ReadError::Unavailable("the process is ending".into())))
    }

    pub(super) fn head(&self, partition: Partition) -> Result<Offset, ReadError> {
        Ok(self.readable(partition)?.head.borrow().offset)
    }

    pub(super) async fn head_past(
        &self,
        partition: Partition,
        after: Offset,
    ) -> Result<Offset, ReadError> {
        let mut head = self.readable(partition)?.head.subscribe();
        let reached = head
            .wait_for(|head| head.offset > after || head.ended.is_some())
            .await
            .map_err(|_| ReadError::Unavailable("the log is closed".into()))?;
        match &reached.ended {
            Some(why) if reached.offset <= after => Err(ReadError::Unavailable(why.to_string())),
            _ => Ok(reached.offset),
        }
    }
}

fn find(state: &State, after: Offset, limit: ReadLimit, more: usize) -> Where {
    if let Some(records) = state.tail.after(after, limit, more) {
        return Where::Memory(records);
    }
    if after >= state.at.last {
        return Where::Memory(Vec::new());
    }
    let next = Offset(after.0 + 1);
    match state.frames_from(next) {
        Some(frames) => Where::Frames(frames_for(frames, next, limit)),
        None => Where::Stored,
    }
}

/// The frames that a read from `next` on needs, one at least.
fn frames_for(frames: &[FramePlace], next: Offset, limit: ReadLimit) -> Vec<FramePlace> {
    let (mut bytes, mut taken) = (0, Vec::new());
    for frame in frames {
        let records = frame.first.0.saturating_sub(next.0);
        if !taken.is_empty() && (records >= limit.records as u64 || bytes >= limit.bytes) {
            break;
        }
        bytes += frame.length as usize;
        taken.push(*frame);
    }
    taken
}

/// As [`whole_units`], where the ends of units may have been trimmed: a unit ends where the next one
/// begins, and frames hold whole units.
fn units_with_gaps(records: &mut Vec<Arc<Record>>, limit: ReadLimit) {
    let begin = |record: &Record| record.local.offset.0 - u64::from(record.portable.unit.index);
    let (mut bytes, mut end) = (0, 0);
    for index in 0..records.len() {
        let record = &records[index];
        bytes += record.portable.payload.len();
        if end > 0 && (index >= limit.records || bytes > limit.bytes) {
            break;
        }
        if records
            .get(index + 1)
            .is_none_or(|next| begin(next) != begin(record))
        {
            end = index + 1;
        }
    }
    records.truncate(end);
}
