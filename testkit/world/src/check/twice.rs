//! Nothing is done twice.

use std::collections::BTreeMap;

use everfold::engine::record::{Reply, Source};
use everfold::engine::{Record, Uuid};

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

/// A unit that a handler led to.
struct Caused<'a> {
    /// Its place, for people.
    at: String,
    last: &'a Record,
    reply: &'a Reply,
    source: &'a Source,
}

fn caused(log: &Log) -> impl Iterator<Item = Caused<'_>> {
    let of_all = log.iter().enumerate();
    of_all.flat_map(|(partition, records)| {
        units(records).filter_map(move |unit| {
            let last = unit.last()?;
            let reply = last.local.reply.as_ref()?;
            Some(Caused {
                at: format!("partition {partition}, offset {}", last.local.offset),
                last,
                reply,
                source: reply.source.as_ref()?,
            })
        })
    })
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
    for unit in caused(log) {
        let (at, source) = (unit.at, unit.source);
        let effect = (
            source.handler.clone(),
            source.partition,
            source.offset,
            unit.reply.command_digest.number(),
        );
        if let Some(before) = done.insert(effect, at.clone()) {
            return Err(format!(
                "{} answered offset {} of partition {} twice: {before} and {at}",
                source.handler, source.offset, source.partition
            ));
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
    let fires = |it: &Caused<'_>| is_timer(it.source);
    for unit in caused(log).filter(fires) {
        let (at, source) = (unit.at, unit.source);
        let cause = unit.last.portable.causation;
        let firing = (
            source.handler.clone(),
            cause,
            unit.reply.command_digest.number(),
        );
        if let Some(before) = fired.insert(firing, at.clone()) {
            return Err(format!(
                "{} fired twice for one event: {before} and {at}",
                source.handler
            ));
        }
    }
    Ok(())
}
