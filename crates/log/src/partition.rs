//! One partition in memory: who owns it, how far it is durable, where its records are.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everfold_engine::engine::{Epoch, ReadLimit};
use everfold_engine::record::Kind;
use everfold_engine::{Offset, Record};
use tokio::sync::{Semaphore, watch};

use crate::index::{Entities, FramePlace, Frames};
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
    pub(crate) frames: Frames,
    pub(crate) entities: Entities,
    pub(crate) tail: Tail,
}

impl Shard {
    pub(crate) fn new(at: PartitionStart, seed: u64, tail_bytes: usize) -> Self {
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
                frames: Frames::default(),
                entities: Entities::new(seed),
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
            self.index(record);
            self.tail.push(Arc::clone(record));
        }
    }

    /// Takes staged records out again: they were refused.
    pub(crate) fn unstage(&mut self, records: &[Arc<Record>]) {
        for record in records.iter().rev() {
            if record.kind == Kind::Event {
                self.entities.pop(&record.portable.entity);
            }
        }
        self.tail.restart(self.at.last);
    }

    /// Notes where an event of an entity is.
    pub(crate) fn index(&mut self, record: &Record) {
        if record.kind == Kind::Event {
            let local = &record.local;
            self.entities
                .push(&record.portable.entity, local.version, local.offset);
        }
    }

    /// A frame is durable, and ends with `last`.
    pub(crate) fn advance(&mut self, last: &Record, place: FramePlace) {
        self.frames.push(place);
        self.at.last = last.local.offset;
        self.at.floor = self.at.floor.max(last.local.stamp);
        self.at.link = last.local.link;
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
    size_of::<Record>()
        + portable.payload.len()
        + portable.metadata.len()
        + portable.entity.id.len()
        + 64
}
