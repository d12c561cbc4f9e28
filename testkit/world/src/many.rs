//! Many seeds on all cores; each run by itself is on one thread.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::coverage::Coverage;
use crate::run::{Report, run};
use crate::scenario::Scenario;
use crate::workload::Workload;

/// What many runs led to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// How many runs there were.
    pub runs: u64,
    /// Those that broke a promise, by seed, as they were first seen.
    pub failures: Vec<Report>,
    /// What happened in all of them.
    pub coverage: Coverage,
    /// Decisions of all simulations.
    pub steps: u64,
}

impl Summary {
    /// Counts one more run.
    pub fn count(&mut self, report: Report) {
        self.runs += 1;
        self.steps += report.steps;
        self.coverage.add(&report.coverage);
        if !report.violations.is_empty() {
            self.failures.push(report);
        }
    }

    /// Adds what other runs led to.
    pub fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.steps += other.steps;
        self.coverage.add(&other.coverage);
        self.failures.extend(other.failures);
    }
}

/// Runs the scenarios of these seeds until `go_on` says no, which is asked before every run with the
/// number of those that are over. `threads` at a time.
pub fn run_many<W: Workload>(
    workload: &Arc<W>,
    seeds: Range<u64>,
    threads: usize,
    scenario: impl Fn(u64) -> Scenario + Sync,
    go_on: impl Fn(u64) -> bool + Sync,
) -> Summary {
    let (next, over) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let summary = Mutex::new(Summary::default());
    let work = || {
        let mut mine = Summary::default();
        while go_on(over.load(Ordering::Relaxed)) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let report = run(workload, &scenario(seed), 0);
            over.fetch_add(1, Ordering::Relaxed);
            mine.count(report);
        }
        let mut all = summary.lock().unwrap_or_else(PoisonError::into_inner);
        all.add(mine);
    };
    thread::scope(|scope| {
        for _ in 1..threads.max(1) {
            scope.spawn(work);
        }
        work();
    });
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.failures.sort_by_key(|report| report.scenario.seed);
    summary
}
