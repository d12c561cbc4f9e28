//! Decided units become records of the open batch.

use everfold_engine::engine::Statement;
use everfold_engine::record::{Dot, Kind, Link, Local, Portable, Record, Reply, Unit};
use everfold_engine::time::Stamp;
use everfold_engine::world::new_id;
use everfold_engine::{Bytes, EntityKey, Offset, Text, Timestamp};

use super::known::Entry;
use super::serve::{Identified, Serving};
use super::work::{Answer, Decided, Draft, Envelope, Work};
use crate::error::CommandError;

impl Serving {
    pub(super) fn take_unit(
        &mut self,
        mut work: Box<dyn Work>,
        id: Option<Identified>,
        decided: Decided,
        now: Timestamp,
    ) -> Result<(), Box<dyn Work>> {
        let bytes = match self.check(work.envelope(), &decided) {
            Ok(bytes) => bytes,
            Err(error) => {
                work.answer(Answer::Failed(error));
                return Ok(());
            }
        };
        let Decided {
            drafts,
            statements,
            rejected,
            reply,
        } = decided;
        let alone = !statements.is_empty();
        if alone && !self.open.is_empty() {
            self.world.reached("owner: statements wait for their turn");
            return Err(work);
        }
        let records = self.open.records.len() + drafts.len().max(1);
        let over = self.open.bytes + bytes > self.limits.batch_bytes;
        if !self.open.records.is_empty() && (over || records > self.limits.batch_records) {
            return Err(work);
        }
        if let Err(error) = work.evolve(&mut self.residents) {
            self.undo(work.entities());
            work.answer(Answer::Failed(error));
            return Ok(());
        }
        let answer = id.as_ref().zip(reply).map(|(id, body)| Reply {
            command_digest: id.digest.into(),
            rejected,
            body,
            source: work.envelope().source.clone(),
        });
        if drafts.is_empty() && answer.is_none() && !alone {
            self.open.fenced = true;
        }
        let changed: Vec<EntityKey> = distinct(&drafts);
        let unused = self.unused(work.entities());
        self.open.statements = statements;
        let due = self.write(work.as_ref(), drafts, answer, now);
        self.open.bytes += bytes;
        // If a statement fails, nobody else's command may fail with it.
        self.full |= alone;
        if let Some(id) = &id {
            let entry = Entry {
                digest: id.digest as u64,
                offset: Offset(0),
            };
            self.known.insert(&id.shelf, id.id, entry);
            if let Some(source) = &work.envelope().source {
                self.known
                    .settle(&source.handler, source.partition, source.settled);
            }
        }
        self.push(work, id, false);
        if changed.is_empty() {
            self.forget(unused);
        }
        self.take_snapshots(due);
        for entity in changed {
            self.wake_watchers(&entity, now);
            self.open.touched.push(entity);
        }
        Ok(())
    }

    /// The bytes of a unit, counted as every engine counts them, if the engine can take it.
    fn check(&self, envelope: &Envelope, decided: &Decided) -> Result<usize, CommandError> {
        let Decided {
            drafts,
            statements,
            reply,
            ..
        } = decided;
        if !statements.is_empty() && !self.engine.runs_statements() {
            return Err(CommandError::NoTables);
        }
        let limits = self.limits;
        let each = envelope.principal.len() + envelope.trace.len();
        let has_outcome = reply.is_some() || !statements.is_empty();
        let records = drafts.len().max(usize::from(has_outcome));
        let largest = drafts.iter().map(Draft::bytes).max().unwrap_or(0) + each;
        let bytes = drafts.iter().map(Draft::bytes).sum::<usize>()
            + records * each
            + statements.iter().map(Statement::bytes).sum::<usize>()
            + reply.as_ref().map_or(0, Bytes::len);
        let too_large = |what: &str, size: usize, limit: usize| {
            Err(CommandError::TooLarge(format!(
                "{what} of {size} bytes, the limit is {limit}"
            )))
        };
        if largest > limits.event_bytes {
            too_large("an event", largest, limits.event_bytes)
        } else if bytes > limits.unit_bytes {
            too_large("events, statements and reply", bytes, limits.unit_bytes)
        } else if drafts.len() > limits.batch_records {
            let (count, limit) = (drafts.len(), limits.batch_records);
            Err(CommandError::TooLarge(format!(
                "{count} events, the limit is {limit}"
            )))
        } else {
            Ok(bytes)
        }
    }

    /// Turns the events of a unit into records of the open batch; one outcome record if there are
    /// none, but the answer is to be remembered or statements are to be carried. Returns the entities for which a snapshot is due.
    fn write(
        &mut self,
        work: &dyn Work,
        drafts: Vec<Draft>,
        mut answer: Option<Reply>,
        now: Timestamp,
    ) -> Vec<EntityKey> {
        let mut due = Vec::new();
        let envelope = work.envelope();
        let count = drafts.len() as u32;
        let mut common = self.portable_of(envelope, now);
        for (index, draft) in drafts.into_iter().enumerate() {
            let stamp = self.next_stamp(envelope, now);
            let version = self.count_event(&draft.entity, stamp, draft.bytes(), now, &mut due);
            let event_id = draft
                .event_id
                .unwrap_or_else(|| new_id(self.world.as_ref()));
            // What follows from a command without an id is known by its first event.
            common.correlation = common.correlation.or(Some(event_id));
            let unit = Unit {
                index: index as u32,
                count,
            };
            let portable = Portable {
                event_id,
                entity: draft.entity,
                event_type: draft.event_type,
                schema_version: draft.schema_version,
                labels: draft.labels,
                content_type: draft.content_type,
                metadata: draft.metadata,
                payload: draft.payload,
                unit,
                ..common.clone()
            };
            let reply = if unit.is_last() { answer.take() } else { None };
            self.append_record(Kind::Event, portable, version, reply, envelope, now);
        }
        if count == 0 && (answer.is_some() || !self.open.statements.is_empty()) {
            let entity = work.entities().first().cloned();
            let portable = Portable {
                entity: entity.unwrap_or_else(|| EntityKey::new("", "")),
                payload: Bytes::new(),
                ..common
            };
            self.append_record(Kind::Outcome, portable, 0, answer, envelope, now);
        }
        due
    }

    /// The stamp of the next record.
    pub(super) fn next_stamp(&self, envelope: &Envelope, now: Timestamp) -> Stamp {
        Stamp::next(self.clock.stamp.max(envelope.after.0), now, self.partition)
    }

    /// What all records of a unit share.
    fn portable_of(&self, envelope: &Envelope, now: Timestamp) -> Portable {
        let recorded = self.next_stamp(envelope, now).time();
        Portable {
            causes: envelope.causes.clone(),
            effective: envelope.effective.unwrap_or(recorded),
            causation: envelope.causation.or(envelope.id),
            correlation: envelope.correlation.or(envelope.id),
            command: envelope.id,
            hops: envelope.hops,
            principal: envelope.principal.clone(),
            trace: envelope.trace.clone(),
            ..Portable::new(EntityKey::new("", ""), Text::new())
        }
    }

    pub(super) fn append_record(
        &mut self,
        kind: Kind,
        mut portable: Portable,
        version: u64,
        reply: Option<Reply>,
        envelope: &Envelope,
        now: Timestamp,
    ) {
        let stamp = self.next_stamp(envelope, now);
        let clock = &mut self.clock;
        clock.stamp = stamp;
        clock.hybrid = clock.hybrid.max(envelope.after.1).next(now);
        portable.hybrid = clock.hybrid;
        if kind == Kind::Event {
            clock.counter += 1;
            let origin = self.engine.identity().origin();
            portable.dot = Some(Dot {
                origin,
                partition: self.partition,
                counter: clock.counter,
            });
        }
        let local = Local {
            offset: Offset(0),
            version,
            epoch: self.epoch.0,
            batch: self.open.number,
            stamp: clock.stamp,
            reply,
            link: Link::default(),
        };
        let mut record = Record {
            kind,
            portable,
            local,
        };
        if self.chained {
            clock.link = record.link_after(clock.link);
            record.local.link = clock.link;
        }
        self.open.records.push(record);
    }
}

fn distinct(drafts: &[Draft]) -> Vec<EntityKey> {
    let mut entities: Vec<EntityKey> = Vec::with_capacity(1);
    for draft in drafts {
        if !entities.contains(&draft.entity) {
            entities.push(draft.entity.clone());
        }
    }
    entities
}
