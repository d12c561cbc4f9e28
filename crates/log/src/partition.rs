//! One partition in memory: who owns it, how far it is durable, where its records are.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everfold_engine::engine::{Epoch, ReadLimit};
use everfold_engine::{Offset, Record};
use tokio::sync::{Semaphore, watch};

use crate::index::{FramePlace, Fresh, Subject, Subjects};
use crate::segment::PartitionStart;

/// How far a partition is readable, and whether that may still change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) offset: Offset,
    /// Why nothing more will come.
    pub(crate) ended: Option<Arc<str>>,
}

pub(crate) struct Shard {
    /// One write at a time: whoever holds the permit orders the next batch.
    pub(crate) turn: Arc<Semaphore>,
    /// Held while an area is written and while the owner changes.
    pub(crate) owner: Arc<Semaphore>,
    pub(crate) head: watch::Sender<Head>,
    state: Mutex<State>,
}

/// What is durable of a partition.
pub(crate) struct State {
    pub(crate) at: PartitionStart,
    /// Whether the epoch's owner is still there. Owners do not outlive the process.
    pub(crate) owned: bool,
    subjects: Subjects,
    /// The index of the segment that is being written.
    fresh: Fresh,
    /// The last offset before that segment.
    before: Offset,
    /// Indexes of sealed segments that are not on disk yet, oldest first.
    waiting: Vec<Waiting>,
    /// Records on their way to the disk: one batch at most.
    staged: Vec<Arc<Record>>,
    pub(crate) tail: Tail,
}

/// The index of a sealed segment, for as long as it is in memory only.
#[derive(Clone)]
pub(crate) struct Waiting {
    pub(crate) generation: u64,
    /// The last offset before the segment.
    pub(crate) before: Offset,
    /// The last offset in it. The index may reach further: what is behind belongs to the next one.
    pub(crate) last: Offset,
    pub(crate) index: Arc<Fresh>,
}

impl Shard {
    pub(crate) fn new(
        at: PartitionStart,
        subjects: Subjects,
        seed: u64,
        tail_bytes: usize,
    ) -> Self {
        let head = Head {
            offset: at.last,
            ended: None,
        };
        Self {
            turn: Arc::new(Semaphore::new(1)),
            owner: Arc::new(Semaphore::new(1)),
            head: watch::Sender::new(head),
            state: Mutex::new(State {
                at,
                owned: false,
                subjects,
                fresh: Fresh::new(seed),
                before: at.last,
                waiting: Vec::new(),
                staged: Vec::new(),
                tail: Tail::new(at.last, tail_bytes),
            }),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn end(&self, reason: &Arc<str>) {
        self.head
            .send_modify(|head| head.ended = Some(Arc::clone(reason)));
    }
}

impl State {
    pub(crate) fn holds(&self, epoch: Epoch) -> bool {
        self.owned && self.at.epoch == epoch
    }

    /// The valid epoch, if anybody has it.
    pub(crate) fn current(&self) -> Option<Epoch> {
        self.owned.then_some(self.at.epoch)
    }

    /// Takes in records that are on their way to the disk, on the time of whoever appends them:
    /// the driver has none to spare. Readers look no further than `at.last`.
    pub(crate) fn stage(&mut self, records: &[Arc<Record>]) {
        for record in records {
            self.fresh.push(record, self.subjects);
            self.tail.push(Arc::clone(record));
        }
        self.staged.clear();
        self.staged.extend_from_slice(records);
    }

    /// Takes staged records out again: they were refused.
    pub(crate) fn unstage(&mut self, records: &[Arc<Record>]) {
        for record in records.iter().rev() {
            self.fresh.pop(record, self.subjects);
        }
        self.staged.clear();
        self.tail.restart(self.at.last);
    }

    /// Notes what a stored record can be found by.
    pub(crate) fn index(&mut self, record: &Record) {
        self.fresh.push(record, self.subjects);
    }

    /// A frame is durable, and ends with `last`.
    pub(crate) fn advance(&mut self, last: &Record, place: FramePlace) {
        self.staged.clear();
        self.fresh.push_frame(place);
        self.at.last = last.local.offset;
        self.at.floor = self.at.floor.max(last.local.stamp);
        self.at.link = last.local.link;
    }

    /// Goes on as a segment begins that says where the partition stands.
    pub(crate) fn restart(&mut self, at: PartitionStart) {
        self.at = at;
        self.before = at.last;
        self.fresh = self.fresh.another();
        self.tail.restart(at.last);
    }

    /// The segment is full: its index waits to be written, what is staged belongs to the next one.
    pub(crate) fn seal(&mut self, generation: u64) {
        let mut next = self.fresh.another();
        for record in &self.staged {
            next.push(record, self.subjects);
        }
        self.waiting.push(Waiting {
            generation,
            before: self.before,
            last: self.at.last,
            index: Arc::new(std::mem::replace(&mut self.fresh, next)),
        });
        self.before = self.at.last;
    }

    pub(crate) fn waiting(&self) -> &[Waiting] {
        &self.waiting
    }

    /// The index of a segment is on disk.
    pub(crate) fn indexed(&mut self, generation: u64) {
        self.waiting
            .retain(|waiting| waiting.generation != generation);
    }

    /// Everything up to here is indexed on disk, and nothing behind it.
    pub(crate) fn stored_until(&self) -> Offset {
        self.waiting
            .first()
            .map_or(self.before, |waiting| waiting.before)
    }

    /// An offset before the first record with a stamp at or above `stamp`, if memory knows.
    pub(crate) fn before_stamp(&self, stamp: i64) -> Option<Offset> {
        let waiting = self.waiting.iter().map(|waiting| waiting.index.frames());
        let frames = waiting.chain(std::iter::once(self.fresh.frames()));
        let mut found = None;
        for frames in frames {
            let earlier = frames.partition_point(|frame| frame.stamp < stamp);
            // The frame itself may reach over the stamp.
            let last = earlier.checked_sub(1).and_then(|last| frames.get(last));
            found = last.map(|frame| Offset(frame.first.0 - 1)).or(found);
        }
        found
    }

    /// Frames in memory from the one on that holds `offset`; `None` if they are on disk.
    pub(crate) fn frames_from(&self, offset: Offset) -> Option<&[FramePlace]> {
        if offset > self.before {
            return Some(self.fresh.frames_from(offset));
        }
        let waiting = self
            .waiting
            .iter()
            .find(|waiting| waiting.before < offset && offset <= waiting.last)?;
        let frames = waiting.index.frames_from(offset);
        // A packed segment says itself where its frames are.
        (!frames.is_empty()).then_some(frames)
    }

    /// What is in memory of a subject, newest segment first: the generation (the active one's is
    /// not known here, and given as the highest), its offsets, and where the segment ends.
    pub(crate) fn layers(
        &self,
        subject: Subject,
    ) -> impl Iterator<Item = (u64, Option<&crate::index::Places>, Offset)> {
        let fresh = (u64::MAX, self.fresh.places(subject), self.at.last);
        let waiting = self.waiting.iter().rev();
        std::iter::once(fresh).chain(waiting.map(move |waiting| {
            (
                waiting.generation,
                waiting.index.places(subject),
                waiting.last,
            )
        }))
    }
}

/// The newest records of a partition, decoded, within a budget of bytes.
pub(crate) struct Tail {
    records: VecDeque<Arc<Record>>,
    /// The offset before the first one.
    before: u64,
    bytes: usize,
    budget: usize,
}

impl Tail {
    fn new(last: Offset, budget: usize) -> Self {
        Self {
            records: VecDeque::new(),
            before: last.0,
            bytes: 0,
            budget,
        }
    }

    pub(crate) fn restart(&mut self, last: Offset) {
        *self = Self::new(last, self.budget);
    }

    pub(crate) fn push(&mut self, record: Arc<Record>) {
        self.bytes += footprint(&record);
        self.records.push_back(record);
        while self.bytes > self.budget {
            let Some(oldest) = self.records.pop_front() else {
                break;
            };
            self.bytes -= footprint(&oldest);
            self.before += 1;
        }
    }

    /// One record, if it is here.
    pub(crate) fn get(&self, offset: u64) -> Option<&Arc<Record>> {
        let index = offset.checked_sub(self.before + 1)?;
        self.records.get(usize::try_from(index).ok()?)
    }

    /// Records after an offset, if it lies within the tail; some more than the limit, so that the
    /// last unit is whole.
    pub(crate) fn after(
        &self,
        after: Offset,
        limit: ReadLimit,
        more: usize,
    ) -> Option<Vec<Arc<Record>>> {
        let skip = usize::try_from(after.0.checked_sub(self.before)?).ok()?;
        let mut bytes = 0;
        let mut taken = Vec::new();
        for record in self.records.iter().skip(skip) {
            let enough = taken.len() >= limit.records.max(1) || bytes > limit.bytes;
            if enough && record.portable.unit.index == 0 {
                break;
            }
            if taken.len() >= limit.records.max(1).saturating_add(more) {
                break;
            }
            bytes += record.portable.payload.len();
            taken.push(Arc::clone(record));
        }
        Some(taken)
    }
}

/// About how much memory a record takes.
fn footprint(record: &Record) -> usize {
    let portable = &record.portable;
    let labels = portable.labels.iter();
    let reply = record.local.reply.as_ref();
    size_of::<Record>()
        + portable.payload.len()
        + portable.metadata.len()
        + portable.entity.id.len()
        + portable.principal.len()
        + portable.trace.len()
        + labels
            .map(|(name, value)| name.len() + value.len() + 64)
            .sum::<usize>()
        + reply.map_or(0, |reply| reply.body.len())
        + 64
}
