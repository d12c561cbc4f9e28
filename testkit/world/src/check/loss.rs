//! Nothing that was acknowledged is lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use everfold::engine::Record;
use everfold::engine::record::Kind;

use super::Log;
use crate::history::{Operation, What};
use crate::ledger::Notes;

/// Every command that was answered is in the log, and so is every batch that the store acknowledged.
///
/// # Errors
/// The first that is not.
pub fn check(log: &Log, operations: &[Operation], notes: &Notes) -> Result<(), String> {
    let decided: BTreeSet<_> = log
        .iter()
        .flatten()
        .filter(|record| record.local.reply.is_some())
        .filter_map(|record| record.portable.command)
        .collect();
    for operation in operations {
        if let What::Command {
            id,
            answer: Some(_),
            ..
        } = &operation.what
            && !decided.contains(id)
        {
            return Err(format!("{operation:?}, but the log does not have it"));
        }
    }
    for append in &notes.appends {
        let records = log.get(append.partition.index());
        for offset in append.first.0..=append.last.0 {
            let found = records.and_then(|records| {
                let place = records.binary_search_by_key(&offset, |r| r.local.offset.0);
                place.ok().map(|place| &records[place])
            });
            if found.is_none_or(|record| record.local.batch != append.batch) {
                return Err(format!(
                    "offset {offset} of partition {} was acknowledged to node {} and is not in the log",
                    append.partition, append.node
                ));
            }
        }
    }
    Ok(())
}

/// Folding the log afresh takes nothing away and adds nothing: handlers that begin anew do not do
/// anew what they have done.
///
/// # Errors
/// The first difference.
pub fn check_kept(log: &Log, later: &Log) -> Result<(), String> {
    let told = |record: &&Arc<Record>| matches!(record.kind, Kind::Event | Kind::Outcome);
    for (partition, (before, after)) in log.iter().zip(later).enumerate() {
        let mut after = after.iter().filter(told);
        for record in before.iter().filter(told) {
            if after.next() != Some(record) {
                return Err(format!(
                    "partition {partition}: offset {} is not what it was after the log was opened again",
                    record.local.offset
                ));
            }
        }
        if let Some(more) = after.next() {
            let reply = more.local.reply.as_ref();
            let source = reply.and_then(|reply| reply.source.as_ref());
            return Err(format!(
                "partition {partition}: handlers that began anew appended offset {} ({} of {}, asked for by {source:?})",
                more.local.offset, more.portable.event_type, more.portable.entity
            ));
        }
    }
    Ok(())
}
