//! What is still there afterwards.

use everfold_engine::engine::AppendError;
use everfold_engine::{Engine, Partition, Record, Stamp};

use crate::bench::{Bench, P, stroll};
use crate::cases::area::{area, holds, put};
use crate::cases::entity::all_entities_are_found;
use crate::check::{Checked, Tried, same};
use crate::harness::Ending;
use crate::owner::Owner;
use crate::sample::{single, unit, unusual};

/// Lets go of an owner, engine and all, and opens the log again.
async fn restart(
    bench: &Bench,
    owner: Owner,
    ending: Ending,
) -> Checked<std::sync::Arc<dyn Engine>> {
    Ok(bench.reopen(owner.engine, ending).await)
}

pub(crate) async fn acknowledged_appends_survive_a_crash(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let mut expected = Vec::new();
    for round in 0..8 {
        for _ in 0..round % 3 + 1 {
            let units = vec![single("a"), unusual(&*bench.world), unit("b", 2)];
            let batch = owner.compose(units);
            // Acknowledged is enough; that it can be read already is not needed.
            let at = owner.try_append(batch.clone()).await.tried("appending")?;
            expected.extend(owner.expected(&batch, at)?);
        }
        let engine = restart(bench, owner, Ending::Crashed).await?;
        owner = Owner::claim(engine, P).await?;
        same(&owner.all().await?, &expected, "after a crash")?;
    }
    Ok(())
}

pub(crate) async fn appends_in_flight_at_a_crash_are_whole_or_absent(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let mut expected: Vec<Record> = Vec::new();
    for round in 0..6 {
        let mut acknowledged = Vec::new();
        for _ in 0..3 {
            let batch = owner.compose(vec![single("a"), unit("b", 3)]);
            let at = owner.try_append(batch.clone()).await.tried("appending")?;
            acknowledged.extend(owner.expected(&batch, at)?);
        }
        expected.extend(acknowledged);
        // Left behind after a few polls: nobody will know what became of it.
        let batch = owner.compose(vec![unit("lost", 4)]);
        let left = tokio::select! {
            biased;
            result = owner.try_append(batch.clone()) => Some(result),
            () = stroll(&*bench.world) => None,
        };
        let unknown = left.is_none();
        if let Some(result) = left {
            let at = result.tried("appending")?;
            expected.extend(owner.expected(&batch, at)?);
        }
        let epoch = owner.epoch().0;
        let engine = restart(bench, owner, Ending::Crashed).await?;
        owner = Owner::claim(engine, P).await?;
        let found = owner.all().await?;
        let extra = found.len().checked_sub(expected.len());
        ensure!(
            extra == Some(0) || (unknown && extra == Some(4)),
            "after crash {round}, {} records are there instead of {}",
            found.len(),
            expected.len()
        );
        same(
            &found[..expected.len()].to_vec(),
            &expected,
            "after a crash",
        )?;
        for record in &found[expected.len()..] {
            same(&record.local.batch, &batch.id, "the batch in flight")?;
            same(&record.local.epoch, &epoch, "the epoch in flight")?;
        }
        expected = found;
    }
    Ok(())
}

pub(crate) async fn a_closed_log_opens_again(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let mut expected = Vec::new();
    for _ in 0..4 {
        expected.extend(owner.append(vec![single("a"), unit("b", 2)]).await?);
        let engine = restart(bench, owner, Ending::Closed).await?;
        owner = Owner::claim(engine, P).await?;
        same(&owner.all().await?, &expected, "after closing")?;
    }
    Ok(())
}

pub(crate) async fn identity_and_epochs_outlive_the_process(bench: &Bench) -> Checked {
    let mut engine = bench.engine()?;
    let identity = engine.identity().clone();
    let mut last = engine.claim(P).await.tried("claiming")?.epoch;
    for ending in [Ending::Crashed, Ending::Closed, Ending::Crashed] {
        engine = bench.reopen(engine, ending).await;
        same(engine.identity(), &identity, "identity")?;
        let mut owner = Owner::claim(engine.clone(), P).await?;
        ensure!(
            owner.epoch() > last,
            "{:?} was claimed, before the restart it was {last:?}",
            owner.epoch()
        );
        let batch = owner.compose(vec![single("a")]);
        ensure_form!(
            engine.append(P, last, batch).await,
            Err(AppendError::Fenced(P)),
            "an append of an owner from before the restart"
        );
        last = owner.epoch();
    }
    Ok(())
}

pub(crate) async fn the_floor_outlives_the_process(bench: &Bench) -> Checked {
    let mut engine = bench.engine()?;
    let mut floors = Vec::new();
    for partition in engine.identity().layout.all() {
        let owner = Owner::claim(engine.clone(), partition).await?;
        let days = i64::from(partition.0) + 1;
        let floor = Stamp::next(
            owner.tail.stamp,
            owner.claim.time.plus_days(days),
            partition,
        );
        engine
            .renew(partition, owner.epoch(), floor)
            .await
            .tried("renewing")?;
        floors.push(floor);
    }
    for ending in [Ending::Crashed, Ending::Closed] {
        engine = bench.reopen(engine, ending).await;
        for (partition, floor) in (0..).map(Partition).zip(&floors) {
            let claim = engine.claim(partition).await.tried("claiming")?;
            ensure!(
                claim.floor >= *floor,
                "the floor of {partition} fell from {floor:?} to {:?}",
                claim.floor
            );
        }
    }
    Ok(())
}

pub(crate) async fn areas_outlive_the_process(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    put(
        &owner,
        &area("a"),
        0,
        &[("k", Some("0")), ("gone", Some("1"))],
    )
    .await?;
    for (revision, ending) in (1..).zip([Ending::Crashed, Ending::Closed, Ending::Crashed]) {
        let value = revision.to_string();
        put(
            &owner,
            &area("a"),
            revision,
            &[("k", Some(&value)), ("gone", None)],
        )
        .await?;
        let engine = restart(bench, owner, ending).await?;
        holds(&*engine, &area("a"), revision + 1, &[("k", &value)]).await?;
        holds(&*engine, &area("b"), 0, &[]).await?;
        owner = Owner::claim(engine, P).await?;
    }
    Ok(())
}

pub(crate) async fn entities_outlive_the_process(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    for ending in [Ending::Crashed, Ending::Closed, Ending::Crashed] {
        owner
            .append(vec![single("a"), unusual(&*bench.world), unit("b", 2)])
            .await?;
        let engine = restart(bench, owner, ending).await?;
        owner = Owner::claim(engine, P).await?;
        all_entities_are_found(&owner).await?;
        owner.append(vec![single("a"), single("c")]).await?;
        all_entities_are_found(&owner).await?;
    }
    Ok(())
}
