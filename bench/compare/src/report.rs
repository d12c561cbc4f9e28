//! What a run found, as JSON and as tables.

use std::fmt::Write as _;

use serde::Serialize;

use crate::machine::Machine;
use crate::stores::{self, Kind};

/// All that one run found.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) appends: Vec<Append>,
    pub(crate) readings: Vec<Reading>,
    /// Rows that a store cannot have.
    pub(crate) left_out: Vec<LeftOut>,
    /// Stores that are not on this machine.
    pub(crate) missing: Vec<Missing>,
    /// Stores that did not do what was asked; they have no rows after that.
    pub(crate) failed: Vec<Failed>,
    pub(crate) machine: Machine,
}

/// Appends on one store with one number of writers: medians of the repetitions.
#[derive(Serialize)]
pub(crate) struct Append {
    /// Measured by turns with the others of this name.
    pub(crate) group: &'static str,
    pub(crate) store: &'static str,
    pub(crate) version: String,
    pub(crate) writers: usize,
    pub(crate) appends_per_second: f64,
    /// Everfold's appends per second in the same group, divided by these.
    pub(crate) everfold_times: Option<f64>,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Each repetition's appends per second.
    pub(crate) samples: Vec<f64>,
    pub(crate) durability: String,
    pub(crate) check: &'static str,
}

/// Reading what one store was loaded with.
#[derive(Serialize)]
pub(crate) struct Reading {
    pub(crate) group: &'static str,
    pub(crate) store: &'static str,
    pub(crate) version: String,
    /// In the log that was read.
    pub(crate) events: usize,
    pub(crate) replay_per_second: f64,
    /// Everfold's replay in the same group, divided by this.
    pub(crate) everfold_times: Option<f64>,
    /// The ten events of one entity.
    pub(crate) history_p50_us: Option<f64>,
    /// From the call of an append until a subscriber held its event.
    pub(crate) tail_p50_us: Option<f64>,
    /// From the call of the same appends until they were acknowledged.
    pub(crate) tail_ack_p50_us: Option<f64>,
    /// Of the whole directory, space made ahead and a server's own files included.
    pub(crate) disk_bytes_per_event: f64,
    /// Each repetition's events per second.
    pub(crate) replays: Vec<f64>,
    pub(crate) durability: String,
}

/// A number of writers that a store is not asked to serve.
#[derive(Serialize)]
pub(crate) struct LeftOut {
    pub(crate) store: &'static str,
    pub(crate) writers: usize,
    pub(crate) why: String,
}

/// A store whose program was not found.
#[derive(Serialize)]
pub(crate) struct Missing {
    pub(crate) store: &'static str,
    pub(crate) program: &'static str,
    pub(crate) install: &'static str,
}

/// A store that did not do what was asked.
#[derive(Serialize)]
pub(crate) struct Failed {
    pub(crate) store: &'static str,
    pub(crate) at: String,
    pub(crate) why: String,
}

impl Failed {
    pub(crate) fn new(kind: Kind, at: &str, error: &anyhow::Error) -> Self {
        Self {
            store: kind.about().name,
            at: at.to_owned(),
            why: format!("{error:#}"),
        }
    }
}

impl Report {
    pub(crate) fn new(machine: Machine) -> Self {
        Self {
            appends: Vec::new(),
            readings: Vec::new(),
            left_out: Vec::new(),
            missing: Vec::new(),
            failed: Vec::new(),
            machine,
        }
    }

    /// Whether a store is missing or has failed.
    pub(crate) fn lacks(&self, kind: Kind) -> bool {
        let name = kind.about().name;
        self.missing.iter().any(|it| it.store == name)
            || self.failed.iter().any(|it| it.store == name)
    }

    /// Puts each row beside Everfold's row that was measured by turns with it.
    pub(crate) fn compare(&mut self) {
        let ours = Kind::Everfold.about().name;
        let appends: Vec<_> = self
            .appends
            .iter()
            .filter(|row| row.store == ours)
            .map(|row| (row.group, row.writers, row.appends_per_second))
            .collect();
        for row in &mut self.appends {
            let beside = appends
                .iter()
                .find(|it| (it.0, it.1) == (row.group, row.writers));
            row.everfold_times = beside.and_then(|it| ratio(it.2, row.appends_per_second));
        }
        let replays: Vec<_> = self
            .readings
            .iter()
            .filter(|row| row.store == ours)
            .map(|row| (row.group, row.replay_per_second))
            .collect();
        for row in &mut self.readings {
            let beside = replays.iter().find(|it| it.0 == row.group);
            row.everfold_times = beside.and_then(|it| ratio(it.1, row.replay_per_second));
        }
    }

    /// Tables for people.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}\n", self.machine.line());
        self.append_tables(&mut text);
        self.reading_tables(&mut text);
        self.meanings(&mut text);
        self.gaps(&mut text);
        text
    }

    fn append_tables(&self, text: &mut String) {
        let mut group = "";
        for row in &self.appends {
            if row.group != group {
                group = row.group;
                let _ = writeln!(
                    text,
                    "\nappends, by turns: {group}\n{:<22} {:>7} {:>11} {:>9} {:>9} {:>15}",
                    "store", "writers", "appends/s", "p50 us", "p99 us", "everfold, times"
                );
            }
            let _ = writeln!(
                text,
                "{:<22} {:>7} {:>11.0} {:>9.1} {:>9.1} {:>15}",
                row.store,
                row.writers,
                row.appends_per_second,
                row.p50_us,
                row.p99_us,
                times(row.everfold_times)
            );
        }
    }

    fn reading_tables(&self, text: &mut String) {
        let mut group = "";
        for row in &self.readings {
            if row.group != group {
                group = row.group;
                let _ = writeln!(
                    text,
                    "\nreading, by turns: {group}\n{:<22} {:>9} {:>13} {:>15} {:>14} {:>17} {:>10}",
                    "store",
                    "events",
                    "replay, ev/s",
                    "everfold, times",
                    "ten events, us",
                    "tail (acked), us",
                    "disk B/ev"
                );
            }
            let text_of = |value: Option<f64>| value.map_or("-".into(), |it| format!("{it:.1}"));
            let tail = row.tail_p50_us.zip(row.tail_ack_p50_us);
            let tail = tail.map(|(held, acked)| format!("{held:.1} ({acked:.1})"));
            let _ = writeln!(
                text,
                "{:<22} {:>9} {:>13.0} {:>15} {:>14} {:>17} {:>10.0}",
                row.store,
                row.events,
                row.replay_per_second,
                times(row.everfold_times),
                text_of(row.history_p50_us),
                tail.unwrap_or_else(|| "-".into()),
                row.disk_bytes_per_event
            );
        }
    }

    /// What an acknowledgement means, once per store.
    fn meanings(&self, text: &mut String) {
        let mut told = Vec::new();
        for row in &self.appends {
            if !told.contains(&row.store) {
                told.push(row.store);
                let _ = writeln!(
                    text,
                    "\n{} {}: acknowledged {}\n  expected version checked by: {}",
                    row.store, row.version, row.durability, row.check
                );
            }
        }
    }

    /// What was not measured, and why.
    fn gaps(&self, text: &mut String) {
        for row in &self.left_out {
            let _ = writeln!(
                text,
                "\n{}: not with {} writers: {}",
                row.store, row.writers, row.why
            );
        }
        for row in &self.missing {
            let _ = writeln!(
                text,
                "\n{}: not measured, {} is not installed: {}",
                row.store, row.program, row.install
            );
        }
        for row in &self.failed {
            let _ = writeln!(text, "\n{}: FAILED at {}: {}", row.store, row.at, row.why);
        }
    }
}

/// `None` where a turn was too short for a single append.
fn ratio(ours: f64, theirs: f64) -> Option<f64> {
    (ours > 0.0 && theirs > 0.0).then(|| ours / theirs)
}

fn times(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |it| format!("{it:.2}"))
}

/// The stores and what is said of them.
pub(crate) fn list() -> String {
    let mut text = String::new();
    for kind in stores::all() {
        let about = kind.about();
        let _ = writeln!(
            text,
            "{}\n  durable: {}\n  version checked by: {}",
            about.name, about.durability, about.check
        );
        if !about.install.is_empty() {
            let _ = writeln!(text, "  server: {}", about.install);
        }
    }
    text
}

/// The one in the middle; 0 of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
