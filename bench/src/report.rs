//! What a run found, as JSON and as a table.

use serde::Serialize;

use crate::turns::Floor;

/// All that one run of the measurement found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// One entry per number of clients.
    pub runs: Vec<Run>,
    /// A bare durable write of 4 KiB with the same flags: the floor.
    pub bare_write_p50_us: f64,
    /// The reference at one client.
    pub reference_p50_us: f64,
    /// Whether the reference is as fast as the device: at most 1.25 times the bare write.
    pub valid: bool,
    /// Where it was measured.
    pub machine: Machine,
}

/// Both sides at one number of clients: medians of the repetitions.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// How many clients send, each one command at a time.
    pub clients: usize,
    /// Durable commands of the application.
    pub commands_per_second: f64,
    /// Half of the commands were answered within this.
    pub p50_us: f64,
    /// All but a hundredth of the commands were answered within this.
    pub p99_us: f64,
    /// Durable appends of the bare log.
    pub reference_per_second: f64,
    /// The bare log's median latency.
    pub reference_p50_us: f64,
    /// The bare log's 99th percentile.
    pub reference_p99_us: f64,
    /// Commands per second as a share of the reference's.
    pub ratio: f64,
    /// When a command of the application is acknowledged.
    pub durability: String,
    /// Processor time per command of the whole process, the clients' included.
    pub cpu_us_per_command: f64,
    /// The same for the bare log.
    pub reference_cpu_us: f64,
    /// Commands per batch of a partition.
    pub commands_per_batch: f64,
    /// Appends per durable write of the bare log.
    pub reference_per_write: f64,
    /// Events that the view had not folded when the measurement ended; the most of all repetitions.
    pub view_behind: u64,
    /// Each repetition's commands per second.
    pub samples: Vec<f64>,
    /// Each repetition's appends per second.
    pub reference_samples: Vec<f64>,
}

/// The machine of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// How many cores the process may use.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// The file system of the data.
    pub file_system: String,
    /// Where the data was.
    pub path: String,
    /// The load averages before the run: other work makes the figures worth less.
    pub load_before: String,
}

impl Machine {
    /// For people.
    pub(crate) fn line(&self) -> String {
        format!(
            "{}, {} cores, Linux {}, {}, {}, load {}",
            self.cpu, self.cores, self.kernel, self.file_system, self.path, self.load_before
        )
    }
}

impl Report {
    /// A table for people.
    pub fn table(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let _ = writeln!(text, "{}\n", self.machine.line());
        let _ = writeln!(
            text,
            "clients  commands/s    p50 us    p99 us  reference/s  ratio  cpu us (reference)  per batch  view behind"
        );
        for run in &self.runs {
            let _ = writeln!(
                text,
                "{:>7}  {:>10.0}  {:>8.1}  {:>8.1}  {:>11.0}  {:>5.2}  {:>6.2} {:>11.2}  {:>9.1}  {:>11}",
                run.clients,
                run.commands_per_second,
                run.p50_us,
                run.p99_us,
                run.reference_per_second,
                run.ratio,
                run.cpu_us_per_command,
                run.reference_cpu_us,
                run.commands_per_batch,
                run.view_behind
            );
        }
        let (bare, reference) = (self.bare_write_p50_us, self.reference_p50_us);
        let _ = writeln!(text, "\n{}", Floor::sentence(bare, reference, self.valid));
        if let Some(run) = self.runs.first() {
            let _ = writeln!(text, "a command is acknowledged: {}", run.durability);
        }
        text
    }
}

/// The one in the middle; 0 of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([]), 0.0);
    }
}
