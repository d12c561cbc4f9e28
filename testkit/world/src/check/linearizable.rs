//! Linearizability of every entity, with the log as the witness.
//!
//! In general one has to search for an order of all operations that explains what was answered. Here
//! the log claims to be that order, so it is enough to look whether it is one: every command that was
//! answered has its place there, every read lies between two of them, what was answered before
//! something else was asked has the earlier place, and every answer is what the entity's events
//! before that place fold and decide to.

use std::collections::BTreeMap;
use std::sync::Arc;

use everfold::engine::record::Kind;
use everfold::engine::{EntityKey, Offset, Record, Uuid};

use super::{Log, units};
use crate::history::{Answer, Judged, Operation, Strength, What};

/// Compares a history with the log.
///
/// # Errors
/// The first operation that the log does not explain.
pub fn check(log: &Log, operations: &[Operation]) -> Result<(), String> {
    let witness = Witness::of(log);
    let mut order: Vec<&Operation> = operations.iter().collect();
    order.sort_by_key(|operation| operation.asked);
    // Where each operation took effect at the earliest, of those that have to respect real time.
    let mut places: Vec<(&Operation, Offset)> = Vec::new();
    for operation in order {
        let (least, most) = witness.place(operation)?;
        let Some(least) = least else {
            continue;
        };
        let before = places.iter().filter(|(earlier, _)| {
            earlier.entity == operation.entity
                && earlier
                    .answered
                    .is_some_and(|answered| answered < operation.asked)
        });
        let floor = before.max_by_key(|(_, place)| *place);
        let mut place = least;
        if let Some((earlier, floor)) = floor {
            let is_command = matches!(operation.what, What::Command { .. });
            // A command takes a place of its own; a read may stand where its predecessor stands.
            if is_command && place <= *floor || *floor >= most {
                return Err(format!(
                    "{operation:?} stands before {earlier:?}, which was answered before it was asked"
                ));
            }
            place = place.max(*floor);
        }
        places.push((operation, place));
    }
    Ok(())
}

/// The log, by what is looked for.
struct Witness<'a> {
    decided: BTreeMap<Uuid, &'a [Arc<Record>]>,
    events: BTreeMap<&'a EntityKey, Vec<Arc<Record>>>,
}

const NOTHING: &[Arc<Record>] = &[];

impl<'a> Witness<'a> {
    fn of(log: &'a Log) -> Self {
        let mut decided = BTreeMap::new();
        let mut events: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for records in log {
            for unit in units(records) {
                if let Some(id) = unit.first().and_then(|first| first.portable.command) {
                    decided.entry(id).or_insert(unit);
                }
            }
            for record in records.iter().filter(|record| record.kind == Kind::Event) {
                let of = events.entry(&record.portable.entity).or_default();
                of.push(record.clone());
            }
        }
        Self { decided, events }
    }

    fn events(&self, entity: &EntityKey) -> &[Arc<Record>] {
        self.events.get(entity).map_or(NOTHING, Vec::as_slice)
    }

    /// From which offset on and before which one the operation took effect; none if it need not
    /// have. Says what contradicts the log by itself.
    fn place(&self, operation: &Operation) -> Result<(Option<Offset>, Offset), String> {
        const END: Offset = Offset(u64::MAX);
        match &operation.what {
            What::Command {
                id, answer, judge, ..
            } => {
                let Some(unit) = self.decided.get(id) else {
                    return match answer {
                        Some(_) => Err(format!("{operation:?} has no place in the log")),
                        None => Ok((None, END)),
                    };
                };
                let Some(last) = unit.last() else {
                    return Ok((None, END));
                };
                if let Some(answer) = answer {
                    self.compare(operation, unit, answer)?;
                    let first = unit.first().unwrap_or(last).local.offset;
                    let events = self.events(&operation.entity);
                    let end = events.partition_point(|event| event.local.offset < first);
                    if let Some(judge) = judge {
                        let judged = Judged {
                            before: &events[..end],
                            unit,
                            answer,
                        };
                        judge(&judged).map_err(|what| format!("{operation:?}: {what}"))?;
                    }
                }
                Ok((Some(last.local.offset), END))
            }
            What::Read {
                strength,
                version,
                state,
                fold,
            } => {
                let events = self.events(&operation.entity);
                let Some(seen) = events.get(..*version as usize) else {
                    return Err(format!(
                        "{operation:?}, but the entity has {} events",
                        events.len()
                    ));
                };
                let folded = fold(seen).map_err(|what| format!("{operation:?}: {what}"))?;
                if folded != *state {
                    return Err(format!("{operation:?}, but its events fold to {folded}"));
                }
                match strength {
                    Strength::Eventual => Ok((None, END)),
                    Strength::Session(token) => {
                        let due = events.partition_point(|event| event.local.offset <= *token);
                        match due > seen.len() {
                            true => Err(format!("{operation:?}, but its client had seen {due}")),
                            false => Ok((None, END)),
                        }
                    }
                    Strength::Linearizable => {
                        let least = seen.last().map_or(Offset(0), |event| event.local.offset);
                        let next = events.get(seen.len());
                        Ok((Some(least), next.map_or(END, |event| event.local.offset)))
                    }
                }
            }
        }
    }

    /// What was answered is what was recorded, at the place that the answer names.
    fn compare(
        &self,
        operation: &Operation,
        unit: &[Arc<Record>],
        answer: &Answer,
    ) -> Result<(), String> {
        let last = unit.last();
        let recorded = last.and_then(|last| last.local.reply.as_ref());
        let recorded = recorded.map(|reply| {
            let body = serde_json::from_slice(&reply.body).unwrap_or_default();
            (reply.rejected, body)
        });
        if recorded != Some((answer.rejected, answer.body.clone())) {
            return Err(format!("{operation:?}, but {recorded:?} was recorded"));
        }
        let place = last.map(|last| last.local.offset);
        if answer.offset.is_some() && answer.offset != place {
            return Err(format!(
                "{operation:?} names {:?}, but stands at {place:?}",
                answer.offset
            ));
        }
        Ok(())
    }
}
