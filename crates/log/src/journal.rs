//! The journal: what is written next, decided without touching a disk or a thread.
//!
//! [`Journal::next`] says which write is wanted, [`Journal::completed`] takes its result. One write
//! carries whatever waits, of all partitions; while it is under way the next ones gather.

mod driver;
mod herald;
mod queue;
mod spare;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use everfold_engine::engine::{Epoch, Identity};
use everfold_engine::{Offset, Partition, Record, Stamp};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::disk::{Aligned, BLOCK};
use crate::frame::{FrameHeader, FrameKind, Loose, Place};
use crate::index::FramePlace;
use crate::options::Options;
use crate::partition::Shard;
use crate::read::Source;
use crate::segment::SegmentHeader;

pub(crate) use driver::{Driver, prepare_ahead};
pub(crate) use herald::herald;
pub(crate) use queue::Queue;
pub(crate) use spare::{Spare, is_spare};

/// A frame that waits to be written.
pub(crate) struct Submission {
    pub(crate) frame: Loose,
    pub(crate) records: Vec<Arc<Record>>,
    pub(crate) effect: Effect,
    /// The partition's turn, given back when the frame is settled; also if nobody waits any more.
    pub(crate) turn: Option<OwnedSemaphorePermit>,
    /// For a claim: keeps areas from being written until the owner has changed.
    pub(crate) owner: Option<OwnedSemaphorePermit>,
    pub(crate) done: Option<oneshot::Sender<Result<(), Failure>>>,
}

/// What a frame changes besides adding records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Nothing,
    /// A new owner.
    Claim(Epoch),
    /// A raised floor.
    Floor(Stamp),
}

/// Why a frame was not written, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It was not: there is no room.
    Full(String),
    /// It was not: the log is closed.
    Closed,
    /// It may have been; the log has stopped.
    Stopped(Arc<str>),
}

impl Submission {
    pub(crate) fn settle(self, result: Result<(), Failure>) {
        drop((self.turn, self.owner));
        if let Some(done) = self.done {
            // Whoever asked may have gone away; the record is there all the same.
            let _ = done.send(result);
        }
    }
}

/// What the journal wants done with the disk.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// A segment file of zeros.
    Prepare {
        /// The segment.
        generation: u64,
        /// Its least length.
        bytes: u64,
    },
    /// A prepared segment's header, durable.
    Begin {
        /// The segment.
        generation: u64,
        /// What to write at its start.
        header: Vec<u8>,
    },
    /// The first bytes of [`Journal::buffer`], durable.
    Write {
        /// Where in the current segment.
        at: u64,
        /// How many.
        bytes: usize,
    },
}

/// Where the next frame goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) generation: u64,
    pub(crate) position: u64,
    pub(crate) capacity: u64,
    pub(crate) flush: u64,
    /// Whether the last frame says that the log was closed.
    pub(crate) closed: bool,
}

pub(crate) struct Journal {
    identity: Identity,
    options: Options,
    shards: Arc<[Shard]>,
    source: Arc<Source>,
    end: End,
    /// The length of the next segment's file, once it is prepared.
    prepared: Option<u64>,
    /// The last, partly filled block of the segment, then what is being written.
    buffer: Aligned,
    pending: VecDeque<Submission>,
    in_flight: Vec<(Submission, FramePlace)>,
    landed: Vec<Submission>,
    /// Where the log ends when the write in flight is durable.
    next_position: u64,
}

impl Journal {
    /// Goes on at `end`; `partial` is what the last block holds before it.
    pub(crate) fn new(
        identity: Identity,
        options: Options,
        shards: Arc<[Shard]>,
        source: Arc<Source>,
        end: End,
        partial: &[u8],
    ) -> Self {
        let mut buffer = Aligned::zeroed(64 << 10);
        buffer[..partial.len()].copy_from_slice(partial);
        Self {
            identity,
            options,
            shards,
            source,
            end,
            prepared: None,
            buffer,
            pending: VecDeque::new(),
            in_flight: Vec::new(),
            landed: Vec::new(),
            next_position: end.position,
        }
    }

    pub(crate) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    pub(crate) fn shards(&self) -> &[Shard] {
        &self.shards
    }

    pub(crate) fn submit(&mut self, submissions: impl Iterator<Item = Submission>) {
        self.pending.extend(submissions);
    }

    /// The next thing to do, if anything waits.
    pub(crate) fn next(&mut self) -> Option<Wanted> {
        let first = self.pending.front()?.frame.span() as u64;
        if self.end.position + first > self.end.capacity {
            return Some(self.roll(first));
        }
        Some(self.gather())
    }

    /// The log ends in order: a last frame proves that all before it was acknowledged.
    pub(crate) fn close(&mut self) -> Option<Wanted> {
        let header = FrameHeader {
            length: 0,
            kind: FrameKind::Close,
            has_previous_link: false,
            partition: Partition(0),
            count: 0,
            flush_start: 0,
            flush: 0,
            epoch: 0,
            batch: 0,
            first: Offset(0),
        };
        let frame = Loose::new(header, Vec::new());
        let fits = self.end.position + frame.span() as u64 <= self.end.capacity;
        if self.end.closed || !fits {
            return None;
        }
        self.pending.push_back(Submission {
            frame,
            records: Vec::new(),
            effect: Effect::Nothing,
            turn: None,
            owner: None,
            done: None,
        });
        Some(self.gather())
    }

    fn roll(&mut self, first: u64) -> Wanted {
        let generation = self.end.generation + 1;
        let header_bytes = crate::segment::header_bytes(self.identity.layout.partitions);
        let needed = (header_bytes + first).next_multiple_of(BLOCK as u64);
        match self.prepared {
            Some(capacity) if capacity >= needed => Wanted::Begin {
                generation,
                header: self.header(generation, capacity).encode(),
            },
            _ => Wanted::Prepare {
                generation,
                bytes: needed.max(self.options.capacity(generation)),
            },
        }
    }

    fn header(&self, generation: u64, capacity: u64) -> SegmentHeader {
        SegmentHeader {
            identity: self.identity.clone(),
            generation,
            capacity,
            previous_end: self.end.position,
            last_flush: self.end.flush,
            starts: self.shards.iter().map(|shard| shard.state().at).collect(),
        }
    }

    /// Lays out whatever waits and fits behind the last frame.
    fn gather(&mut self) -> Wanted {
        let block = BLOCK as u64;
        let base = self.end.position - self.end.position % block;
        let mut used = (self.end.position - base) as usize;
        let (flush, start) = (self.end.flush + 1, self.end.position as u32);
        let limit = used + self.options.flush_bytes;
        while let Some(submission) = self.pending.front() {
            let span = submission.frame.span();
            let position = base + used as u64;
            let fits = position + span as u64 <= self.end.capacity;
            if !fits || (used + span > limit && !self.in_flight.is_empty()) {
                break;
            }
            let needed = (used + span).next_multiple_of(BLOCK);
            self.buffer.grow(used, needed);
            let place = Place {
                incarnation: self.identity.incarnation.0,
                generation: self.end.generation,
                position,
            };
            let out = &mut self.buffer[used..used + span];
            // Padding behind the body; the rest of the last block is cleared below.
            out[span - 8..].fill(0);
            submission.frame.put(out, flush, start, place);
            let place = FramePlace {
                first: submission.frame.header.first,
                stamp: submission
                    .records
                    .first()
                    .map_or(0, |first| first.local.stamp.0),
                generation: self.end.generation as u32,
                position: position as u32,
                length: submission.frame.header.length,
            };
            used += span;
            if let Some(submission) = self.pending.pop_front() {
                self.in_flight.push((submission, place));
            }
        }
        self.next_position = base + used as u64;
        let bytes = used.next_multiple_of(BLOCK);
        self.buffer[used..bytes].fill(0);
        Wanted::Write { at: base, bytes }
    }

    /// Takes the result of what was wanted.
    ///
    /// # Errors
    /// The log has stopped for good: what was under way may be durable or not.
    pub(crate) fn completed(
        &mut self,
        wanted: &Wanted,
        result: io::Result<u64>,
    ) -> Result<(), Arc<str>> {
        match (wanted, result) {
            (Wanted::Prepare { .. }, Ok(length)) => self.prepared = Some(length),
            (Wanted::Prepare { .. }, Err(error)) if is_full(&error) => {
                // Only what does not fit is refused; smaller frames may still find room.
                if let Some(submission) = self.pending.pop_front() {
                    let partition = submission.frame.header.partition;
                    let mut state = self.shards[partition.index()].state();
                    state.unstage(&submission.records);
                    drop(state);
                    submission.settle(Err(Failure::Full(error.to_string())));
                }
            }
            (Wanted::Begin { generation, .. }, Ok(_)) => self.begun(*generation),
            (Wanted::Write { bytes, .. }, Ok(_)) => self.written(*bytes),
            (_, Err(error)) => return Err(error.to_string().into()),
        }
        Ok(())
    }

    fn begun(&mut self, generation: u64) {
        let mut starts = Vec::with_capacity(self.shards.len());
        for shard in self.shards.iter() {
            let mut state = shard.state();
            state.seal(self.end.generation);
            starts.push(state.at);
        }
        self.source.segments.begun(generation, &starts);
        self.end.generation = generation;
        self.end.position = crate::segment::header_bytes(self.identity.layout.partitions);
        self.end.capacity = self.prepared.take().unwrap_or_default();
        self.next_position = self.end.position;
    }

    fn written(&mut self, bytes: usize) {
        self.end.position = self.next_position;
        self.end.flush += 1;
        let partial = (self.end.position % BLOCK as u64) as usize;
        if partial > 0 {
            self.buffer.copy_within(bytes - BLOCK..bytes, 0);
        }
        for (submission, place) in self.in_flight.drain(..) {
            let header = &submission.frame.header;
            self.end.closed = header.kind == FrameKind::Close;
            if !self.end.closed {
                publish(&self.shards[header.partition.index()], &submission, place);
            }
            self.landed.push(submission);
        }
    }

    /// What has become durable since this was asked last: its waiters are still to be told.
    pub(crate) fn landed(&mut self) -> Vec<Submission> {
        std::mem::take(&mut self.landed)
    }

    /// Everything under way or waiting ends without being known.
    pub(crate) fn abandon(&mut self, reason: &Arc<str>) {
        let in_flight = self.in_flight.drain(..).map(|(submission, _)| submission);
        for submission in in_flight.chain(self.pending.drain(..)) {
            submission.settle(Err(Failure::Stopped(Arc::clone(reason))));
        }
    }
}

/// Makes a durable frame visible.
fn publish(shard: &Shard, submission: &Submission, place: FramePlace) {
    let mut state = shard.state();
    match submission.effect {
        Effect::Nothing => {}
        Effect::Claim(epoch) => {
            state.at.epoch = epoch;
            state.owned = true;
        }
        Effect::Floor(floor) => state.at.floor = state.at.floor.max(floor),
    }
    let Some(last) = submission.records.last() else {
        return;
    };
    state.advance(last, place);
}

/// Whether an error goes away when there is space again.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
