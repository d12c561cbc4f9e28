//! The suite is worth what it catches: each broken engine fails the case that is about its fault.

#![allow(clippy::unwrap_used, dead_code)]

#[path = "support/mutant.rs"]
mod mutant;
mod support;

use std::sync::Arc;

use everfold_contract::{Verdict, run, run_case};
use everfold_engine::World;
use everfold_sim::Simulation;
use mutant::{Fault, Mutant};
use support::InMemory;

const CAUGHT_BY: &[(Fault, &[&str])] = &[
    (
        Fault::NoEpochCheck,
        &[
            "claims_grow_and_fence_every_earlier_epoch",
            "an_epoch_that_was_never_given_owns_nothing",
            "a_released_partition_has_no_owner",
            "a_claim_racing_appends_never_lets_both_win",
            "identity_and_epochs_outlive_the_process",
            "a_plain_model_agrees",
        ],
    ),
    (
        Fault::CheckThenWrite,
        &["a_claim_racing_appends_never_lets_both_win"],
    ),
    (
        Fault::NoFlush,
        &[
            "acknowledged_appends_survive_a_crash",
            "a_plain_model_agrees",
        ],
    ),
    (
        Fault::TornBatch,
        &["tails_see_everything_once_and_in_order"],
    ),
    (
        Fault::HalfThenRefused,
        &[
            "a_refused_batch_leaves_nothing",
            "what_is_too_large_is_refused",
        ],
    ),
    (
        Fault::HoleFillsLater,
        &["tails_see_everything_once_and_in_order"],
    ),
    (
        Fault::CutReads,
        &["reads_give_whole_units_within_the_limit"],
    ),
    (
        Fault::StaleClaim,
        &["a_claim_finds_everything_acknowledged"],
    ),
    (
        Fault::NoFloor,
        &[
            "the_floor_covers_what_was_appended",
            "a_raised_floor_outlives_the_claim",
            "the_floor_outlives_the_process",
        ],
    ),
    (
        Fault::PutWithoutCompare,
        &["a_put_replaces_only_the_revision_it_read"],
    ),
    (
        Fault::PutWithoutEpoch,
        &["a_put_needs_the_owner_and_the_log"],
    ),
    (Fault::HalfPut, &["a_put_is_all_or_nothing"]),
    (Fault::EarlyWait, &["wait_resolves_only_past_its_offset"]),
    (Fault::OneWoken, &["one_append_wakes_every_waiter"]),
    (
        Fault::TenantsMixed,
        &["entities_are_told_apart_by_tenant_type_and_id"],
    ),
    (
        Fault::OneLabel,
        &["events_are_found_by_type_label_and_time"],
    ),
];

fn harness(world: Arc<dyn World>, fault: Fault) -> InMemory {
    InMemory {
        name: format!("{fault:?}"),
        open: Box::new(move || {
            let kept = Arc::default();
            Arc::new(move |store| Arc::new(Mutant::open(store, fault, Arc::clone(&kept))))
        }),
        ..InMemory::plain(world)
    }
}

#[test]
fn each_mutant_fails_its_cases() {
    let mut missed = Vec::new();
    for seed in 0..5 {
        for (fault, cases) in CAUGHT_BY {
            for case in *cases {
                let simulation = Simulation::new(seed);
                let harness = harness(simulation.world(), *fault);
                match simulation.run(run_case(&harness, case)).unwrap() {
                    Verdict::Failed(why) if seed == 0 => println!("{fault:?}: {case}: {why}"),
                    Verdict::Failed(_) => {}
                    other => missed.push(format!("{fault:?}, seed {seed}: {case}: {other:?}")),
                }
            }
        }
    }
    assert!(missed.is_empty(), "not caught:\n{}", missed.join("\n"));
}

/// A suite that fails everything would catch every mutant.
#[test]
fn a_mutant_without_a_fault_passes() {
    for seed in 0..3 {
        let simulation = Simulation::new(seed);
        let harness = harness(simulation.world(), Fault::None);
        simulation
            .run(run(&harness))
            .assert(&["an_engine_without_an_index_says_so"]);
    }
}

/// A fault in one part is not blamed on all the others.
#[test]
fn a_mutant_passes_what_its_fault_does_not_touch() {
    let simulation = Simulation::new(1);
    let harness = harness(simulation.world(), Fault::TenantsMixed);
    assert_eq!(
        simulation.run(run(&harness)).failed(),
        [
            "entities_are_told_apart_by_tenant_type_and_id",
            "entities_outlive_the_process"
        ]
    );
}
