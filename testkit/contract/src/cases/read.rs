//! What readers see.

use everfold_engine::engine::ReadLimit;
use everfold_engine::{Engine, Offset, Record};

use crate::bench::{Bench, P, read_all, read_chunk, stroll};
use crate::check::{Checked, Tried, same};
use crate::owner::Owner;
use crate::sample::{noise, single, unit};

const LIMITS: [(usize, usize); 8] = [
    (0, 0),
    (1, 1),
    (1, usize::MAX),
    (2, 1 << 20),
    (3, 40),
    (7, 300),
    (usize::MAX, 64),
    (usize::MAX, usize::MAX),
];

fn limits() -> impl Iterator<Item = ReadLimit> {
    LIMITS
        .into_iter()
        .map(|(records, bytes)| ReadLimit { records, bytes })
}

/// Batches of units of several sizes.
async fn fill(bench: &Bench, owner: &mut Owner) -> Checked<Vec<Record>> {
    let mut expected = Vec::new();
    for round in 0..12 {
        let mut units = Vec::new();
        for size in 0..=round % 4 {
            let mut records = unit("a", size + 1);
            for record in &mut records {
                record.portable.payload = noise(&*bench.world, bench.below(60) as usize);
            }
            units.push(records);
        }
        expected.extend(owner.append(units).await?);
    }
    Ok(expected)
}

pub(crate) async fn reads_give_whole_units_within_the_limit(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let expected = fill(bench, &mut owner).await?;
    for limit in limits() {
        // From the middle of units too: what follows is whole units all the same, or the rest of
        // one that the reader already has.
        let starts = expected
            .iter()
            .filter(|record| record.portable.unit.is_last());
        for start in starts {
            let after = start.local.offset;
            let (records, _) = read_chunk(&*owner.engine, P, after, limit).await?;
            let rest = expected
                .iter()
                .filter(|record| record.local.offset > after)
                .take(records.len());
            same(&records, &rest.cloned().collect(), "what follows an offset")?;
            let at_end = expected
                .last()
                .is_some_and(|last| last.local.offset == after);
            ensure!(
                at_end || !records.is_empty(),
                "{limit:?} after {after} gives nothing, not even one unit"
            );
        }
    }
    Ok(())
}

pub(crate) async fn continuing_at_next_reaches_everything_once(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let expected = fill(bench, &mut owner).await?;
    for limit in limits() {
        let all = read_all(&*owner.engine, P, limit).await?;
        same(&all, &expected, "what can be read")?;
    }
    Ok(())
}

pub(crate) async fn reading_past_the_end_gives_nothing(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let limit = ReadLimit::default();
    let (none, start) = read_chunk(&*owner.engine, P, Offset(0), limit).await?;
    same(&none, &Vec::new(), "an empty partition")?;
    let first = owner.append(vec![single("a")]).await?;
    let (found, end) = read_chunk(&*owner.engine, P, start, limit).await?;
    same(&found, &first, "continuing where it was empty")?;
    for past in [end, Offset(end.0 + 1000), Offset(u64::MAX)] {
        let (none, next) = read_chunk(&*owner.engine, P, past, limit).await?;
        same(&none, &Vec::new(), "past the end")?;
        same(&next, &past, "next past the end")?;
    }
    let second = owner.append(vec![single("b")]).await?;
    let (found, _) = read_chunk(&*owner.engine, P, end, limit).await?;
    same(&found, &second, "continuing at the end")
}

/// Follows the partition until it has this many records.
async fn follow(engine: &dyn Engine, count: usize, limit: ReadLimit) -> Checked<Vec<Record>> {
    let mut seen = Vec::new();
    let mut after = Offset(0);
    while seen.len() < count {
        let head = engine.wait(P, after).await.tried("waiting")?;
        ensure!(head > after, "waiting past {after} resolved with {head}");
        let (records, next) = read_chunk(engine, P, after, limit).await?;
        seen.extend(records);
        after = next;
    }
    Ok(seen)
}

pub(crate) async fn tails_see_everything_once_and_in_order(bench: &Bench) -> Checked {
    const BATCHES: usize = 60;
    let mut owner = bench.owner().await?;
    let mut tails = Vec::new();
    for limit in limits() {
        let engine = owner.engine.clone();
        let tail = async move { follow(&*engine, BATCHES * 6, limit).await };
        tails.push(bench.start("tail", tail));
    }
    let mut expected = Vec::new();
    for _ in 0..BATCHES {
        stroll(&*bench.world).await;
        let batch = owner.compose(vec![single("a"), unit("b", 3), unit("c", 2)]);
        let at = owner.try_append(batch.clone()).await.tried("appending")?;
        expected.extend(owner.expected(&batch, at)?);
    }
    for tail in tails {
        let seen = tail.await.tried("a tail")??;
        same(&seen, &expected, "what a tail saw")?;
    }
    same(&owner.all().await?, &expected, "what can be read")
}

pub(crate) async fn the_safe_head_covers_reads_and_never_falls(bench: &Bench) -> Checked {
    const BATCHES: usize = 40;
    let mut owner = bench.owner().await?;
    let (engine, world) = (owner.engine.clone(), bench.world.clone());
    let watch = bench.start("watch", async move {
        let (mut known, mut seen) = (Offset(0), 0);
        while seen < BATCHES {
            let head = engine.safe_head(P).await.tried("the safe head")?;
            ensure!(head >= known, "the safe head fell from {known} to {head}");
            let (records, next) = read_chunk(&*engine, P, Offset(0), ReadLimit::default()).await?;
            ensure!(
                next >= head,
                "a read after the safe head was {head} ends at {next}"
            );
            (known, seen) = (head, records.len());
            stroll(&*world).await;
            // A reader that always has something to do would hold up a single thread.
            tokio::task::yield_now().await;
        }
        Ok(())
    });
    for _ in 0..BATCHES {
        owner.append(vec![single("a")]).await?;
        stroll(&*bench.world).await;
    }
    watch.await.tried("the watch")?
}
