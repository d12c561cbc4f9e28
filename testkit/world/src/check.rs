//! What must hold when a run is over, whatever went wrong in it.
//!
//! Each checker is a function of what it looks at, so that it can be tried on histories and logs
//! that are known to be bad.

pub mod causal;
pub mod fenced;
pub mod linearizable;
pub mod loss;
pub mod order;
pub mod owners;
pub mod twice;
pub mod views;

use std::collections::BTreeMap;
use std::sync::Arc;

use everfold::engine::engine::Identity;
use everfold::engine::record::{Kind, Source};
use everfold::engine::{EntityKey, Partition, Position, Record};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::history::{Operation, Violation};
use crate::ledger::Notes;
use crate::workload::Workload;

/// All records of a log, by partition.
pub type Log = Vec<Vec<Arc<Record>>>;

/// What a node shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    /// The rows of each view by key.
    pub views: BTreeMap<String, BTreeMap<String, Value>>,
    /// The state and version of each entity.
    pub states: BTreeMap<EntityKey, Option<(Value, u64)>>,
}

/// A run that is over.
#[derive(Debug)]
pub struct Ended {
    /// Which log it was.
    pub identity: Identity,
    /// The log as the last node read it.
    pub log: Log,
    /// The log after another node had folded it afresh, without anything stored beside it.
    pub log_afresh: Log,
    /// What the last node showed, having caught up.
    pub shown: Shown,
    /// What the other node showed.
    pub afresh: Shown,
    /// What clients asked and were answered.
    pub operations: Vec<Operation>,
    /// What the store was asked and answered.
    pub notes: Notes,
}

impl Ended {
    /// The whole units of the log, of all partitions, in the order of their first stamps: causes
    /// before effects. Claims and marks are left out.
    pub fn units(&self) -> Vec<&[Arc<Record>]> {
        let mut units: Vec<_> = self.log.iter().flat_map(|records| units(records)).collect();
        units.sort_by_key(|unit| unit.first().map(|record| record.local.stamp));
        units
    }

    /// The rows of a view as the last node showed them.
    ///
    /// # Errors
    /// What does not read as a row.
    pub fn rows<R: DeserializeOwned>(&self, view: &str) -> Result<BTreeMap<String, R>, String> {
        let rows = self.shown.views.get(view);
        let rows = rows.ok_or_else(|| format!("there is no view {view}"))?;
        let read = |(key, row): (&String, &Value)| match serde_json::from_value(row.clone()) {
            Ok(row) => Ok((key.clone(), row)),
            Err(error) => Err(format!("row {key} of {view} cannot be read: {error}")),
        };
        rows.iter().map(read).collect()
    }
}

/// The units of a partition: the events or the outcome of one command each.
pub fn units(records: &[Arc<Record>]) -> impl Iterator<Item = &[Arc<Record>]> {
    records
        .split_inclusive(|record| record.portable.unit.is_last())
        .filter(|unit| {
            unit.iter()
                .all(|r| matches!(r.kind, Kind::Event | Kind::Outcome))
        })
}

/// Everything that must hold.
pub fn all<W: Workload>(workload: &W, ended: &Ended) -> Vec<Violation> {
    let Ended {
        identity,
        log,
        log_afresh,
        operations,
        notes,
        ..
    } = ended;
    let named = |checker: &'static str, checked: Result<(), String>| {
        checked.err().map(|what| Violation::new(checker, what))
    };
    let found = [
        named("order", order::check(log)),
        named("chain", order::check_chain(log, identity.chained)),
        named("owners", owners::check(log, notes)),
        named("fenced", fenced::check(operations, notes)),
        named("loss", loss::check(log, operations, notes)),
        named("loss", loss::check_kept(log, log_afresh)),
        named("twice", twice::check(log)),
        named("effects", twice::check_effects(log)),
        named("timers", twice::check_timers(log)),
        named("linearizable", linearizable::check(log, operations)),
        named("causal", causal::check(log)),
        named("views", views::check(&ended.shown, &ended.afresh)),
        named("audit", audit(workload, ended)),
        named("workload", workload.check(ended)),
    ];
    found.into_iter().flatten().collect()
}

/// What handlers had to do when the log ended at `quiet` was done by then: nothing of it comes later.
/// Timers are not due yet.
///
/// # Errors
/// The first command that a handler sent too late.
pub fn left_undone(log: &Log, quiet: &Position) -> Result<(), String> {
    for (index, records) in log.iter().enumerate() {
        let partition = Partition(index as u16);
        let later = records
            .iter()
            .filter(|record| record.local.offset > quiet.offset(partition));
        for record in later {
            let reply = record.local.reply.as_ref();
            let source = reply.and_then(|reply| reply.source.as_ref());
            let due = |source: &&Source| {
                !twice::is_timer(source) && source.offset <= quiet.offset(source.partition)
            };
            if let Some(source) = source.filter(due) {
                return Err(format!(
                    "{} of {} was left undone by several nodes at rest: {source:?}",
                    record.portable.event_type, record.portable.entity
                ));
            }
        }
    }
    Ok(())
}

fn audit<W: Workload>(workload: &W, ended: &Ended) -> Result<(), String> {
    let Some(mut auditor) = workload.auditor() else {
        return Ok(());
    };
    for unit in ended.units() {
        auditor.unit(unit).map_err(|what| match unit.last() {
            Some(last) => format!(
                "{what} (partition {}, offset {})",
                ended.identity.layout.partition(&last.portable.entity.id),
                last.local.offset
            ),
            None => what,
        })?;
    }
    Ok(())
}
