//! The reference coordinator keeps its contract, and broken ones fail the cases about their faults.

#![allow(clippy::unwrap_used)]

#[path = "support/faulty_coordinator.rs"]
mod faulty_coordinator;

use std::sync::Arc;
use std::time::Duration;

use everfold_contract::{
    Coordination, SharedLog, Verdict, run_coordination, run_coordination_case,
};
use everfold_engine::coordination::memory::InMemory;
use everfold_engine::engine::BoxFuture;
use everfold_engine::world::System;
use everfold_engine::{Coordinator, Layout, World};
use everfold_sim::Simulation;
use faulty_coordinator::{Fault, Faulty};

struct Harness {
    world: Arc<dyn World>,
    fault: Option<Fault>,
}

impl Coordination for Harness {
    fn name(&self) -> String {
        match self.fault {
            Some(fault) => format!("memory, {fault:?}"),
            None => "memory".into(),
        }
    }

    fn world(&self) -> Arc<dyn World> {
        self.world.clone()
    }

    fn lease(&self) -> Duration {
        Duration::from_millis(300)
    }

    fn fresh(&self) -> BoxFuture<'_, Box<dyn SharedLog>> {
        Box::pin(async {
            let layout = Layout::first(4).unwrap();
            let reference = Arc::new(InMemory::new(self.world.clone(), layout));
            let coordinator: Arc<dyn Coordinator> = match self.fault {
                Some(fault) => Arc::new(Faulty::new(reference, fault)),
                None => reference,
            };
            Box::new(Shared {
                layout,
                coordinator,
            }) as Box<dyn SharedLog>
        })
    }
}

struct Shared {
    layout: Layout,
    coordinator: Arc<dyn Coordinator>,
}

impl SharedLog for Shared {
    fn layout(&self) -> Layout {
        self.layout
    }

    fn coordinator(&self, _: i64) -> BoxFuture<'_, Arc<dyn Coordinator>> {
        Box::pin(async { self.coordinator.clone() })
    }
}

#[test]
fn in_simulated_worlds() {
    for seed in 0..20 {
        let simulation = Simulation::new(seed);
        let (world, fault) = (simulation.world(), None);
        simulation
            .run(run_coordination(&Harness { world, fault }))
            .assert(&[]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_the_real_world() {
    let (world, fault) = (System::current(), None);
    run_coordination(&Harness { world, fault })
        .await
        .assert(&[]);
}

const CAUGHT_BY: &[(Fault, &[&str])] = &[
    (
        Fault::NoCompare,
        &[
            "a_plan_follows_the_stored_one",
            "of_plans_made_at_once_one_is_stored",
        ],
    ),
    (
        Fault::CheckThenPlan,
        &["of_plans_made_at_once_one_is_stored"],
    ),
    (
        Fault::AnybodyPlans,
        &[
            "nobody_else_plans",
            "an_assigner_that_woke_up_too_late_cannot_plan",
        ],
    ),
    (
        Fault::ExpiredMayBeat,
        &[
            "who_woke_up_too_late_cannot_beat",
            "who_left_is_gone_at_once",
        ],
    ),
    (
        Fault::NewcomersPlan,
        &["the_first_member_plans_and_stays_the_one"],
    ),
    (
        Fault::NamesShared,
        &[
            "a_living_name_is_taken",
            "of_many_that_join_under_one_name_one_lives",
        ],
    ),
    (
        Fault::NeverExpires,
        &["a_silent_member_is_gone_and_its_name_is_free"],
    ),
    (
        Fault::Unordered,
        &["members_are_listed_in_the_order_of_joining"],
    ),
    (
        Fault::ClustersMixed,
        &[
            "another_cluster_is_refused",
            "who_joins_alone_founds_a_cluster",
        ],
    ),
];

#[test]
fn each_fault_fails_its_cases() {
    let mut missed = Vec::new();
    for seed in 0..5 {
        for (fault, cases) in CAUGHT_BY {
            for case in *cases {
                let simulation = Simulation::new(seed);
                let harness = Harness {
                    world: simulation.world(),
                    fault: Some(*fault),
                };
                match simulation
                    .run(run_coordination_case(&harness, case))
                    .unwrap()
                {
                    Verdict::Failed(why) if seed == 0 => println!("{fault:?}: {case}: {why}"),
                    Verdict::Failed(_) => {}
                    other => missed.push(format!("{fault:?}, seed {seed}: {case}: {other:?}")),
                }
            }
        }
    }
    assert!(missed.is_empty(), "not caught:\n{}", missed.join("\n"));
}

/// A suite that fails everything would catch every fault.
#[test]
fn without_a_fault_it_passes() {
    let simulation = Simulation::new(0);
    let (world, fault) = (simulation.world(), Some(Fault::None));
    simulation
        .run(run_coordination(&Harness { world, fault }))
        .assert(&[]);
}
