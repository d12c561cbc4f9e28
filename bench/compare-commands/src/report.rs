//! What a run found, as JSON and as a table.

use serde::Serialize;

use crate::load::Measured;

/// All of it.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) orders: usize,
    pub(crate) cqrs_es_connections: u32,
    /// When a command is acknowledged, on either side.
    pub(crate) durability: String,
    pub(crate) server: String,
    /// Other work makes the figures worth less.
    pub(crate) load_before: String,
}

/// Both sides at one number of callers: medians of the repetitions.
#[derive(Serialize)]
pub(crate) struct Row {
    clients: usize,
    commands_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    cqrs_es_per_second: f64,
    cqrs_es_p50_us: f64,
    cqrs_es_p99_us: f64,
    /// Our rate divided by the other's.
    times: f64,
    samples: Vec<f64>,
    cqrs_es_samples: Vec<f64>,
}

impl Row {
    pub(crate) fn of(clients: usize, ours: &[Measured], theirs: &[Measured]) -> Self {
        let per_second = |of: &[Measured]| median(of, |it| it.per_second).round();
        let samples = |of: &[Measured]| of.iter().map(|it| it.per_second.round()).collect();
        let (mine, other) = (per_second(ours), per_second(theirs));
        Self {
            clients,
            commands_per_second: mine,
            p50_us: median(ours, |it| it.p50_us).round(),
            p99_us: median(ours, |it| it.p99_us).round(),
            cqrs_es_per_second: other,
            cqrs_es_p50_us: median(theirs, |it| it.p50_us).round(),
            cqrs_es_p99_us: median(theirs, |it| it.p99_us).round(),
            times: (mine / other * 100.0).round() / 100.0,
            samples: samples(ours),
            cqrs_es_samples: samples(theirs),
        }
    }
}

impl Report {
    /// For people.
    pub(crate) fn table(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{}; load {}; cqrs-es has {} connections\n",
            self.server,
            self.load_before.trim(),
            self.cqrs_es_connections
        );
        let _ = writeln!(
            text,
            "callers  commands/s    p50 us    p99 us  cqrs-es/s    p50 us    p99 us  times"
        );
        for row in &self.rows {
            let _ = writeln!(
                text,
                "{:>7}  {:>10.0}  {:>8.0}  {:>8.0}  {:>9.0}  {:>8.0}  {:>8.0}  {:>5.2}",
                row.clients,
                row.commands_per_second,
                row.p50_us,
                row.p99_us,
                row.cqrs_es_per_second,
                row.cqrs_es_p50_us,
                row.cqrs_es_p99_us,
                row.times
            );
        }
        let _ = writeln!(
            text,
            "\na command is acknowledged, on either side: {}",
            self.durability
        );
        text
    }
}

fn median(of: &[Measured], value: impl Fn(&Measured) -> f64) -> f64 {
    let mut values: Vec<f64> = of.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
