//! Nothing is done twice.

use std::collections::BTreeMap;

use everfold::engine::Uuid;
use everfold::engine::record::Source;

use super::{Log, units};

/// Each command id, of clients and of handlers, was decided by one unit.
///
/// # Errors
/// The first id that was decided twice.
pub fn check(log: &Log) -> Result<(), String> {
    let mut decided: BTreeMap<Uuid, String> = BTreeMap::new();
    for (partition, records) in log.iter().enumerate() {
        for unit in units(records) {
            let Some(first) = unit.first() else {
                continue;
            };
            let Some(id) = first.portable.command else {
                continue;
            };
            let at = format!("partition {partition}, offset {}", first.local.offset);
            if let Some(before) = decided.insert(id, at.clone()) {
                return Err(format!("command {id} was decided twice: {before} and {at}"));
            }
        }
    }
    Ok(())
}

/// What a reaction may do once was done once, whatever ids its commands had: one handler, answering
/// one event, never leads to the same command at the same entity again.
///
/// The runtime has no effects that leave the log yet. The commands of reactors are the only thing
/// that a handler does, so at-most-once is checked of them and of nothing else. A reaction that
/// means to send one entity two equal commands for one event would be taken for a fault.
///
/// # Errors
/// The first effect that happened twice.
pub fn check_effects(log: &Log) -> Result<(), String> {
    let mut done = BTreeMap::new();
    for (partition, records) in log.iter().enumerate() {
        for unit in units(records) {
            let Some(last) = unit.last() else {
                continue;
            };
            let Some(reply) = &last.local.reply else {
                continue;
            };
            let Some(source) = &reply.source else {
                continue;
            };
            let effect = (
                source.handler.clone(),
                source.partition,
                source.offset,
                reply.command_digest.number(),
            );
            let at = format!("partition {partition}, offset {}", last.local.offset);
            if let Some(before) = done.insert(effect, at.clone()) {
                return Err(format!(
                    "{} answered offset {} of partition {} twice: {before} and {at}",
                    source.handler, source.offset, source.partition
                ));
            }
        }
    }
    Ok(())
}

/// Whether a timer of a handler has sent it.
pub(super) fn is_timer(source: &Source) -> bool {
    source.handler.starts_with("timers of ")
}

/// No timer fires twice, whatever numbers it fires under: what an event has set leads to one command
/// at one entity once.
///
/// A reaction that means to send one entity two equal commands by two timers would be taken for a
/// fault.
///
/// # Errors
/// The first timer that fired twice.
pub fn check_timers(log: &Log) -> Result<(), String> {
    let mut fired = BTreeMap::new();
    for (partition, records) in log.iter().enumerate() {
        for unit in units(records) {
            let Some(last) = unit.last() else {
                continue;
            };
            let Some(reply) = &last.local.reply else {
                continue;
            };
            let Some(source) = reply.source.as_ref().filter(|it| is_timer(it)) else {
                continue;
            };
            let cause = last.portable.causation;
            let firing = (source.handler.clone(), cause, reply.command_digest.number());
            let at = format!("partition {partition}, offset {}", last.local.offset);
            if let Some(before) = fired.insert(firing, at.clone()) {
                return Err(format!(
                    "{} fired twice for one event: {before} and {at}",
                    source.handler
                ));
            }
        }
    }
    Ok(())
}
