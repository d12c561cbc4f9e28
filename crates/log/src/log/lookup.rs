//! Everything that is read.

use std::sync::Arc;

use everfold_engine::engine::rules::whole_units;
use everfold_engine::engine::{Chunk, ReadError, ReadLimit};
use everfold_engine::{EntityKey, Offset, Partition, Record};

use super::Log;
use crate::index::FramePlace;
use crate::partition::{Shard, State};

/// How many events of an entity are looked up in one go.
const EVENTS_AT_ONCE: usize = 1024;

impl Log {
    fn readable(&self, partition: Partition) -> Result<&Shard, ReadError> {
        self.shards
            .get(partition.index())
            .ok_or(ReadError::NoPartition(partition))
    }

    pub(super) async fn read_after(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
    ) -> Result<Chunk, ReadError> {
        let shard = self.readable(partition)?;
        let (safe_head, found) = {
            let state = shard.state();
            let tail = state.tail.after(after, limit, self.limits.batch_records);
            let found = tail.map_or_else(|| Err(frames_for(&state, after, limit)), Ok);
            (state.at.last, found)
        };
        let mut records = match found {
            Ok(records) => records,
            Err(frames) => self.stored(frames).await?,
        };
        // What is on its way to the disk is in the tail already, and not to be seen.
        records.retain(|record| (after.0 + 1..=safe_head.0).contains(&record.local.offset.0));
        whole_units(&mut records, limit);
        let next = records.last().map_or(after, |record| record.local.offset);
        Ok(Chunk {
            records,
            next,
            safe_head,
        })
    }

    async fn stored(&self, frames: Vec<FramePlace>) -> Result<Vec<Arc<Record>>, ReadError> {
        let source = Arc::clone(&self.source);
        self.blocking("read", move || source.records(&frames))
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

    pub(super) async fn events_of(
        &self,
        partition: Partition,
        entity: &EntityKey,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Record>>, ReadError> {
        let shard = self.readable(partition)?;
        let mut events = Vec::new();
        let mut done = 0;
        // Another entity may share the hash: go on until there are enough of the right one.
        while events.len() < limit {
            let wanted = (limit - events.len()).min(EVENTS_AT_ONCE);
            let (mut found, frames, looked_at) = {
                let state = shard.state();
                let offsets = state.entities.of(entity, after);
                let durable = offsets.partition_point(|offset| *offset <= state.at.last.0);
                let offsets = &offsets[..durable];
                let offsets = &offsets[done.min(offsets.len())..];
                let offsets = &offsets[..wanted.min(offsets.len())];
                let (found, frames) = places_of(&state, offsets);
                (found, frames, offsets.to_vec())
            };
            if looked_at.is_empty() {
                break;
            }
            done += looked_at.len();
            if !frames.is_empty() {
                // What lies on disk is older than what is in memory.
                let mut old = self.stored(frames).await?;
                // A frame on disk may reach into the tail: what was found there comes from there.
                let before = found.first().map_or(u64::MAX, |first| first.local.offset.0);
                old.retain(|record| {
                    let offset = record.local.offset.0;
                    offset < before && looked_at.binary_search(&offset).is_ok()
                });
                old.append(&mut found);
                found = old;
            }
            let of_entity = |record: &Arc<Record>| {
                record.portable.entity == *entity && record.local.version > after
            };
            events.extend(found.into_iter().filter(of_entity));
        }
        Ok(events)
    }
}

/// The frames that a read after `after` needs, one at least.
fn frames_for(state: &State, after: Offset, limit: ReadLimit) -> Vec<FramePlace> {
    let frames = state.frames.from(Offset(after.0 + 1));
    let (mut bytes, mut taken) = (0, Vec::new());
    for frame in frames {
        let records = frame.first.0.saturating_sub(after.0 + 1);
        if !taken.is_empty() && (records >= limit.records as u64 || bytes >= limit.bytes) {
            break;
        }
        bytes += frame.length as usize;
        taken.push(*frame);
    }
    taken
}

/// Records that are in memory, and the frames of the others.
fn places_of(state: &State, offsets: &[u64]) -> (Vec<Arc<Record>>, Vec<FramePlace>) {
    let (mut found, mut frames) = (Vec::new(), Vec::<FramePlace>::new());
    for offset in offsets {
        match state.tail.get(*offset) {
            Some(record) => found.push(Arc::clone(record)),
            None => {
                if let Some(frame) = state.frames.from(Offset(*offset)).first()
                    && frames.last() != Some(frame)
                {
                    frames.push(*frame);
                }
            }
        }
    }
    (found, frames)
}
