//! The world by itself: it repeats itself, it is sound, and it notices every broken promise.

#![allow(clippy::unwrap_used, reason = "in a test a fault is a panic")]

use std::sync::Arc;

use everfold_world::{
    Accounts, Kind, Mutation, Report, Scenario, Setup, Summary, kept, run, run_many, shrink,
};

fn live(scenario: &Scenario) -> Report {
    run(&Arc::new(Accounts), scenario, 0)
}

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
fn seeds_that_once_failed_pass() {
    let list = kept(include_str!("../seeds/accounts.txt")).unwrap();
    assert!(!list.is_empty());
    list.iter().for_each(|scenario| sound(&live(scenario)));
}

#[test]
fn everything_holds_whatever_goes_wrong() {
    let summary = many(seeds(120), Scenario::new);
    summary.failures.iter().for_each(sound);
    let covered = |name: &str| {
        let Summary { coverage, .. } = &summary;
        let counts = [&coverage.faults, &coverage.places];
        counts.iter().any(|counts| counts.contains_key(name))
    };
    if summary.runs >= 100 {
        for name in [
            "message lost",
            "message cut off",
            "message came twice",
            "message overtook another",
            "acknowledgement lost",
            "node killed",
            "node frozen",
            "node taken over while it was cut off",
            "store restarted",
            "clock stepped back",
            "append refused: full",
            "owner: fenced",
            "owner: unknown outcome, claims again",
            "owner: repeated command answered from the table",
        ] {
            assert!(covered(name), "{name} never happened");
        }
    }
}

#[test]
fn two_runs_of_one_seed_are_equal_byte_by_byte() {
    for setup in Setup::ALL {
        for seed in 0..3 {
            let scenario = Scenario::in_setup(seed, setup);
            let once = run(&Arc::new(Accounts), &scenario, 1 << 22);
            let again = run(&Arc::new(Accounts), &scenario, 1 << 22);
            assert!(once.trace.len() > 1000);
            assert_eq!(once.trace, again.trace, "{setup}, seed {seed}");
            assert_eq!(once.trace_hash, again.trace_hash, "{setup}, seed {seed}");
            assert_eq!(once.coverage, again.coverage);
        }
    }
}

#[test]
fn every_kind_of_fault_can_be_written_and_read() {
    for kind in Kind::ALL {
        let text = format!("{}@10+20/3", kind.name());
        let plan: everfold_world::Plan = text.parse().unwrap();
        assert_eq!(plan.faults()[0].kind, *kind);
        assert_eq!(plan.to_string(), text);
    }
}

/// Runs seeds until the checker notices, and the same seeds without the mutation.
fn caught(mutation: Mutation, checker: &str, setup: Setup, plan: &str) -> Report {
    const MOST: u64 = 60;
    for seed in 0..MOST {
        let mut scenario = Scenario::in_setup(seed, setup);
        scenario.plan = plan.parse().unwrap();
        sound(&live(&scenario));
        let report = live(&scenario.mutated(mutation));
        if report
            .violations
            .iter()
            .any(|found| found.checker == checker)
        {
            return report;
        }
    }
    panic!("{} is not noticed in {MOST} seeds", mutation.name());
}

#[test]
fn a_store_that_checks_no_epochs_is_caught() {
    let plan = "freeze@800+2500/1,freeze@4000+3000/1";
    caught(Mutation::EpochUnchecked, "owners", Setup::Shared, plan);
}

#[test]
fn a_store_that_answers_before_it_is_durable_is_caught() {
    let plan = "crash@400+100/0,crash@2000+100/0,crash@5000+100/0";
    let checker = "loss";
    caught(
        Mutation::AnswerBeforeDurability,
        checker,
        Setup::Embedded,
        plan,
    );
}

#[test]
fn ids_that_are_forgotten_at_a_restart_are_caught() {
    caught(
        Mutation::IdsForgotten,
        "twice",
        Setup::Shared,
        "takeover@1000+10/0",
    );
}

#[test]
fn checkpoints_that_anybody_may_store_are_caught() {
    let plan = "freeze@500+9000/1,freeze@10000+7000/1";
    caught(Mutation::CheckpointUnfenced, "views", Setup::Shared, plan);
}

#[test]
fn a_failure_is_made_smaller_and_can_be_repeated() {
    let plan = "slow@100+50/1,freeze@800+2500/1,freeze@4000+3000/1,loss@9000+10/1";
    let failed = caught(Mutation::EpochUnchecked, "owners", Setup::Shared, plan);
    let smaller = shrink(&Arc::new(Accounts), &failed);
    let size = |report: &Report| {
        let scenario = &report.scenario;
        (scenario.plan.faults().len(), scenario.operations.len())
    };
    assert!(size(&smaller).0 < size(&failed).0 && size(&smaller).1 < size(&failed).1);
    let command = smaller.scenario.reproduction("accounts");
    let written = command.strip_prefix("everfold sim accounts ").unwrap();
    let again = kept(written).unwrap();
    assert_eq!(again, std::slice::from_ref(&smaller.scenario));
    assert_eq!(live(&again[0]).violations, smaller.violations);
}
