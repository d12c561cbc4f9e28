//! Several nodes at once: they are sound, and every broken promise between them is noticed.

#![allow(clippy::unwrap_used, reason = "in a test a fault is a panic")]

use std::sync::Arc;

use everfold_world::{Accounts, Report, Scenario, Setup, Summary, run_many};

fn sound(report: &Report) {
    let repeat = report.scenario.reproduction("accounts");
    assert_eq!(report.violations, [], "repeat it with: {repeat}");
}

/// More of them on request: `EVERFOLD_SEEDS=1000`; one of them alone: `EVERFOLD_SEED=7`.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let asked = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match asked("EVERFOLD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..asked("EVERFOLD_SEEDS").unwrap_or(usual),
    }
}

fn many(seeds: std::ops::Range<u64>, scenario: impl Fn(u64) -> Scenario + Sync) -> Summary {
    run_many(&Arc::new(Accounts), seeds, 2, scenario, |_| true)
}

#[test]
fn everything_holds_on_several_nodes_whatever_goes_wrong() {
    let summary = many(seeds(80), |seed| Scenario::in_setup(seed, Setup::Cluster));
    println!("{}", summary.coverage);
    for report in &summary.failures {
        println!(
            "{} {:?}",
            report.scenario.reproduction("accounts"),
            report.violations
        );
    }
    summary.failures.iter().for_each(sound);
}
