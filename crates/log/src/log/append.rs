//! Everything that is written: batches, claims, floors.

use std::sync::Arc;

use bytes::Bytes;
use everfold_engine::engine::rules::check_batch;
use everfold_engine::engine::{AppendError, Appended, Batch, Claim, Epoch, OwnerError, Refusal};
use everfold_engine::record::{Kind, Link, Local, Portable, Record, Unit, codec};
use everfold_engine::world::new_id;
use everfold_engine::{EntityKey, HybridTime, Offset, Partition, Stamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Log;
use crate::frame::{FrameHeader, FrameKind, Loose, floor_body};
use crate::journal::{Effect, Failure, Submission};
use crate::partition::Shard;

/// Waits for a permit; they are never taken away.
pub(super) async fn permit(semaphore: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(semaphore).acquire_owned().await.ok()
}

impl Log {
    pub(super) fn shard(&self, partition: Partition) -> Result<&Shard, OwnerError> {
        self.shards
            .get(partition.index())
            .ok_or(OwnerError::NoPartition(partition))
    }

    /// Whether the log still works and the epoch is the valid one.
    pub(super) fn check_owner(&self, partition: Partition, epoch: Epoch) -> Result<(), OwnerError> {
        let shard = self.shard(partition)?;
        if let Some(failure) = self.queue.refusal() {
            return Err(owner_error(failure));
        }
        let state = shard.state();
        if state.holds(epoch) {
            return Ok(());
        }
        Err(OwnerError::Fenced {
            partition,
            current: state.current(),
        })
    }

    pub(super) async fn append_batch(
        &self,
        partition: Partition,
        epoch: Epoch,
        batch: Batch,
    ) -> Result<Appended, AppendError> {
        let Ok(shard) = self.shard(partition) else {
            return Err(Refusal::Invalid(format!("no partition {partition}")).into());
        };
        let turn = permit(&shard.turn).await;
        // With the turn, what is known of the partition stays as it is until the batch is settled.
        let (at, holds) = {
            let state = shard.state();
            (state.at, state.holds(epoch))
        };
        if let Some(failure) = self.queue.refusal() {
            return Err(append_error(failure));
        }
        if !holds {
            return Err(AppendError::Fenced(partition));
        }
        check_batch(&batch, self.limits, at.floor)?;
        let first = Offset(at.last.0 + 1);
        let last = Offset(at.last.0 + batch.records.len() as u64);
        let submission = self.batch(partition, epoch, batch, first, at.link, Effect::Nothing);
        self.settle(submission, turn).await.map_err(append_error)?;
        Ok(Appended { first, last })
    }

    /// A batch as a frame, with everything filled in that the log fills in.
    fn batch(
        &self,
        partition: Partition,
        epoch: Epoch,
        batch: Batch,
        first: Offset,
        previous: Link,
        effect: Effect,
    ) -> Submission {
        let mut records = batch.records;
        for (offset, record) in (first.0..).zip(&mut records) {
            record.local.offset = Offset(offset);
            record.local.epoch = epoch.0;
            record.local.batch = batch.id;
        }
        self.complete_links(&mut records, previous);
        let chained = self.identity.chained;
        // A single record needs no link but its own.
        let has_previous_link = chained && records.len() > 1;
        let header = FrameHeader {
            length: 0,
            kind: FrameKind::Batch,
            has_previous_link,
            partition,
            count: records.len() as u32,
            flush_start: 0,
            flush: 0,
            epoch: epoch.0,
            batch: batch.id,
            first,
        };
        let payload: usize = records.iter().map(|r| r.portable.payload.len() + 160).sum();
        let mut body = Vec::with_capacity(payload + 64);
        if has_previous_link {
            body.extend_from_slice(&previous.0);
        }
        let frame = header.codec(&self.identity.origin(), chained, previous);
        codec::encode(&mut body, &records, &frame);
        Submission {
            frame: Loose::new(header, body),
            records: records.into_iter().map(Arc::new).collect(),
            effect,
            turn: None,
            owner: None,
            done: None,
        }
    }

    /// Owners compute links beside their other work; a batch whose last one is unset gets them here.
    fn complete_links(&self, records: &mut [Record], previous: Link) {
        let blank = Link::default();
        if !self.identity.chained {
            records
                .iter_mut()
                .for_each(|record| record.local.link = blank);
        } else if records.last().is_some_and(|last| last.local.link == blank) {
            let mut link = previous;
            for record in records {
                link = record.link_after(link);
                record.local.link = link;
            }
        }
    }

    /// Hands a frame to the journal and waits for its end. The turn goes with the frame: it is not
    /// given back early if the caller goes away.
    async fn settle(
        &self,
        mut submission: Submission,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Failure> {
        let (done, result) = oneshot::channel();
        submission.turn = turn;
        submission.done = Some(done);
        let shard = self.shards.get(submission.frame.header.partition.index());
        if let Some(shard) = shard {
            shard.state().stage(&submission.records);
        }
        // Refused here, the log takes nothing any more: what is staged is never seen.
        self.queue.submit(submission)?;
        let gone = || Failure::Stopped("the log's driver ended".into());
        result.await.unwrap_or_else(|_| Err(gone()))
    }

    pub(super) async fn claim_partition(&self, partition: Partition) -> Result<Claim, OwnerError> {
        let shard = self.shard(partition)?;
        // An area is not written while the owner changes.
        let owner = permit(&shard.owner).await;
        let turn = permit(&shard.turn).await;
        let at = shard.state().at;
        let epoch = Epoch(at.epoch.0 + 1);
        let time = self.world.now();
        let floor = Stamp::next(at.floor, time, partition);
        let offset = Offset(at.last.0 + 1);
        let batch = Batch::new(0, vec![self.claim_record(floor)]);
        let effect = Effect::Claim(epoch);
        let mut submission = self.batch(partition, epoch, batch, offset, at.link, effect);
        submission.owner = owner;
        self.settle(submission, turn).await.map_err(owner_error)?;
        Ok(Claim {
            epoch,
            floor,
            safe_head: offset,
            time,
        })
    }

    fn claim_record(&self, stamp: Stamp) -> Record {
        let mut portable = Portable::new(EntityKey::new("", ""), "claim");
        portable.event_id = new_id(&*self.world);
        portable.effective = stamp.time();
        portable.hybrid = HybridTime((stamp.millis() as u64) << 16);
        portable.unit = Unit::SINGLE;
        portable.payload = Bytes::new();
        Record {
            kind: Kind::Claim,
            portable,
            local: Local {
                offset: Offset(0),
                version: 0,
                epoch: 0,
                batch: 0,
                stamp,
                reply: None,
                link: Link::default(),
            },
        }
    }

    pub(super) async fn raise_floor(
        &self,
        partition: Partition,
        epoch: Epoch,
        floor: Stamp,
    ) -> Result<(), OwnerError> {
        let shard = self.shard(partition)?;
        let turn = permit(&shard.turn).await;
        self.check_owner(partition, epoch)?;
        let at = shard.state().at;
        if floor <= at.floor {
            return Ok(());
        }
        let header = FrameHeader {
            length: 0,
            kind: FrameKind::Floor,
            has_previous_link: false,
            partition,
            count: 0,
            flush_start: 0,
            flush: 0,
            epoch: epoch.0,
            batch: 0,
            first: at.last,
        };
        let submission = Submission {
            frame: Loose::new(header, floor_body(floor)),
            records: Vec::new(),
            effect: Effect::Floor(floor),
            turn: None,
            owner: None,
            done: None,
        };
        self.settle(submission, turn).await.map_err(owner_error)
    }

    pub(super) async fn give_up(
        &self,
        partition: Partition,
        epoch: Epoch,
    ) -> Result<(), OwnerError> {
        let shard = self.shard(partition)?;
        let _turn = permit(&shard.turn).await;
        self.check_owner(partition, epoch)?;
        // Not written: no ownership outlives the process, and the next claim is a higher epoch.
        shard.state().owned = false;
        Ok(())
    }
}

fn append_error(failure: Failure) -> AppendError {
    match failure {
        Failure::Full(why) => Refusal::Full(why).into(),
        Failure::Closed => Refusal::ReadOnly("the log is closed".into()).into(),
        Failure::Stopped(why) => AppendError::Unknown(format!("the log has stopped: {why}")),
    }
}

fn owner_error(failure: Failure) -> OwnerError {
    match failure {
        Failure::Full(why) => {
            OwnerError::Unavailable(format!("no space left on the log's device ({why})"))
        }
        Failure::Closed => OwnerError::Stopped("it was closed".into()),
        Failure::Stopped(why) => OwnerError::Stopped(why.to_string()),
    }
}
