//! What a run found, as JSON and as a table.

use serde::Serialize;

use crate::report::Machine;
use crate::turns::Floor;

/// All that one run of the measurement found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// One entry per number of clients.
    pub runs: Vec<Run>,
    /// Events of one append to the log; a transfer always has two.
    pub events_per_append: usize,
    /// A bare durable write of 4 KiB with the same flags: the floor.
    pub bare_write_p50_us: f64,
    /// Appends to the log by one client.
    pub log_p50_us: f64,
    /// Whether the log is as fast as the device: at most 1.25 times the bare write.
    pub valid: bool,
    /// When a transfer is acknowledged, and an append to the log.
    pub durability: String,
    /// Where it was measured.
    pub machine: Machine,
}

/// Both sides at one number of clients: medians of the repetitions.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// How many clients ask, each for one transfer, or one append, at a time.
    pub clients: usize,
    /// Durable transfers within a tag.
    pub transfers_per_second: f64,
    /// Half of them were acknowledged within this.
    pub p50_us: f64,
    /// All but a hundredth were.
    pub p99_us: f64,
    /// Durable appends to the log.
    pub appends_per_second: f64,
    /// Half of them were acknowledged within this.
    pub log_p50_us: f64,
    /// All but a hundredth were.
    pub log_p99_us: f64,
    /// Transfers per second as a share of the appends.
    pub ratio: f64,
    /// Processor time per transfer of the whole process, the clients' included.
    pub cpu_us_per_transfer: f64,
    /// The same per append.
    pub log_cpu_us: f64,
    /// Transfers per batch of a partition.
    pub transfers_per_batch: f64,
    /// Appends per batch of a partition.
    pub appends_per_batch: f64,
    /// Events that the views had not folded when a turn ended; the most of all repetitions.
    pub views_behind: u64,
    /// Each repetition's transfers per second.
    pub samples: Vec<f64>,
    /// Each repetition's appends per second.
    pub log_samples: Vec<f64>,
}

impl Report {
    /// A table for people.
    pub fn table(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let _ = writeln!(text, "{}\n", self.machine.line());
        let _ = writeln!(
            text,
            "clients  transfers/s    p50 us    p99 us  appends/s  log p50  ratio  cpu us  (log)  per batch  (log)  views behind"
        );
        for run in &self.runs {
            let _ = writeln!(
                text,
                "{:>7}  {:>11.0}  {:>8.1}  {:>8.1}  {:>9.0}  {:>7.1}  {:>5.2}  {:>6.2} {:>6.2}  {:>9.1} {:>6.1}  {:>12}",
                run.clients,
                run.transfers_per_second,
                run.p50_us,
                run.p99_us,
                run.appends_per_second,
                run.log_p50_us,
                run.ratio,
                run.cpu_us_per_transfer,
                run.log_cpu_us,
                run.transfers_per_batch,
                run.appends_per_batch,
                run.views_behind
            );
        }
        let (bare, log) = (self.bare_write_p50_us, self.log_p50_us);
        let _ = writeln!(text, "\n{}", Floor::sentence(bare, log, self.valid));
        let events = self.events_per_append;
        let _ = writeln!(
            text,
            "a transfer has 2 events, an append {events}; {}",
            self.durability
        );
        text
    }
}
