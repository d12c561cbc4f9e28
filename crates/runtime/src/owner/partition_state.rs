//! A partition's own state beside the log: its clock, and the table of command ids.
//!
//! What is stored is the fold of the log up to an offset, never more: it may lag behind the log and
//! never leads it. The table is stored in *pages*: the ids decided between two cuts, written once and
//! dropped when none of them counts any more. So a cut costs what was decided since the last one.

mod bytes;
mod load;

use std::collections::BTreeMap;

use everfold_engine::position::Incarnation;
use everfold_engine::record::{Record, Source};
use everfold_engine::slot::Partition;
use everfold_engine::time::Stamp;
use everfold_engine::{Bytes, Offset, Text, Uuid};

use super::batch::Clock;
use super::known::{Entry, Shelf};
use crate::options::PartitionPolicy;

pub(crate) use load::{Found, partition_area};

/// Ids of so many bytes are written down, whatever the policy says.
const MOST_FRESH: usize = 16 << 20;

/// What a handler has settled, by handler and the partition it reads.
type Settled = BTreeMap<(Text, Partition), Offset>;

/// What is durable of a partition, and how much of it is stored beside the log.
#[derive(Default)]
pub(crate) struct PartitionState {
    /// It stands for the log up to here: the offset of a record, and that record's stamp.
    pub(crate) offset: Offset,
    stamp: Stamp,
    /// The clock after that record.
    pub(crate) clock: Clock,
    settled: Settled,
    fresh: Fresh,
    pages: Vec<Page>,
    /// The number of the next page.
    next: u64,
    /// Records and bytes since the last cut.
    records: u64,
    bytes: u64,
    /// What is stored is of no use.
    clear: bool,
}

/// Ids that are not stored yet.
#[derive(Default)]
struct Fresh {
    /// Encoded.
    issued: Vec<u8>,
    opaque: Vec<u8>,
    /// The newest bucket among them.
    newest: Option<i64>,
    sources: Vec<SourceId>,
}

impl Fresh {
    /// About as much memory as they take.
    fn bytes(&self) -> usize {
        self.issued.len() + self.opaque.len() + self.sources.len() * size_of::<SourceId>()
    }
}

/// The id of a handler's command.
struct SourceId {
    handler: Text,
    partition: Partition,
    offset: Offset,
    id: Uuid,
    entry: Entry,
}

/// A stored page: until when it is needed.
struct Page {
    number: u64,
    newest: Option<i64>,
    /// The last source per handler and partition.
    sources: Settled,
}

/// A change of the stored state, to be written as one.
pub(crate) struct Cut {
    pub(crate) offset: Offset,
    pub(crate) clear: bool,
    pub(crate) changes: Vec<(Bytes, Option<Bytes>)>,
}

impl PartitionState {
    /// Nothing is known, and what is stored is to be removed.
    pub(crate) fn anew() -> Self {
        Self {
            clear: true,
            ..Self::default()
        }
    }

    /// Everything up to this record is durable.
    pub(crate) fn reached(&mut self, offset: Offset, stamp: Stamp, clock: Clock) {
        self.offset = offset;
        self.stamp = stamp;
        self.clock = clock;
    }

    /// The same, and what `later` has learned from exactly where this one ends.
    pub(crate) fn joined(mut self, later: Self) -> Self {
        if later.offset > self.offset {
            self.reached(later.offset, later.stamp, later.clock);
        }
        for ((handler, partition), offset) in &later.settled {
            raise(&mut self.settled, handler, *partition, *offset);
        }
        self.fresh.issued.extend(later.fresh.issued);
        self.fresh.opaque.extend(later.fresh.opaque);
        self.fresh.sources.extend(later.fresh.sources);
        self.fresh.newest = self.fresh.newest.max(later.fresh.newest);
        self.gained(later.records, later.bytes);
        self
    }

    /// So much has become durable.
    pub(crate) fn gained(&mut self, records: u64, bytes: u64) {
        self.records += records;
        self.bytes += bytes;
    }

    /// Learns from a record of the log.
    pub(crate) fn fold(&mut self, record: &Record) {
        let (portable, reply) = (&record.portable, &record.local.reply);
        let answer = reply.as_ref().map_or(0, |reply| reply.body.len());
        let bytes = portable.payload.len() + portable.metadata.len() + answer;
        self.gained(1, bytes as u64);
        if let (Some(id), Some(reply)) = (portable.command, reply) {
            let entry = Entry {
                digest: reply.command_digest.number() as u64,
                offset: record.local.offset,
            };
            let shelf = Shelf::of(record, id, reply);
            self.note(id, &shelf, entry, reply.source.as_ref());
        }
    }

    /// A command was decided, and is durable.
    pub(crate) fn note(&mut self, id: Uuid, shelf: &Shelf, entry: Entry, source: Option<&Source>) {
        match shelf {
            Shelf::Issued(bucket) => {
                bytes::put_issued(&mut self.fresh.issued, id, entry);
                self.fresh.newest = self.fresh.newest.max(Some(*bucket));
            }
            Shelf::Opaque(bucket) => {
                bytes::put_opaque(&mut self.fresh.opaque, *bucket, id, entry);
                self.fresh.newest = self.fresh.newest.max(Some(*bucket));
            }
            Shelf::Source(handler, partition, offset) => self.fresh.sources.push(SourceId {
                handler: handler.clone(),
                partition: *partition,
                offset: *offset,
                id,
                entry,
            }),
        }
        if let Some(source) = source {
            raise(
                &mut self.settled,
                &source.handler,
                source.partition,
                source.settled,
            );
        }
    }

    /// Whether anything has come since the last cut.
    pub(crate) fn has_gained(&self) -> bool {
        self.records > 0
    }

    pub(crate) fn is_due(&self, policy: &PartitionPolicy) -> bool {
        let due = self.records >= policy.records || self.bytes >= policy.bytes;
        self.has_gained() && (due || self.fresh.bytes() >= MOST_FRESH)
    }

    /// Whether more waits to be stored than is worth the memory.
    pub(crate) fn is_too_much(&self) -> bool {
        self.fresh.bytes() > 4 * MOST_FRESH
    }

    /// What has to be written for the stored state to stand for the log up to here. Ids of buckets
    /// before `forgotten` are of no use any more.
    pub(crate) fn cut(&mut self, incarnation: Incarnation, forgotten: i64) -> Cut {
        let mut changes = Vec::new();
        let settled = &self.settled;
        self.pages.retain(|page| {
            let needed = page.newest.is_some_and(|newest| newest >= forgotten)
                || page
                    .sources
                    .iter()
                    .any(|(of, last)| !is_settled(settled, of, *last));
            if !needed {
                changes.push((bytes::page_key(page.number), None));
            }
            needed
        });
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.sources.retain(|source| {
            let of = (source.handler.clone(), source.partition);
            !is_settled(settled, &of, source.offset)
        });
        if fresh.newest.is_some() || !fresh.sources.is_empty() {
            let number = self.next;
            self.next += 1;
            let value = bytes::page(number, &fresh);
            changes.push((bytes::page_key(number), Some(value)));
            let mut sources = Settled::new();
            for source in &fresh.sources {
                raise(
                    &mut sources,
                    &source.handler,
                    source.partition,
                    source.offset,
                );
            }
            self.pages.push(Page {
                number,
                newest: fresh.newest,
                sources,
            });
        }
        let head = bytes::head(self, incarnation, forgotten);
        changes.push((Bytes::from_static(bytes::HEAD), Some(head)));
        (self.records, self.bytes) = (0, 0);
        Cut {
            offset: self.offset,
            clear: std::mem::take(&mut self.clear),
            changes,
        }
    }
}

fn raise(all: &mut Settled, handler: &Text, partition: Partition, offset: Offset) {
    let known = all.entry((handler.clone(), partition)).or_default();
    *known = offset.max(*known);
}

fn is_settled(settled: &Settled, of: &(Text, Partition), offset: Offset) -> bool {
    settled.get(of).is_some_and(|settled| offset <= *settled)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attacks: ids that are never stored fill the memory, whatever they are of.
    #[test]
    fn ids_of_every_sort_become_too_much() {
        let handler = Text::from_static("handler");
        let source = |n| Shelf::Source(handler.clone(), Partition(0), Offset(n));
        let shelves: [&dyn Fn(u64) -> Shelf; 3] =
            [&source, &|_| Shelf::Issued(1), &|_| Shelf::Opaque(1)];
        for shelf in shelves {
            let mut state = PartitionState::default();
            let mut noted = 0;
            while !state.is_too_much() {
                assert!(noted < 4_000_000, "{:?}", shelf(0));
                let entry = Entry {
                    digest: noted,
                    offset: Offset(noted),
                };
                state.note(Uuid::from_u128(noted.into()), &shelf(noted), entry, None);
                noted += 1;
            }
            assert!(noted > 100_000, "{:?}: {noted}", shelf(0));
        }
    }
}
