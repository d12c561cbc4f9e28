//! The reference engine keeps the contract, in a simulated world and in the real one.

#![allow(clippy::unwrap_used)]

mod support;

use everfold_contract::{CASES, Harness, run};
use everfold_engine::world::System;
use everfold_sim::Simulation;
use support::InMemory;

const WITHOUT_ENTITIES: &[&str] = &[
    "an_entity_is_read_after_a_version_and_up_to_a_limit",
    "entities_are_read_by_key",
    "entities_are_told_apart_by_tenant_type_and_id",
    "entities_outlive_the_process",
    "only_events_belong_to_an_entity",
];

const WITH_ENTITIES: &[&str] = &["an_engine_without_an_index_says_so"];

const FLEETING: &[&str] = &[
    "acknowledged_appends_survive_a_crash",
    "a_closed_log_opens_again",
    "an_engine_without_an_index_says_so",
    "appends_in_flight_at_a_crash_are_whole_or_absent",
    "areas_outlive_the_process",
    "entities_outlive_the_process",
    "events_are_found_after_a_restart",
    "identity_and_epochs_outlive_the_process",
    "the_floor_outlives_the_process",
];

type Make = fn(std::sync::Arc<dyn everfold_engine::World>) -> InMemory;

const HARNESSES: [(Make, &[&str]); 4] = [
    (InMemory::plain, WITH_ENTITIES),
    (InMemory::bare, WITHOUT_ENTITIES),
    (InMemory::indexed, WITH_ENTITIES),
    (InMemory::fleeting, FLEETING),
];

#[test]
fn in_simulated_worlds() {
    for seed in 0..8 {
        for (make, not_applicable) in HARNESSES {
            let simulation = Simulation::new(seed);
            let mut harness = make(simulation.world());
            harness.name += &format!(", seed {seed}");
            simulation.run(run(&harness)).assert(not_applicable);
        }
    }
}

#[test]
fn a_seed_runs_the_suite_twice_in_the_same_way() {
    let trace = |seed| {
        let simulation = Simulation::new(seed);
        let report = simulation.run(run(&InMemory::indexed(simulation.world())));
        (report, simulation.trace_hash())
    };
    assert_eq!(trace(5), trace(5));
    assert_ne!(trace(5).1, trace(6).1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_the_real_world() {
    for (make, not_applicable) in HARNESSES {
        run(&make(System::current())).await.assert(not_applicable);
    }
}

#[tokio::test]
async fn on_a_single_real_thread() {
    let harness = InMemory::plain(System::current());
    run(&harness).await.assert(WITH_ENTITIES);
}

#[test]
fn a_case_is_not_silently_left_out() {
    let simulation = Simulation::new(1);
    let harness = InMemory::bare(simulation.world());
    let report = simulation.run(run(&harness));
    assert_eq!(report.outcomes.len(), CASES.len());
    let unexpected = std::panic::catch_unwind(|| report.assert(&[]));
    assert!(unexpected.is_err(), "{} was let pass", harness.name());
}
