//! What an owner learns before it serves: from the partition's stored state, and from what the log
//! has gained since.

use everfold_engine::Offset;
use everfold_engine::World;
use everfold_engine::engine::{Chunk, Engine, Epoch, OwnerError, ReadError, ReadLimit};
use everfold_engine::record::{Kind, Link};
use everfold_engine::slot::Partition;

use super::batch::Clock;
use super::keeper::{Writer, Written};
use super::known::Known;
use super::partition_state::{Found, PartitionState, partition_area};
use crate::options::{StateOptions, StateStore};

/// A partition as the log has it.
pub(crate) struct Tail {
    pub(crate) clock: Clock,
    pub(crate) known: Known,
    pub(crate) head: Offset,
    /// What is stored of it beside the log; none where nothing is to be.
    pub(crate) state: Option<PartitionState>,
    /// Records read to get here.
    pub(crate) folded: u64,
    /// Stored snapshots are of another history than the log's.
    pub(crate) foreign: bool,
}

/// Reads a partition for its new owner.
pub(crate) struct Recovery<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) world: &'a dyn World,
    pub(crate) options: &'a StateOptions,
    pub(crate) partition: Partition,
    /// Whose state may be stored on the way; of nobody's who only follows.
    pub(crate) epoch: Option<Epoch>,
}

impl Recovery<'_> {
    /// A partition up to `head`, from its stored state on if there is a usable one.
    pub(crate) async fn read(&self, head: Offset) -> Result<Tail, OwnerError> {
        let mut tail = self.begin().await;
        self.follow(&mut tail, head).await?;
        Ok(tail)
    }

    /// What is stored of a partition.
    pub(crate) async fn begin(&self) -> Tail {
        let (now, seed) = (self.world.now(), self.world.random());
        let mut tail = Tail {
            clock: Clock::default(),
            known: Known::new(seed),
            head: Offset(0),
            state: None,
            folded: 0,
            foreign: false,
        };
        if self.options.store == StateStore::Disk {
            let found =
                PartitionState::load(self.engine, self.partition, Known::new(seed), now).await;
            self.world.reached(match found {
                Found::Usable(..) => "owner: begins with stored partition state",
                Found::Nothing => "owner: no partition state is stored",
                Found::Unusable => "owner: stored partition state is not usable",
                Found::Foreign => "owner: stored partition state is of another log",
            });
            let (state, foreign) = match found {
                Found::Usable(state, known) => {
                    tail.known = *known;
                    (*state, false)
                }
                Found::Nothing => (PartitionState::default(), false),
                Found::Unusable => (PartitionState::anew(), false),
                Found::Foreign => (PartitionState::anew(), true),
            };
            tail.clock = state.clock;
            tail.head = state.offset;
            tail.foreign = foreign;
            tail.state = self.epoch.is_some().then_some(state);
        }
        tail
    }

    /// Folds what the log has beyond `tail`, up to `head`.
    pub(crate) async fn follow(&self, tail: &mut Tail, head: Offset) -> Result<(), OwnerError> {
        let area = partition_area(self.partition);
        let mut writer = self.epoch.map(|epoch| Writer::new(area, epoch));
        let incarnation = self.engine.identity().incarnation;
        while tail.head < head {
            let chunk = self.chunk(tail.head).await?;
            if chunk.next == tail.head {
                break;
            }
            let linked = self.fold(tail, &chunk);
            if let (Some(state), Some(writer)) = (&mut tail.state, &mut writer) {
                // So that neither the memory fills, nor a start that is cut short was in vain.
                // Only where the link is known can the state be told to be of this log.
                let chained = self.engine.identity().chained;
                if state.is_due(&self.options.partitions) && (linked || !chained) {
                    let cut = state.cut(incarnation, tail.known.forgotten());
                    let (engine, world) = (self.engine, self.world);
                    let written = writer.write(engine, world, cut.clear, cut.changes);
                    self.world
                        .reached("owner: partition state stored while it is read");
                    if written.await != Written::Stored {
                        tail.state = None;
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn chunk(&self, after: Offset) -> Result<Chunk, OwnerError> {
        let limit = ReadLimit::default();
        let chunk = self.engine.read(self.partition, after, limit).await;
        chunk.map_err(|error| match error {
            ReadError::Damaged(_) => OwnerError::Stopped(error.to_string()),
            _ => OwnerError::Unavailable(error.to_string()),
        })
    }

    /// Folds a chunk as a whole. Says whether it ends with a link that is known.
    pub(crate) fn fold(&self, tail: &mut Tail, chunk: &Chunk) -> bool {
        let (now, home) = (self.world.now(), self.engine.identity().origin());
        for record in &chunk.records {
            let portable = &record.portable;
            if let Some(dot) = portable.dot.as_ref().filter(|dot| dot.origin == home) {
                tail.clock.counter = tail.clock.counter.max(dot.counter);
            }
            let stood_for = portable
                .context
                .iter()
                .filter(|(origin, _)| *origin == home);
            if record.kind == Kind::Baseline
                && let Some(counter) = stood_for.map(|(_, counter)| *counter).max()
            {
                tail.clock.counter = tail.clock.counter.max(counter);
            }
            tail.clock.stamp = tail.clock.stamp.max(record.local.stamp);
            tail.clock.hybrid = tail.clock.hybrid.max(portable.hybrid);
            // Not every record comes with its link; the last of a batch does.
            if record.local.link != Link::default() {
                tail.clock.link = record.local.link;
            }
            tail.known.fold(record, now);
            if let Some(state) = &mut tail.state {
                state.fold(record);
            }
        }
        tail.folded += chunk.records.len() as u64;
        tail.head = chunk.next;
        let Some(last) = chunk.records.last() else {
            return false;
        };
        if let Some(state) = &mut tail.state {
            state.reached(last.local.offset, last.local.stamp, tail.clock);
        }
        last.local.link == tail.clock.link
    }
}
