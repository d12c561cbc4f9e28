//! The list of cases, and running it.

use std::time::Duration;

use everfold_engine::engine::BoxFuture;

use crate::bench::Bench;
use crate::cases::{append, area, durable, entity, find, ownership, read, refusal, wait};
use crate::check::Checked;
use crate::harness::{Harness, Offers};
use crate::model;
use crate::report::{Outcome, Report, Verdict};

/// After this long, a case is not slow but stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

type Run = for<'a> fn(&'a Bench) -> BoxFuture<'a, Checked>;

/// One rule of the contract, tried.
pub struct Case {
    /// Says the rule.
    pub name: &'static str,
    needs: Needs,
    run: Run,
}

#[derive(Clone, Copy)]
enum Needs {
    Nothing,
    Durable,
    Entities,
    NoEntities,
    Both,
}

impl Needs {
    fn missing(self, offers: Offers) -> Option<&'static str> {
        let durable = "the log does not outlive its engine";
        let entities = "single entities cannot be read";
        match self {
            Self::Durable | Self::Both if !offers.durable => Some(durable),
            Self::Entities | Self::Both if !offers.entities => Some(entities),
            Self::NoEntities if offers.entities => Some("single entities can be read"),
            _ => None,
        }
    }
}

macro_rules! cases {
    ($($module:ident { $($name:ident $(: $needs:ident)?),+ $(,)? })+) => {
        &[$($(Case {
            name: stringify!($name),
            needs: cases!(@needs $($needs)?),
            run: |bench| Box::pin($module::$name(bench)),
        }),+),+]
    };
    (@needs) => { Needs::Nothing };
    (@needs $needs:ident) => { Needs::$needs };
}

/// Every case, in the order in which they are run.
pub const CASES: &[Case] = cases! {
    ownership {
        claims_grow_and_fence_every_earlier_epoch,
        an_epoch_that_was_never_given_owns_nothing,
        a_released_partition_has_no_owner,
        a_claim_finds_everything_acknowledged,
        a_claim_racing_appends_never_lets_both_win,
        confirm_fails_once_another_claimed,
        the_floor_covers_what_was_appended,
        a_raised_floor_outlives_the_claim,
        partitions_are_independent,
        a_partition_that_is_not_there_is_refused,
        the_engine_says_what_it_is,
    }
    append {
        offsets_of_a_batch_are_consecutive_and_grow,
        every_field_comes_back,
        payloads_come_back_bit_for_bit,
        a_second_append_in_flight_keeps_the_order,
    }
    refusal {
        what_is_too_large_is_refused,
        malformed_batches_are_refused,
        a_refused_batch_leaves_nothing,
    }
    read {
        reads_give_whole_units_within_the_limit,
        continuing_at_next_reaches_everything_once,
        reading_past_the_end_gives_nothing,
        tails_see_everything_once_and_in_order,
        the_safe_head_covers_reads_and_never_falls,
    }
    wait {
        wait_resolves_only_past_its_offset,
        one_append_wakes_every_waiter,
        a_late_waiter_is_answered,
    }
    entity {
        entities_are_read_by_key: Entities,
        an_entity_is_read_after_a_version_and_up_to_a_limit: Entities,
        only_events_belong_to_an_entity: Entities,
        entities_are_told_apart_by_tenant_type_and_id: Entities,
        an_engine_without_an_index_says_so: NoEntities,
    }
    find {
        events_are_found_by_type_label_and_time,
        events_are_found_after_a_restart: Durable,
    }
    area {
        areas_keep_values_in_order,
        a_put_replaces_only_the_revision_it_read,
        a_put_needs_the_owner_and_the_log,
        a_put_is_all_or_nothing,
        areas_are_kept_apart,
    }
    durable {
        acknowledged_appends_survive_a_crash: Durable,
        appends_in_flight_at_a_crash_are_whole_or_absent: Durable,
        a_closed_log_opens_again: Durable,
        identity_and_epochs_outlive_the_process: Durable,
        the_floor_outlives_the_process: Durable,
        areas_outlive_the_process: Durable,
        entities_outlive_the_process: Both,
    }
    model {
        a_plain_model_agrees,
    }
};

/// Runs every case, each on a log of its own.
pub async fn run(harness: &dyn Harness) -> Report {
    let mut outcomes = Vec::new();
    for case in CASES {
        let verdict = verdict(harness, case).await;
        outcomes.push(Outcome {
            case: case.name,
            verdict,
        });
    }
    Report {
        harness: harness.name(),
        outcomes,
    }
}

/// Runs the case of this name; `None` if there is none.
pub async fn run_case(harness: &dyn Harness, name: &str) -> Option<Verdict> {
    let case = CASES.iter().find(|case| case.name == name)?;
    Some(verdict(harness, case).await)
}

async fn verdict(harness: &dyn Harness, case: &Case) -> Verdict {
    if let Some(reason) = case.needs.missing(harness.offers()) {
        return Verdict::NotApplicable(reason);
    }
    let bench = Bench::new(harness).await;
    let patience = harness.world().sleep(PATIENCE);
    let checked = tokio::select! {
        biased;
        checked = (case.run)(&bench) => checked,
        () = patience => Err(format!("it does not end; stopped after {PATIENCE:?}")),
    };
    match checked {
        Ok(()) => Verdict::Passed,
        Err(why) => Verdict::Failed(why),
    }
}
