//! What a run found, as JSON and as a table.

use serde::Serialize;

use crate::report::Machine;

/// All that one run of the measurement found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// One entry per number of clients.
    pub runs: Vec<Run>,
    /// Reading everything that was appended.
    pub replay: Replay,
    /// Partitions of the log.
    pub partitions: u16,
    /// Connections that append, of either side.
    pub connections: usize,
    /// When an append is acknowledged, on either side.
    pub durability: String,
    /// The server, and what it was told.
    pub server: String,
    /// Where it was measured, as far as this process knows: a server may be elsewhere.
    pub machine: Machine,
}

/// Appends of one event each: medians of the repetitions.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// How many clients append, each one event at a time.
    pub clients: usize,
    /// Durable appends through the engine.
    pub appends_per_second: f64,
    /// Half of the appends were acknowledged within this.
    pub p50_us: f64,
    /// All but a hundredth were.
    pub p99_us: f64,
    /// Processor time per append of this process, the clients' included, the server's not.
    pub cpu_us_per_append: f64,
    /// Appends per batch of a partition.
    pub appends_per_batch: f64,
    /// Durable appends of the hand-written loop.
    pub bare_per_second: f64,
    /// Its median latency.
    pub bare_p50_us: f64,
    /// Its 99th percentile.
    pub bare_p99_us: f64,
    /// The same processor time with it.
    pub bare_cpu_us: f64,
    /// Appends per statement of it.
    pub bare_per_statement: f64,
    /// Appends per second as a share of the loop's.
    pub ratio: f64,
    /// Each repetition's appends per second.
    pub samples: Vec<f64>,
    /// Each repetition's appends per second of the loop.
    pub bare_samples: Vec<f64>,
}

/// Reading all partitions, one after the other: medians of the repetitions.
#[derive(Clone, Debug, Serialize)]
pub struct Replay {
    /// How many there were.
    pub events: u64,
    /// Records through the engine.
    pub events_per_second: f64,
    /// Rows of a binary copy of the same columns, received and thrown away.
    pub bare_per_second: f64,
    /// What the copy sent for each.
    pub bare_bytes_per_event: f64,
    /// The engine's rate as a share of the copy's.
    pub ratio: f64,
    /// Processor time per event of this process.
    pub cpu_us_per_event: f64,
    /// The same with the copy.
    pub bare_cpu_us: f64,
    /// Each repetition's records per second.
    pub samples: Vec<f64>,
    /// Each repetition's rows per second of the copy.
    pub bare_samples: Vec<f64>,
}

impl Report {
    /// A table for people.
    pub fn table(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let _ = writeln!(text, "{}\n{}\n", self.machine.line(), self.server);
        let _ = writeln!(
            text,
            "clients  appends/s    p50 us    p99 us   bare/s  bare p50  bare p99  ratio  cpu us (bare)  per batch (bare)"
        );
        for run in &self.runs {
            let _ = writeln!(
                text,
                "{:>7}  {:>9.0}  {:>8.1}  {:>8.1}  {:>7.0}  {:>8.1}  {:>8.1}  {:>5.2}  {:>6.2} {:>6.2}  {:>9.1} {:>6.1}",
                run.clients,
                run.appends_per_second,
                run.p50_us,
                run.p99_us,
                run.bare_per_second,
                run.bare_p50_us,
                run.bare_p99_us,
                run.ratio,
                run.cpu_us_per_append,
                run.bare_cpu_us,
                run.appends_per_batch,
                run.bare_per_statement,
            );
        }
        let replay = &self.replay;
        let _ = writeln!(
            text,
            "\nreplay of {} events: {:.0}/s, bare binary copy {:.0}/s ({:.0} bytes each), ratio {:.2}, cpu {:.2} us ({:.2})",
            replay.events,
            replay.events_per_second,
            replay.bare_per_second,
            replay.bare_bytes_per_event,
            replay.ratio,
            replay.cpu_us_per_event,
            replay.bare_cpu_us,
        );
        let _ = writeln!(
            text,
            "an append is acknowledged, on either side: {}",
            self.durability
        );
        text
    }
}
