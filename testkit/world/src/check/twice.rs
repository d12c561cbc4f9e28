//! Nothing is done twice.

use std::collections::BTreeMap;

use everfold::engine::Uuid;

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
