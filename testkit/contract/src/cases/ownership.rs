//! Who may write.

use std::sync::Arc;

use everfold_engine::engine::{AppendError, Area, Batch, Epoch, OwnerError, Put, PutError};
use everfold_engine::engine::{ReadError, ReadLimit, Revision};
use everfold_engine::{Engine, Offset, Partition, Stamp};
use tokio::sync::Barrier;

use crate::bench::{Bench, P, read_all, stroll};
use crate::check::{Checked, Tried, same};
use crate::harness::PARTITIONS;
use crate::owner::Owner;
use crate::sample::{single, unit};

/// Everything that needs an owner, by an epoch that is none.
async fn nothing_is_allowed(engine: &dyn Engine, epoch: Epoch, batch: Batch) -> Checked {
    let put = Put {
        area: Area {
            name: "fenced".into(),
            partition: P,
        },
        epoch,
        incarnation: engine.identity().incarnation,
        previous: Revision(0),
        clear: false,
        changes: vec![("key".into(), Some("value".into()))],
    };
    ensure_form!(
        engine.append(P, epoch, batch).await,
        Err(AppendError::Fenced(P)),
        "append"
    );
    ensure_form!(engine.put(put).await, Err(PutError::Fenced(P)), "put");
    ensure_form!(
        engine.renew(P, epoch, Stamp(1)).await,
        Err(OwnerError::Fenced { partition: P, .. }),
        "renew"
    );
    ensure_form!(
        engine.confirm(P, epoch).await,
        Err(OwnerError::Fenced { partition: P, .. }),
        "confirm"
    );
    ensure_form!(
        engine.release(P, epoch).await,
        Err(OwnerError::Fenced { partition: P, .. }),
        "release"
    );
    Ok(())
}

pub(crate) async fn claims_grow_and_fence_every_earlier_epoch(bench: &Bench) -> Checked {
    let engine = bench.engine()?;
    let mut earlier: Vec<Owner> = Vec::new();
    let mut expected = Vec::new();
    for _ in 0..4 {
        let mut owner = Owner::claim(engine.clone(), P).await?;
        for old in &mut earlier {
            ensure!(
                owner.epoch() > old.epoch(),
                "{:?} was claimed after {:?}",
                owner.epoch(),
                old.epoch()
            );
            old.tail = owner.tail.clone();
            let batch = old.compose(vec![single("fenced")]);
            nothing_is_allowed(&*engine, old.epoch(), batch).await?;
        }
        engine.confirm(P, owner.epoch()).await.tried("confirming")?;
        let floor = owner.tail.stamp;
        engine
            .renew(P, owner.epoch(), floor)
            .await
            .tried("renewing")?;
        expected.extend(owner.append(vec![single("a")]).await?);
        earlier.push(owner);
    }
    same(
        &read_all(&*engine, P, ReadLimit::default()).await?,
        &expected,
        "what can be read",
    )
}

pub(crate) async fn an_epoch_that_was_never_given_owns_nothing(bench: &Bench) -> Checked {
    let engine = bench.engine()?;
    let mut owner = Owner::claim(engine.clone(), P).await?;
    for epoch in [0, owner.epoch().0 + 1, u64::MAX] {
        let kept = owner.tail.clone();
        let batch = owner.compose(vec![single("a")]);
        owner.tail = kept;
        nothing_is_allowed(&*engine, Epoch(epoch), batch).await?;
    }
    owner.append(vec![single("a")]).await.map(drop)
}

pub(crate) async fn a_released_partition_has_no_owner(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let kept = owner.append(vec![single("a")]).await?;
    let engine = owner.engine.clone();
    engine
        .release(P, owner.epoch())
        .await
        .tried("releasing an owned partition")?;
    let batch = owner.compose(vec![single("b")]);
    nothing_is_allowed(&*engine, owner.epoch(), batch).await?;
    let mut next = Owner::claim(engine, P).await?;
    ensure!(next.epoch() > owner.epoch(), "the epoch did not grow");
    same(&next.all().await?, &kept, "what the next owner finds")?;
    next.append(vec![single("b")]).await.map(drop)
}

pub(crate) async fn a_claim_finds_everything_acknowledged(bench: &Bench) -> Checked {
    let engine = bench.engine()?;
    let mut expected = Vec::new();
    for round in 0..20 {
        let mut owner = Owner::claim(engine.clone(), P).await?;
        let found = read_all(&*engine, P, ReadLimit::default()).await?;
        same(&found, &expected, "what the owner finds")?;
        let last = expected
            .last()
            .map_or(Offset(0), |record: &everfold_engine::Record| {
                record.local.offset
            });
        ensure!(
            owner.claim.safe_head >= last,
            "the claim's safe head {} lies before {last}, which was acknowledged",
            owner.claim.safe_head
        );
        for _ in 0..round % 3 {
            // Not waited for: acknowledged is enough.
            let batch = owner.compose(vec![unit("a", 2), single("b")]);
            let at = owner.try_append(batch.clone()).await.tried("appending")?;
            expected.extend(owner.expected(&batch, at)?);
        }
    }
    Ok(())
}

/// What became of one append of the old owner.
struct Try {
    result: Result<Vec<everfold_engine::Record>, AppendError>,
    /// The claim had returned before the append began.
    late: bool,
}

pub(crate) async fn a_claim_racing_appends_never_lets_both_win(bench: &Bench) -> Checked {
    let engine = bench.engine()?;
    let mut expected = Vec::new();
    let mut fenced = 0;
    for _ in 0..30 {
        let mut old = Owner::claim(engine.clone(), P).await?;
        let barrier = Arc::new(Barrier::new(2));
        let claimed = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (gate, seen, world) = (barrier.clone(), claimed.clone(), bench.world.clone());
        let appends = bench.start("old owner", async move {
            gate.wait().await;
            let mut tries = Vec::new();
            loop {
                stroll(&*world).await;
                let late = seen.load(std::sync::atomic::Ordering::SeqCst);
                let batch = old.compose(vec![single("a"), unit("b", 3)]);
                let result = match old.try_append(batch.clone()).await {
                    Ok(at) => Ok(old.expected(&batch, at)?),
                    Err(error) => Err(error),
                };
                let over = late || result.is_err();
                tries.push(Try { result, late });
                if over {
                    return Ok::<_, crate::check::Failure>(tries);
                }
            }
        });
        barrier.wait().await;
        stroll(&*bench.world).await;
        let claim = engine.claim(P).await.tried("claiming")?;
        claimed.store(true, std::sync::atomic::Ordering::SeqCst);
        for attempt in appends.await.tried("the old owner")?? {
            match attempt.result {
                Ok(records) => {
                    ensure!(
                        !attempt.late,
                        "an append that began after the claim had returned was acknowledged"
                    );
                    let last = records.last().map(|record| record.local.offset);
                    ensure!(
                        last <= Some(claim.safe_head),
                        "an old owner's append was acknowledged at {last:?}, past the safe head {} \
                         that the new owner had been told",
                        claim.safe_head
                    );
                    expected.extend(records);
                }
                Err(AppendError::Fenced(P)) => fenced += 1,
                Err(other) => return Err(format!("expected to be fenced, got {other:?}")),
            }
        }
        // What was fenced must not surface behind the new owner either.
        let mut new = Owner::claim(engine.clone(), P).await?;
        expected.extend(new.append(vec![single("new")]).await?);
        same(&new.all().await?, &expected, "what can be read")?;
    }
    ensure!(fenced > 0, "no append was fenced");
    Ok(())
}

pub(crate) async fn confirm_fails_once_another_claimed(bench: &Bench) -> Checked {
    let engine = bench.engine()?;
    for _ in 0..20 {
        let old = engine.claim(P).await.tried("claiming")?;
        engine.confirm(P, old.epoch).await.tried("confirming")?;
        let (theirs, world) = (engine.clone(), bench.world.clone());
        let other = bench.start("other", async move {
            stroll(&*world).await;
            theirs.claim(P).await
        });
        stroll(&*bench.world).await;
        // May go either way, but never hang.
        let _ = engine.confirm(P, old.epoch).await;
        let new = other.await.tried("the other")?.tried("claiming")?;
        ensure_form!(
            engine.confirm(P, old.epoch).await,
            Err(OwnerError::Fenced { .. }),
            "confirm after a claim had returned"
        );
        engine.confirm(P, new.epoch).await.tried("confirming")?;
    }
    Ok(())
}

pub(crate) async fn the_floor_covers_what_was_appended(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    for _ in 0..5 {
        owner.append(vec![unit("a", 3)]).await?;
        let next = Owner::claim(owner.engine.clone(), P).await?;
        ensure!(
            next.claim.floor >= owner.tail.stamp,
            "the floor {:?} lies below the last stamp {:?}",
            next.claim.floor,
            owner.tail.stamp
        );
        owner = next;
    }
    Ok(())
}

pub(crate) async fn a_raised_floor_outlives_the_claim(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let engine = owner.engine.clone();
    let raised = Stamp::next(
        owner.tail.stamp,
        owner.claim.time.plus_days(1),
        owner.partition,
    );
    engine
        .renew(P, owner.epoch(), raised)
        .await
        .tried("renewing")?;
    let below = owner.compose(vec![single("below")]);
    ensure!(
        owner.try_append(below).await.is_err(),
        "a stamp below the floor was appended"
    );
    for _ in 0..3 {
        let claim = engine.claim(P).await.tried("claiming")?;
        ensure!(
            claim.floor >= raised,
            "the floor fell from {raised:?} to {:?}",
            claim.floor
        );
        // A lower floor is no reason to lower it.
        engine
            .renew(P, claim.epoch, Stamp(1))
            .await
            .tried("renewing")?;
    }
    let mut next = Owner::claim(engine, P).await?;
    next.append(vec![single("above")]).await.map(drop)
}

pub(crate) async fn partitions_are_independent(bench: &Bench) -> Checked {
    let engine = bench.engine()?;
    let mut owners = Vec::new();
    for partition in engine.identity().layout.all() {
        owners.push((Owner::claim(engine.clone(), partition).await?, Vec::new()));
    }
    same(&owners.len(), &usize::from(PARTITIONS), "partitions")?;
    for round in 0..6 {
        for (index, (owner, expected)) in owners.iter_mut().enumerate() {
            if round % (index + 1) == 0 {
                expected.extend(owner.append(vec![unit("a", index + 1)]).await?);
            }
        }
    }
    // Taking one over does not touch the others.
    engine.claim(P).await.tried("claiming")?;
    for (owner, expected) in &mut owners {
        if owner.partition != P {
            expected.extend(owner.append(vec![single("a")]).await?);
        }
        same(&owner.all().await?, expected, "what can be read")?;
    }
    Ok(())
}

pub(crate) async fn a_partition_that_is_not_there_is_refused(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let (engine, epoch) = (owner.engine.clone(), owner.epoch());
    for partition in [Partition(PARTITIONS), Partition(u16::MAX)] {
        ensure_form!(
            engine.claim(partition).await,
            Err(OwnerError::NoPartition(_)),
            "claim"
        );
        ensure_form!(
            engine.renew(partition, epoch, Stamp(1)).await,
            Err(OwnerError::NoPartition(_)),
            "renew"
        );
        ensure_form!(
            engine.release(partition, epoch).await,
            Err(OwnerError::NoPartition(_)),
            "release"
        );
        ensure_form!(
            engine.confirm(partition, epoch).await,
            Err(OwnerError::NoPartition(_)),
            "confirm"
        );
        let read = engine.read(partition, Offset(0), ReadLimit::default());
        ensure_form!(read.await, Err(ReadError::NoPartition(_)), "read");
        ensure_form!(
            engine.safe_head(partition).await,
            Err(ReadError::NoPartition(_)),
            "safe_head"
        );
        ensure_form!(
            engine.wait(partition, Offset(0)).await,
            Err(ReadError::NoPartition(_)),
            "wait"
        );
        let batch = owner.compose(vec![single("a")]);
        ensure_form!(
            engine.append(partition, epoch, batch).await,
            Err(AppendError::Refused(_) | AppendError::Fenced(_)),
            "append"
        );
    }
    Ok(())
}

pub(crate) async fn the_engine_says_what_it_is(bench: &Bench) -> Checked {
    let engine = bench.engine()?;
    let findings = engine.doctor();
    ensure!(!findings.is_empty(), "the doctor looked at nothing");
    for finding in findings {
        ensure!(
            !finding.name.is_empty() && !finding.value.is_empty(),
            "the doctor found something that it does not name: {finding:?}"
        );
    }
    ensure!(
        !engine.durability().trim().is_empty(),
        "nothing is said of durability"
    );
    let limits = engine.limits();
    ensure!(
        0 < limits.event_bytes
            && limits.event_bytes <= limits.unit_bytes
            && limits.unit_bytes <= limits.batch_bytes
            && limits.batch_records > 0,
        "the limits do not fit into each other: {limits:?}"
    );
    ensure!(
        engine.indexes_entities() == bench.offers.entities,
        "the engine and the harness do not agree on whether entities can be read"
    );
    ensure!(!engine.identity().log.is_empty(), "the log has no name");
    Ok(())
}
