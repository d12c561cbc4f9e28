//! How long a member lives.

use everfold_engine::coordination::CoordinationError;

use super::meeting::{LONG, Meeting, names};
use crate::check::{Checked, Tried, same};

pub(super) async fn a_silent_member_is_gone_and_its_name_is_free(meeting: &Meeting) -> Checked {
    let silent = meeting.node("one").await;
    silent.join(meeting.short).await.tried("joining")?;
    meeting.gone(&silent).await?;
    let next = meeting.node("one").await;
    let roster = next.join(LONG).await.tried("joining under its name")?;
    let nodes = roster.members.iter().map(|living| living.member.node);
    same(&nodes.collect::<Vec<_>>(), &vec![next.id()], "the members")?;
    ensure_form!(
        silent.beat(LONG).await,
        Err(CoordinationError::Expired),
        "a beat of who lost its name"
    );
    // What it says last must not harm its successor.
    silent.leave().await?;
    same(
        &names(&next.look().await?),
        &vec!["one".into()],
        "the members",
    )
}

pub(super) async fn who_woke_up_too_late_cannot_beat(meeting: &Meeting) -> Checked {
    let frozen = meeting.node("frozen").await;
    frozen.join(meeting.short).await.tried("joining")?;
    let other = meeting.joined("other").await?;
    meeting.gone(&frozen).await?;
    for _ in 0..2 {
        ensure_form!(
            frozen.beat(LONG).await,
            Err(CoordinationError::Expired),
            "a beat after the lease"
        );
    }
    let roster = other.beat(LONG).await.tried("a beat")?;
    same(&names(&roster), &vec!["other".into()], "the members")?;
    let roster = frozen.join(LONG).await.tried("joining again")?;
    let expected = ["other", "frozen"].map(Into::into).into();
    same(&names(&roster), &expected, "the members")?;
    frozen
        .beat(LONG)
        .await
        .tried("a beat after joining again")?;
    Ok(())
}

pub(super) async fn the_last_beat_says_how_long_it_counts(meeting: &Meeting) -> Checked {
    let node = meeting.joined("one").await?;
    let roster = node.beat(meeting.short).await.tried("a beat")?;
    let living = roster.living(node.id()).ok_or("who beats is not listed")?;
    ensure!(
        living.lease_until.0 - roster.time.0 <= meeting.short.as_micros() as i64,
        "a lease of {:?} ends at {}, and it is {} now",
        meeting.short,
        living.lease_until,
        roster.time
    );
    meeting.gone(&node).await
}

pub(super) async fn a_member_that_beats_stays(meeting: &Meeting) -> Checked {
    let silent = meeting.node("silent").await;
    silent.join(meeting.short).await.tried("joining")?;
    let node = meeting.node("beating").await;
    let mut before = meeting.world.elapsed();
    node.join(meeting.short).await.tried("joining")?;
    let begin = before;
    while meeting.world.elapsed() - begin < meeting.short * 3 {
        meeting.world.sleep(meeting.short / 10).await;
        let now = meeting.world.elapsed();
        match node.beat(meeting.short).await {
            Ok(roster) => {
                ensure!(
                    roster.living(node.id()).is_some(),
                    "who beats is not listed"
                );
                before = now;
            }
            // Too late after all: that was the machine, not the coordinator.
            Err(CoordinationError::Expired)
                if meeting.world.elapsed() - before >= meeting.short =>
            {
                before = meeting.world.elapsed();
                node.join(meeting.short).await.tried("joining again")?;
            }
            Err(error) => return Err(format!("a beat in time failed: {error:?}")),
        }
    }
    meeting.gone(&silent).await
}

pub(super) async fn clocks_of_nodes_count_for_nothing(meeting: &Meeting) -> Checked {
    let right = meeting.joined("right").await?;
    for (name, hours) in [("ahead", 1), ("behind", -1)] {
        let node = meeting.node_ahead(name, hours).await;
        let joined = node.join(LONG / 4).await.tried("joining")?;
        let roster = node.beat(LONG / 4).await.tried("a beat")?;
        ensure!(roster.living(node.id()).is_some(), "{name} is not listed");
        ensure!(
            roster.living(right.id()).is_some(),
            "{name} has ended others"
        );
        let seen = right.look().await?;
        let living = seen.living(node.id());
        let living = living.ok_or_else(|| format!("{name} is gone for others"))?;
        ensure!(
            joined.time <= roster.time && roster.time <= seen.time,
            "the time is not the store's: {}, then {}, then {}",
            joined.time,
            roster.time,
            seen.time
        );
        ensure!(
            living.lease_until.0 <= seen.time.0 + (LONG / 4).as_micros() as i64,
            "{name} lives until {}, and it is {} now",
            living.lease_until,
            seen.time
        );
        // Its lease ends as everybody's.
        node.beat(meeting.short).await.tried("a beat")?;
        meeting.gone(&node).await?;
    }
    Ok(())
}
