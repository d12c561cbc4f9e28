//! Which commands were decided: the deduplication table, folded from the log.

use std::collections::BTreeMap;
use std::time::Duration;

use everfold_engine::map::{Map, seeded};
use everfold_engine::record::{Record, Reply};
use everfold_engine::slot::Partition;
use everfold_engine::{Offset, Text, Timestamp, Uuid};

use crate::error::CommandError;
use crate::owner::Envelope;

/// Ids older than this are refused, not executed.
const WINDOW_MILLIS: i64 = 24 * 3600 * 1000;
/// Clients' clocks may be this much ahead.
const AHEAD_MILLIS: i64 = 5 * 60 * 1000;
/// Ids are kept by time of issue in buckets of this width, so that forgetting drops whole buckets
/// and no table grows large.
const BUCKET_MILLIS: i64 = 8192;

/// The answer of an outside command may be asked for until so long after it was recorded.
pub(crate) const ANSWERED: Duration =
    Duration::from_millis((WINDOW_MILLIS + AHEAD_MILLIS + BUCKET_MILLIS) as u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// 64 bits of the command's digest.
    pub(crate) digest: u64,
    /// The record that carries the answer; 0 while it is in flight.
    pub(crate) offset: Offset,
}

/// Under which key an id is remembered, and so until when.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shelf {
    /// An outside command: for a time after its issue.
    Issued(i64),
    /// An outside command whose id does not say when it was made: by id alone, as if it had been
    /// issued as late as it may have been when it was decided.
    Opaque(i64),
    /// A handler's command: until the handler will never send it again.
    Source(Text, Partition, Offset),
}

impl Shelf {
    /// Where the log says that an answered command belongs.
    pub(crate) fn of(record: &Record, id: Uuid, reply: &Reply) -> Self {
        // Ids from the future are kept too: it may be this clock that is behind.
        match (&reply.source, bucket_of(id)) {
            (Some(from), _) => Self::Source(from.handler.clone(), from.partition, from.offset),
            (None, Some(bucket)) => Self::Issued(bucket),
            (None, None) => Self::Opaque(latest_issue(record.recorded())),
        }
    }
}

/// Everything that was issued before this bucket is refused.
pub(crate) fn oldest(now: Timestamp) -> i64 {
    (now.millis() - WINDOW_MILLIS).div_euclid(BUCKET_MILLIS)
}

/// The last bucket in which a command can have been issued that was decided at this time.
fn latest_issue(decided: Timestamp) -> i64 {
    (decided.millis() + AHEAD_MILLIS).div_euclid(BUCKET_MILLIS)
}

/// The bucket of an id that says when it was made.
pub(crate) fn bucket_of(id: Uuid) -> Option<i64> {
    version_7_millis(id).map(|millis| millis.div_euclid(BUCKET_MILLIS))
}

pub(crate) struct Known {
    seed: u64,
    issued: BTreeMap<i64, Map<Uuid, Entry>>,
    opaque: Map<Uuid, Entry>,
    opaque_ids: BTreeMap<i64, Vec<Uuid>>,
    sources: BTreeMap<(Text, Partition), BTreeMap<(Offset, Uuid), Entry>>,
    settled: BTreeMap<(Text, Partition), Offset>,
    /// Ids of earlier buckets were forgotten; they stay refused also if the clock steps back.
    forgotten: i64,
}

impl Known {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            issued: BTreeMap::new(),
            opaque: seeded(seed),
            opaque_ids: BTreeMap::new(),
            settled: BTreeMap::new(),
            forgotten: i64::MIN,
            sources: BTreeMap::new(),
        }
    }

    /// Where the id of this command belongs; refuses ids outside the window.
    pub(crate) fn shelf(
        id: Uuid,
        envelope: &Envelope,
        now: Timestamp,
    ) -> Result<Shelf, CommandError> {
        if let Some(source) = &envelope.source {
            return Ok(Shelf::Source(
                source.handler.clone(),
                source.partition,
                source.offset,
            ));
        }
        let own = version_7_millis(id);
        let issued = own.or(envelope.issued.map(Timestamp::millis));
        let Some(issued) = issued else {
            let reason = "it is no UUID of version 7 and came without its time of issue";
            return Err(CommandError::IdExpired {
                id,
                reason: Text::from_static(reason),
            });
        };
        if issued < now.millis() - WINDOW_MILLIS {
            return Err(CommandError::IdExpired {
                id,
                reason: Text::from_static("issued more than 24 hours ago"),
            });
        }
        if issued > now.millis() + AHEAD_MILLIS {
            let reason = "issued more than 5 minutes in the future";
            return Err(CommandError::IdExpired {
                id,
                reason: Text::from_static(reason),
            });
        }
        Ok(match own {
            Some(issued) => Shelf::Issued(issued.div_euclid(BUCKET_MILLIS)),
            None => Shelf::Opaque(latest_issue(now)),
        })
    }

    /// Whether the answer of this command may have been forgotten: it must not be executed. `issued`
    /// is what came with an id that does not say it.
    pub(crate) fn is_forgotten(&self, shelf: &Shelf, issued: Option<Timestamp>) -> bool {
        match shelf {
            Shelf::Issued(bucket) => *bucket < self.forgotten,
            Shelf::Opaque(_) => issued
                .is_none_or(|issued| issued.millis().div_euclid(BUCKET_MILLIS) < self.forgotten),
            Shelf::Source(handler, partition, offset) => self
                .settled
                .get(&(handler.clone(), *partition))
                .is_some_and(|settled| offset <= settled),
        }
    }

    pub(crate) fn get(&self, shelf: &Shelf, id: Uuid) -> Option<Entry> {
        match shelf {
            Shelf::Issued(bucket) => self.issued.get(bucket)?.get(&id).copied(),
            Shelf::Opaque(_) => self.opaque.get(&id).copied(),
            Shelf::Source(handler, partition, offset) => {
                let entries = self.sources.get(&(handler.clone(), *partition))?;
                entries.get(&(*offset, id)).copied()
            }
        }
    }

    pub(crate) fn insert(&mut self, shelf: &Shelf, id: Uuid, entry: Entry) {
        match shelf {
            Shelf::Issued(bucket) => {
                let seed = self.seed;
                self.issued
                    .entry(*bucket)
                    .or_insert_with(|| seeded(seed))
                    .insert(id, entry);
            }
            Shelf::Opaque(bucket) => {
                if self.opaque.insert(id, entry).is_none() {
                    self.opaque_ids.entry(*bucket).or_default().push(id);
                }
            }
            Shelf::Source(handler, partition, offset) => {
                let entries = self
                    .sources
                    .entry((handler.clone(), *partition))
                    .or_default();
                entries.insert((*offset, id), entry);
            }
        }
    }

    /// Many ids of one bucket.
    pub(crate) fn insert_issued(
        &mut self,
        bucket: i64,
        entries: impl Iterator<Item = (Uuid, Entry)>,
    ) {
        let seed = self.seed;
        let known = self.issued.entry(bucket).or_insert_with(|| seeded(seed));
        known.reserve(entries.size_hint().1.unwrap_or(0));
        known.extend(entries);
    }

    pub(crate) fn remove(&mut self, shelf: &Shelf, id: Uuid) {
        match shelf {
            Shelf::Issued(bucket) => {
                self.issued
                    .get_mut(bucket)
                    .map(|entries| entries.remove(&id));
            }
            Shelf::Opaque(bucket) => {
                self.opaque.remove(&id);
                if let Some(ids) = self.opaque_ids.get_mut(bucket) {
                    ids.retain(|known| *known != id);
                }
            }
            Shelf::Source(handler, partition, offset) => {
                let entries = self.sources.get_mut(&(handler.clone(), *partition));
                entries.map(|entries| entries.remove(&(*offset, id)));
            }
        }
    }

    /// Forgets what a handler will never send again.
    pub(crate) fn settle(&mut self, handler: &Text, partition: Partition, settled: Offset) {
        let known = self
            .settled
            .entry((handler.clone(), partition))
            .or_default();
        *known = settled.max(*known);
        if let Some(entries) = self.sources.get_mut(&(handler.clone(), partition))
            && entries
                .first_key_value()
                .is_some_and(|((offset, _), _)| *offset <= settled)
        {
            *entries = entries.split_off(&(Offset(settled.0 + 1), Uuid::nil()));
        }
    }

    /// Forgets ids that would be refused now.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        let oldest = oldest(now);
        self.forgotten = self.forgotten.max(oldest);
        while let Some(bucket) = self.opaque_ids.first_entry().filter(|b| *b.key() < oldest) {
            for id in bucket.remove() {
                self.opaque.remove(&id);
            }
        }
        while self
            .issued
            .first_key_value()
            .is_some_and(|(bucket, _)| *bucket < oldest)
        {
            self.issued.pop_first();
        }
    }

    /// Ids of earlier buckets may have been forgotten.
    pub(crate) fn forgotten(&self) -> i64 {
        self.forgotten
    }

    /// Begins with what a stored table had forgotten.
    pub(crate) fn forget_before(&mut self, bucket: i64) {
        self.forgotten = self.forgotten.max(bucket);
    }

    /// Learns from a record of the log.
    pub(crate) fn fold(&mut self, record: &Record, now: Timestamp) {
        let (Some(id), Some(reply)) = (record.portable.command, &record.local.reply) else {
            return;
        };
        let oldest = oldest(now);
        let shelf = Shelf::of(record, id, reply);
        let old = matches!(shelf, Shelf::Issued(b) | Shelf::Opaque(b) if b < oldest);
        self.forgotten = self.forgotten.max(oldest);
        if !old {
            let entry = Entry {
                digest: reply.command_digest.number() as u64,
                offset: record.local.offset,
            };
            self.insert(&shelf, id, entry);
        }
        if let Some(source) = &reply.source {
            self.settle(&source.handler, source.partition, source.settled);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let issued: usize = self.issued.values().map(Map::len).sum();
        issued + self.sources.values().map(BTreeMap::len).sum::<usize>()
    }
}

fn version_7_millis(id: Uuid) -> Option<i64> {
    (id.get_version_num() == 7).then(|| (id.as_u128() >> 80) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn entry(offset: u64) -> Entry {
        Entry {
            digest: 1,
            offset: Offset(offset),
        }
    }

    #[test]
    fn an_id_outside_the_window_is_refused_and_forgotten() {
        let now = at(100 * WINDOW_MILLIS);
        let id = everfold_engine::uuid7(now, 1, 2);
        let shelf = Known::shelf(id, &Envelope::default(), now).unwrap();
        let mut known = Known::new(0);
        known.insert(&shelf, id, entry(5));
        known.expire(now);
        assert_eq!(known.get(&shelf, id), Some(entry(5)));
        let later = at(now.millis() + WINDOW_MILLIS + 2 * BUCKET_MILLIS);
        assert!(Known::shelf(id, &Envelope::default(), later).is_err());
        known.expire(later);
        assert_eq!(known.len(), 0);
        let early = at(now.millis() - AHEAD_MILLIS - 1);
        assert!(Known::shelf(id, &Envelope::default(), early).is_err());
        assert!(Known::shelf(Uuid::from_u128(7), &Envelope::default(), now).is_err());
    }

    /// Attacks: an id is accepted until a day after its issue, however late its clock lets that be.
    #[test]
    fn an_opaque_id_is_known_as_long_as_it_is_accepted() {
        let id = Uuid::from_u128(7);
        // Just behind the begin of a bucket, and just before its end.
        for start in [0, 1, BUCKET_MILLIS - 1] {
            let decided = at(100 * WINDOW_MILLIS / BUCKET_MILLIS * BUCKET_MILLIS + start);
            let issued = at(decided.millis() + AHEAD_MILLIS);
            let envelope = Envelope {
                issued: Some(issued),
                ..Envelope::default()
            };
            let mut known = Known::new(0);
            let shelf = Known::shelf(id, &envelope, decided).unwrap();
            known.insert(&shelf, id, entry(5));
            let last = at(issued.millis() + WINDOW_MILLIS);
            known.expire(last);
            let again = Known::shelf(id, &envelope, last).unwrap();
            assert_eq!(known.get(&again, id), Some(entry(5)));
            let later = at(last.millis() + BUCKET_MILLIS);
            assert!(Known::shelf(id, &envelope, later).is_err());
            known.expire(later);
            assert_eq!(known.get(&again, id), None);
            // A clock that steps back accepts the id once more; it stays forgotten.
            let again = Known::shelf(id, &envelope, decided).unwrap();
            assert!(known.is_forgotten(&again, envelope.issued));
            assert!(!known.is_forgotten(&again, Some(later)));
        }
    }

    #[test]
    fn a_handlers_ids_are_kept_until_settled_however_old() {
        let mut known = Known::new(0);
        let id = Uuid::from_u128(9);
        let shelf = |offset| Shelf::Source("handler".into(), Partition(2), Offset(offset));
        (1..=3).for_each(|offset| known.insert(&shelf(offset), id, entry(offset)));
        known.expire(at(i64::MAX / 2000));
        known.settle(&"handler".into(), Partition(2), Offset(2));
        assert_eq!(known.get(&shelf(2), id), None);
        assert_eq!(known.get(&shelf(3), id), Some(entry(3)));
        known.settle(&"handler".into(), Partition(1), Offset(9));
        assert_eq!(known.len(), 1);
    }
}
