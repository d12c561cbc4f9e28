//! Who plans, and what becomes of plans.

use std::sync::Arc;

use everfold_engine::Timestamp;
use everfold_engine::coordination::{NodeId, Place, Plan, PlanError, Roster};
use tokio::sync::Barrier;

use super::meeting::{LONG, Meeting, Node};
use crate::bench::stroll;
use crate::check::{Checked, Tried, same};

pub(super) async fn the_first_member_plans_and_stays_the_one(meeting: &Meeting) -> Checked {
    let first = meeting.joined("z").await?;
    for name in ["a", "b", "c"] {
        let later = meeting.joined(name).await?;
        for roster in [first.look().await?, later.look().await?] {
            same(&roster.assigner, &Some(first.id()), "who plans")?;
        }
        if name == "b" {
            later.leave().await?;
        }
    }
    Ok(())
}

pub(super) async fn the_next_member_plans_when_the_first_is_gone(meeting: &Meeting) -> Checked {
    let silent = meeting.node("silent").await;
    silent.join(meeting.short).await.tried("joining")?;
    let second = meeting.joined("second").await?;
    let third = meeting.joined("third").await?;
    meeting.gone(&silent).await?;
    let roster = third.look().await?;
    let chosen = roster.assigner;
    ensure!(
        chosen.is_some_and(|node| roster.living(node).is_some()),
        "{chosen:?} plans and does not live"
    );
    // Who comes back does not take it back.
    let roster = silent.join(LONG).await.tried("joining again")?;
    same(&roster.assigner, &chosen, "who plans")?;
    let both = [&second, &third];
    let Some(assigner) = both.iter().find(|node| chosen == Some(node.id())) else {
        return Err(format!("{chosen:?} plans, and never joined"));
    };
    let plan = meeting.plan(&roster, assigner.id(), "the next");
    assigner.plan(plan).await.tried("planning")?;
    assigner.leave().await?;
    let roster = silent.look().await?;
    let next = roster.assigner;
    ensure!(
        next.is_some_and(|node| node != assigner.id() && roster.living(node).is_some()),
        "{next:?} plans after {} left",
        assigner.id()
    );
    Ok(())
}

pub(super) async fn everybody_sees_a_plan_as_it_was_made(meeting: &Meeting) -> Checked {
    let first = meeting.joined("first").await?;
    let second = meeting.joined("second").await?;
    let third = meeting.joined("third").await?;
    let mut last = second.look().await?.plan;
    for round in 0_u64..4 {
        let nodes = [first.id(), second.id(), third.id()];
        let place = |index: usize| Place {
            owner: (index > 0).then(|| nodes[(index + round as usize) % 3]),
            standbys: match (index + round as usize) % 3 {
                0 => vec![],
                1 => vec![NodeId(everfold_engine::Uuid::from_u128(7))],
                _ => vec![nodes[0], nodes[1]],
            },
            since: Timestamp(1_700_000_000_000_001 + round as i64),
            reason: format!("because \"{index}\" 'of' {{,}}\\ \0␀ {round}").into(),
        };
        let places = meeting
            .layout()
            .all()
            .map(|partition| place(partition.index()));
        let plan = Plan {
            number: last.number + 1,
            places: places.collect(),
        };
        // The first two rounds say nothing new of some places.
        first.plan(plan.clone()).await.tried("planning")?;
        same(&second.look().await?.plan, &plan, "the plan, looked at")?;
        for node in [&first, &second, &third] {
            let roster = node.beat(LONG).await.tried("a beat")?;
            same(&roster.plan, &plan, "the plan, with a beat")?;
            let again = node.beat(LONG).await.tried("another beat")?;
            same(&again.plan, &plan, "the plan, with another beat")?;
        }
        let joined = meeting.node(&format!("late {round}")).await;
        let roster = joined.join(LONG).await.tried("joining")?;
        same(&roster.plan, &plan, "the plan, when joining")?;
        last = plan;
    }
    Ok(())
}

async fn unchanged(node: &Node, before: &Roster) -> Checked {
    same(
        &node.look().await?.plan,
        &before.plan,
        "the plan, that nobody may have changed",
    )
}

pub(super) async fn nobody_else_plans(meeting: &Meeting) -> Checked {
    let first = meeting.joined("first").await?;
    let second = meeting.joined("second").await?;
    let stranger = meeting.node("stranger").await;
    let before = first.look().await?;
    for node in [&second, &stranger] {
        let plan = meeting.plan(&before, node.id(), "mine");
        let refused = node.plan(plan).await;
        let assigner = Some(first.id());
        same(
            &refused,
            &Err(PlanError::NotAssigner { assigner }),
            "another's plan",
        )?;
        unchanged(&first, &before).await?;
    }
    first.leave().await?;
    let plan = meeting.plan(&before, first.id(), "still mine");
    ensure_form!(
        first.plan(plan).await,
        Err(PlanError::NotAssigner { .. }),
        "the plan of who left"
    );
    unchanged(&first, &before).await
}

pub(super) async fn an_assigner_that_woke_up_too_late_cannot_plan(meeting: &Meeting) -> Checked {
    let frozen = meeting.node("frozen").await;
    let before = frozen.join(meeting.short).await.tried("joining")?;
    let prepared = meeting.plan(&before, frozen.id(), "as it was");
    meeting.gone(&frozen).await?;
    // Alone, before anybody has noticed, and beside a successor.
    ensure_form!(
        frozen.plan(prepared.clone()).await,
        Err(PlanError::NotAssigner { assigner: None }),
        "a plan after the lease"
    );
    let second = meeting.joined("second").await?;
    let refused = frozen.plan(prepared.clone()).await;
    let assigner = Some(second.id());
    same(
        &refused,
        &Err(PlanError::NotAssigner { assigner }),
        "a plan after the lease",
    )?;
    unchanged(&second, &before).await?;
    frozen.join(LONG).await.tried("joining again")?;
    let refused = frozen.plan(prepared).await;
    same(
        &refused,
        &Err(PlanError::NotAssigner { assigner }),
        "a plan of who came back",
    )?;
    unchanged(&second, &before).await
}

pub(super) async fn a_plan_follows_the_stored_one(meeting: &Meeting) -> Checked {
    let first = meeting.joined("first").await?;
    let mut roster = first.look().await?;
    for _ in 0..3 {
        let plan = meeting.plan(&roster, first.id(), "in order");
        first.plan(plan.clone()).await.tried("planning")?;
        roster = first.look().await?;
        same(&roster.plan, &plan, "the plan")?;
    }
    let stored = roster.plan.number;
    for number in [0, stored - 1, stored, stored + 2, u64::MAX >> 1] {
        let mut plan = meeting.plan(&roster, first.id(), "out of order");
        plan.number = number;
        let refused = first.plan(plan).await;
        same(
            &refused,
            &Err(PlanError::Superseded { stored }),
            "a plan out of order",
        )?;
        unchanged(&first, &roster).await?;
    }
    Ok(())
}

/// Lets plans race that all follow the same one; which of them were stored.
async fn race(meeting: &Meeting, plans: Vec<(Node, Plan)>) -> Checked<Vec<Plan>> {
    let barrier = Arc::new(Barrier::new(plans.len()));
    let mut planning = Vec::new();
    for (node, plan) in plans {
        let (barrier, world) = (barrier.clone(), meeting.world.clone());
        planning.push(meeting.start("plan", async move {
            barrier.wait().await;
            stroll(&*world).await;
            node.plan(plan.clone()).await.map(|()| plan)
        }));
    }
    let mut stored = Vec::new();
    for planned in planning {
        match planned.await.tried("planning")? {
            Ok(plan) => stored.push(plan),
            Err(PlanError::Superseded { .. } | PlanError::NotAssigner { .. }) => {}
            Err(error) => return Err(format!("refused for another reason: {error:?}")),
        }
    }
    Ok(stored)
}

pub(super) async fn of_plans_made_at_once_one_is_stored(meeting: &Meeting) -> Checked {
    let first = meeting.joined("first").await?;
    let mut same_process = meeting.node("first").await;
    same_process.member = first.member.clone();
    for _ in 0..5 {
        let roster = first.look().await?;
        let nodes = [&first, &same_process, &first, &same_process].into_iter();
        let plans = nodes.enumerate().map(|(number, node)| {
            let reason = format!("plan {number}");
            (node.clone(), meeting.plan(&roster, first.id(), &reason))
        });
        let stored = race(meeting, plans.collect()).await?;
        same(
            &stored.len(),
            &1,
            "how many plans of one number were stored",
        )?;
        same(
            &Some(&first.look().await?.plan),
            &stored.first(),
            "the plan",
        )?;
    }
    Ok(())
}

pub(super) async fn plans_of_two_members_are_never_both_stored(meeting: &Meeting) -> Checked {
    // The first leaves while both plan: whatever the order, one number is one plan.
    for round in 0..5 {
        let first = meeting.joined(&format!("first {round}")).await?;
        let second = meeting.joined(&format!("second {round}")).await?;
        let roster = first.look().await?;
        let leaving = first.clone();
        let left = meeting.start("leave", async move { leaving.leave().await });
        let plans = [&first, &second].map(|node| {
            let reason = &node.member.name;
            (node.clone(), meeting.plan(&roster, node.id(), reason))
        });
        let stored = race(meeting, plans.into()).await?;
        left.await.tried("leaving")??;
        ensure!(
            stored.len() <= 1,
            "both plans of number {} were stored",
            roster.plan.number + 1
        );
        let expected = stored.into_iter().next().unwrap_or(roster.plan);
        same(&second.look().await?.plan, &expected, "the plan")?;
        second.leave().await?;
    }
    Ok(())
}

pub(super) async fn a_malformed_plan_is_refused(meeting: &Meeting) -> Checked {
    let first = meeting.joined("first").await?;
    let before = first.look().await?;
    let good = meeting.plan(&before, first.id(), "good");
    let other = NodeId::draw(&*meeting.world);
    let change = |change: &dyn Fn(&mut Plan)| {
        let mut plan = good.clone();
        change(&mut plan);
        plan
    };
    for bad in [
        change(&|plan| drop(plan.places.pop())),
        change(&|plan| plan.places.push(plan.places[0].clone())),
        change(&|plan| plan.places.clear()),
        change(&|plan| plan.places[1].standbys = vec![first.id()]),
        change(&|plan| plan.places[1].standbys = vec![other, other]),
    ] {
        ensure_form!(
            first.plan(bad).await,
            Err(PlanError::Invalid(_)),
            "a malformed plan"
        );
        unchanged(&first, &before).await?;
    }
    first.plan(good).await.tried("planning")
}

pub(super) async fn plans_outlive_those_who_made_them(meeting: &Meeting) -> Checked {
    let first = meeting.joined("first").await?;
    let roster = first.look().await?;
    let plan = meeting.plan(&roster, first.id(), "kept");
    first.plan(plan.clone()).await.tried("planning")?;
    first.leave().await?;
    let second = meeting.node("second").await;
    let roster = second.join(LONG).await.tried("joining")?;
    same(&roster.plan, &plan, "the plan that was found")?;
    let next = meeting.plan(&roster, second.id(), "the next");
    same(&next.number, &(plan.number + 1), "its number")?;
    second.plan(next).await.tried("planning after it")
}
