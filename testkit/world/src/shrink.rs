//! Makes a failing run smaller while it goes on failing.

use std::sync::Arc;

use crate::run::{Report, run};
use crate::scenario::Scenario;
use crate::workload::Workload;

/// Runs that may be spent on one failure.
const RUNS: u32 = 400;

/// Leaves out faults and operations as long as the same checker still complains; the report of the
/// smallest run that was found.
pub fn shrink<W: Workload>(workload: &Arc<W>, failed: &Report) -> Report {
    let Some(first) = failed.violations.first() else {
        return failed.clone();
    };
    let mut search = Search {
        workload,
        checker: first.checker,
        smallest: failed.clone(),
        left: RUNS,
    };
    loop {
        let before = size(&search.smallest.scenario);
        search.drop_faults();
        search.drop_operations();
        if size(&search.smallest.scenario) == before || search.left == 0 {
            return search.smallest;
        }
    }
}

fn size(scenario: &Scenario) -> usize {
    scenario.plan.faults().len() + scenario.operations.len()
}

struct Search<'a, W> {
    workload: &'a Arc<W>,
    checker: &'static str,
    smallest: Report,
    left: u32,
}

impl<W: Workload> Search<'_, W> {
    /// Takes the scenario if it fails in the same way.
    fn holds(&mut self, scenario: Scenario) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let report = run(self.workload, &scenario, 0);
        let same = report.violations.iter().any(|v| v.checker == self.checker);
        if same {
            self.smallest = report;
        }
        same
    }

    fn drop_faults(&mut self) {
        let mut index = 0;
        while index < self.smallest.scenario.plan.faults().len() {
            let mut scenario = self.smallest.scenario.clone();
            scenario.plan = scenario.plan.without(index);
            if !self.holds(scenario) {
                index += 1;
            }
        }
    }

    /// Halves first, then quarters, down to one by one.
    fn drop_operations(&mut self) {
        let mut stretch = self.smallest.scenario.operations.len().div_ceil(2);
        while stretch > 0 {
            let mut start = 0;
            while start < self.smallest.scenario.operations.len() {
                let mut scenario = self.smallest.scenario.clone();
                let end = (start + stretch).min(scenario.operations.len());
                scenario.operations.drain(start..end);
                if !self.holds(scenario) {
                    start += stretch;
                }
            }
            stretch /= 2;
        }
    }
}
