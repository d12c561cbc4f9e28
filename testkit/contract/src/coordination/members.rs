//! Who is a member.

use std::sync::Arc;

use everfold_engine::coordination::{CoordinationError, Held, JoinError, Role};
use everfold_engine::engine::Epoch;
use everfold_engine::{Layout, Offset, Partition, Timestamp};
use tokio::sync::Barrier;

use super::meeting::{LONG, Meeting, names};
use crate::bench::stroll;
use crate::check::{Checked, Tried, same};

pub(super) async fn a_member_is_listed_with_all_that_it_says(meeting: &Meeting) -> Checked {
    let mut node = meeting.node("ann \"1\" 'x' {,}\\ ü\0␀").await;
    node.member.weight = u32::MAX;
    node.member.zone = "".into();
    let roster = node.join(LONG).await.tried("joining")?;
    let listed = roster.living(node.id()).ok_or("who joined is not listed")?;
    same(&listed.member, &node.member, "what a member says of itself")?;
    same(
        &listed.held,
        &Vec::new(),
        "what it holds before its first beat",
    )?;
    let held: Vec<Held> = [
        (0, Role::Owner, 0),
        (3, Role::Standby, u64::from(u32::MAX) << 20),
        (3, Role::Unable, 0),
        (2, Role::Unable, 0),
    ]
    .map(|(partition, role, number)| Held {
        partition: Partition(partition),
        role,
        offset: Offset(number),
        epoch: Epoch(number + 7),
    })
    .into();
    node.member.weight = 3;
    let roster = node
        .beat_holding(held.clone(), LONG)
        .await
        .tried("a beat")?;
    let other = meeting.node("other").await;
    for roster in [roster, other.look().await?] {
        let listed = roster.living(node.id()).ok_or("who beats is not listed")?;
        same(
            &listed.member,
            &node.member,
            "what a member says, with its new weight",
        )?;
        same(&listed.held, &held, "what it holds")?;
        let until = Timestamp(roster.time.0 + LONG.as_micros() as i64);
        ensure!(
            listed.joined <= roster.time && listed.lease_until <= until,
            "joined at {}, the lease ends at {}, and it is {} now",
            listed.joined,
            listed.lease_until,
            roster.time
        );
        ensure!(
            listed.lease_until > roster.time,
            "a lease of the living has ended"
        );
    }
    let roster = node.beat(LONG).await.tried("a beat")?;
    let listed = roster.living(node.id()).ok_or("who beats is not listed")?;
    same(&listed.held, &Vec::new(), "what it holds after it let go")
}

pub(super) async fn members_are_listed_in_the_order_of_joining(meeting: &Meeting) -> Checked {
    let mut expected = Vec::new();
    for name in ["d", "b", "e", "a", "c"] {
        let node = meeting.joined(name).await?;
        expected.push(node.member.name.clone());
        same(&names(&node.look().await?), &expected, "the members")?;
        // The order of beats is not that of joining.
        node.beat(LONG).await.tried("a beat")?;
    }
    Ok(())
}

pub(super) async fn everybody_sees_the_same_order(meeting: &Meeting) -> Checked {
    const NODES: usize = 6;
    let barrier = Arc::new(Barrier::new(NODES));
    let mut joining = Vec::new();
    for number in 0..NODES {
        let (node, barrier) = (meeting.node(&format!("n{number}")).await, barrier.clone());
        let world = meeting.world.clone();
        joining.push(meeting.start("join", async move {
            barrier.wait().await;
            stroll(&*world).await;
            node.join(LONG).await
        }));
    }
    let mut seen = Vec::new();
    for joined in joining {
        let joined = joined.await.tried("joining")?;
        seen.push(names(&joined.tried("joining beside others")?));
    }
    let observer = meeting.node("observer").await;
    let all = names(&observer.look().await?);
    same(&all.len(), &NODES, "how many live")?;
    // Whoever came later stands behind all that were there.
    for seen in seen {
        same(
            &seen,
            &all[..seen.len()].to_vec(),
            "what one saw when it joined",
        )?;
    }
    Ok(())
}

pub(super) async fn a_living_name_is_taken(meeting: &Meeting) -> Checked {
    let first = meeting.joined("one").await?;
    let second = meeting.node("one").await;
    let refused = second.join(LONG).await;
    let Err(JoinError::NameTaken {
        name,
        address,
        until,
    }) = refused
    else {
        return Err(format!("a name was given twice: {refused:?}"));
    };
    same(&name, &first.member.name, "the name")?;
    same(&address, &first.member.address, "where the other is")?;
    let roster = first.look().await?;
    let lease = roster.living(first.id()).map(|living| living.lease_until);
    let until = Some(until);
    // A reference that measures leases by a clock of its own rounds.
    let apart = |(one, other): (Timestamp, Timestamp)| (one.0 - other.0).abs();
    let apart = lease.zip(until).map(apart);
    ensure!(
        apart.is_some_and(|micros| micros < 1_000_000),
        "the lease ends at {lease:?}, and {until:?} was said"
    );
    same(&roster.members.len(), &1, "how many live")?;
    first.leave().await?;
    second.join(LONG).await.tried("joining under a free name")?;
    Ok(())
}

pub(super) async fn of_many_that_join_under_one_name_one_lives(meeting: &Meeting) -> Checked {
    const NODES: usize = 4;
    for round in 0..4 {
        let name = format!("round {round}");
        let barrier = Arc::new(Barrier::new(NODES));
        let mut joining = Vec::new();
        for _ in 0..NODES {
            let (node, barrier) = (meeting.node(&name).await, barrier.clone());
            let world = meeting.world.clone();
            joining.push(meeting.start("join", async move {
                barrier.wait().await;
                stroll(&*world).await;
                (node.id(), node.join(LONG).await)
            }));
        }
        let mut winners = Vec::new();
        for joined in joining {
            match joined.await.tried("joining")? {
                (node, Ok(_)) => winners.push(node),
                (_, Err(JoinError::NameTaken { .. })) => {}
                (_, Err(error)) => return Err(format!("refused for another reason: {error:?}")),
            }
        }
        let observer = meeting.node("observer").await;
        let roster = observer.look().await?;
        let of_name = roster.members.iter().filter(|l| *l.member.name == *name);
        let living: Vec<_> = of_name.map(|living| living.member.node).collect();
        same(&winners.len(), &1, "how many were told that they joined")?;
        same(&living, &winners, "who lives under the name")?;
    }
    Ok(())
}

pub(super) async fn joining_again_keeps_the_place(meeting: &Meeting) -> Checked {
    let mut first = meeting.joined("first").await?;
    let second = meeting.joined("second").await?;
    // As who did not hear the answer does.
    first.member.address = "elsewhere:1".into();
    let roster = first.join(LONG).await.tried("joining again")?;
    same(
        &names(&roster),
        &["first", "second"].map(Into::into).into(),
        "the members",
    )?;
    same(&roster.assigner, &Some(first.id()), "who plans")?;
    let listed = roster
        .living(first.id())
        .map(|living| &living.member.address);
    same(&listed, &Some(&first.member.address), "its address")?;
    second.leave().await
}

pub(super) async fn another_cluster_is_refused(meeting: &Meeting) -> Checked {
    let first = meeting.joined("first").await?;
    let mut stranger = meeting.node("stranger").await;
    stranger.member.cluster = "cluster 2".into();
    let refused = stranger.join(LONG).await;
    let expected = JoinError::OtherCluster {
        living: first.member.cluster.clone(),
        asked: stranger.member.cluster.clone(),
    };
    same(&refused, &Err(expected), "joining of another cluster")?;
    ensure_form!(
        stranger.beat(LONG).await,
        Err(CoordinationError::Expired),
        "a beat of who was refused"
    );
    same(
        &names(&first.look().await?),
        &vec!["first".into()],
        "the members",
    )
}

pub(super) async fn another_application_is_refused(meeting: &Meeting) -> Checked {
    let first = meeting.joined("first").await?;
    let mut stranger = meeting.node("stranger").await;
    stranger.member.application = "bank".into();
    let expected = JoinError::OtherApplication {
        living: first.member.application.clone(),
        asked: stranger.member.application.clone(),
    };
    let refused = stranger.join(LONG).await;
    same(&refused, &Err(expected), "joining with another application")?;
    same(
        &names(&first.look().await?),
        &vec!["first".into()],
        "the members",
    )
}

pub(super) async fn another_layout_is_refused(meeting: &Meeting) -> Checked {
    let here = meeting.layout();
    for (number, partitions) in [
        (here.number, here.partitions + 1),
        (here.number + 1, here.partitions),
    ] {
        let asked = Layout { number, partitions };
        let mut node = meeting.node("one").await;
        node.member.layout = asked;
        let refused = node.join(LONG).await;
        let expected = JoinError::OtherLayout { here, asked };
        same(&refused, &Err(expected), "joining with another layout")?;
        same(&names(&node.look().await?), &Vec::new(), "the members")?;
    }
    Ok(())
}

pub(super) async fn who_joins_alone_founds_a_cluster(meeting: &Meeting) -> Checked {
    let first = meeting.joined("first").await?;
    let mut other = meeting.node("other").await;
    other.member.cluster = "cluster 2".into();
    other.member.application = "bank".into();
    first.leave().await?;
    other.join(LONG).await.tried("joining when nobody lives")?;
    ensure_form!(
        first.join(LONG).await,
        Err(JoinError::OtherCluster { .. }),
        "joining of the former cluster"
    );
    // Its own values are no obstacle to who changes them.
    other.member.cluster = "cluster 3".into();
    other.join(LONG).await.tried("joining again")?;
    Ok(())
}

pub(super) async fn who_left_is_gone_at_once(meeting: &Meeting) -> Checked {
    let first = meeting.joined("first").await?;
    let second = meeting.joined("second").await?;
    first.leave().await?;
    let roster = second.beat(LONG).await.tried("a beat")?;
    same(&names(&roster), &vec!["second".into()], "the members")?;
    ensure_form!(
        first.beat(LONG).await,
        Err(CoordinationError::Expired),
        "a beat of who left"
    );
    first.leave().await?;
    meeting.node("never").await.leave().await?;
    let roster = first.join(LONG).await.tried("joining after leaving")?;
    same(
        &names(&roster),
        &["second", "first"].map(Into::into).into(),
        "the members",
    )
}

pub(super) async fn who_looks_is_no_member(meeting: &Meeting) -> Checked {
    let observer = meeting.node("observer").await;
    let roster = observer.look().await?;
    same(&names(&roster), &Vec::new(), "the members")?;
    same(&roster.assigner, &None, "who plans")?;
    same(&roster.plan.number, &0, "the number of the plan")?;
    let places = roster.plan.places.iter();
    same(
        &places.map(|place| place.owner).collect::<Vec<_>>(),
        &meeting.layout().all().map(|_| None).collect(),
        "the owners before anybody has planned",
    )?;
    meeting.joined("first").await?;
    same(
        &names(&observer.look().await?),
        &vec!["first".into()],
        "the members",
    )
}
