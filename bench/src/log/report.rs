//! What a run found, as JSON and as a table.

use serde::Serialize;

use super::sizes::Sizes;
use crate::report::Machine;
use crate::turns::Floor;
use crate::unit::Ids;

/// All that one run of the measurement found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// One entry per number of writers, partitions and events per append.
    pub runs: Vec<Run>,
    /// Which of an event's ids were the same.
    pub ids: Ids,
    /// Whether the log kept the hash chain; the bare log never does.
    pub chained: bool,
    /// What an event takes, by field, for either choice of ids.
    pub sizes: Vec<Sizes>,
    /// A bare durable write of 4 KiB with the same flags: the floor.
    pub bare_write_p50_us: f64,
    /// The bare log with one writer.
    pub bare_p50_us: f64,
    /// Whether the bare log is as fast as the device: at most 1.25 times the bare write.
    pub valid: bool,
    /// When an append is acknowledged, and the bare log's.
    pub durability: String,
    /// Where it was measured.
    pub machine: Machine,
}

/// Both sides of one row: medians of the repetitions.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// How many writers append, each one unit at a time.
    pub writers: usize,
    /// Partitions of the log; the bare log has none.
    pub partitions: u16,
    /// Events of one append.
    pub events_per_append: usize,
    /// Durable appends.
    pub appends_per_second: f64,
    /// Durable events.
    pub events_per_second: f64,
    /// Half of the appends were acknowledged within this.
    pub p50_us: f64,
    /// All but a hundredth were.
    pub p99_us: f64,
    /// All but a thousandth were.
    pub p999_us: f64,
    /// Bytes of the journal per event, with its share of the frame.
    pub bytes_per_event: f64,
    /// Processor time per event of the whole process, the writers' included.
    pub cpu_us_per_event: f64,
    /// Appends per batch of a partition.
    pub appends_per_batch: f64,
    /// Durable appends of the bare log.
    pub bare_per_second: f64,
    /// The bare log's median latency.
    pub bare_p50_us: f64,
    /// The bare log's 99th percentile.
    pub bare_p99_us: f64,
    /// The bare log's 99.9th percentile.
    pub bare_p999_us: f64,
    /// Bytes of the bare log per event.
    pub bare_bytes_per_event: f64,
    /// Processor time per event with the bare log.
    pub bare_cpu_us: f64,
    /// Appends per durable write of the bare log.
    pub bare_per_write: f64,
    /// Appends per second as a share of the bare log's.
    pub ratio: f64,
    /// Each repetition's appends per second.
    pub samples: Vec<f64>,
    /// Each repetition's appends per second of the bare log.
    pub bare_samples: Vec<f64>,
}

impl Report {
    /// A table for people.
    pub fn table(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let _ = writeln!(text, "{}\n", self.machine.line());
        let _ = writeln!(
            text,
            "writers  parts  events  appends/s   p50 us   p99 us  p999 us   bare/s  bare p50  ratio  cpu us (bare)  per batch  bytes (bare)"
        );
        for run in &self.runs {
            let _ = writeln!(
                text,
                "{:>7}  {:>5}  {:>6}  {:>9.0}  {:>7.1}  {:>7.1}  {:>7.1}  {:>7.0}  {:>8.1}  {:>5.2}  {:>6.2} {:>6.2}  {:>9.1}  {:>5.0} {:>6.0}",
                run.writers,
                run.partitions,
                run.events_per_append,
                run.appends_per_second,
                run.p50_us,
                run.p99_us,
                run.p999_us,
                run.bare_per_second,
                run.bare_p50_us,
                run.ratio,
                run.cpu_us_per_event,
                run.bare_cpu_us,
                run.appends_per_batch,
                run.bytes_per_event,
                run.bare_bytes_per_event,
            );
        }
        let (bare_write, bare) = (self.bare_write_p50_us, self.bare_p50_us);
        let sentence = Floor::sentence(bare_write, bare, self.valid);
        let _ = writeln!(text, "\n{sentence}");
        let _ = writeln!(text, "an append is acknowledged: {}", self.durability);
        for sizes in &self.sizes {
            let _ = write!(text, "\n{}", sizes.table());
        }
        text
    }
}
