//! How readers learn that there is more.

use everfold_engine::Offset;

use crate::bench::{Bench, P, stroll};
use crate::check::{Checked, Tried};
use crate::sample::single;

pub(crate) async fn wait_resolves_only_past_its_offset(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let mut head = owner.engine.safe_head(P).await.tried("the safe head")?;
    for _ in 0..20 {
        let (engine, after) = (owner.engine.clone(), head);
        let mut waiting = bench.start("waiter", async move { engine.wait(P, after).await });
        // Round trips to the same engine give a wait that resolves too early every chance to.
        for _ in 0..5 {
            owner.engine.safe_head(P).await.tried("the safe head")?;
            stroll(&*bench.world).await;
            ensure!(
                waiting.try_recv().is_err(),
                "waiting past {after} resolved while that was the end"
            );
        }
        let last = owner.append(vec![single("a")]).await?;
        let reached = waiting.await.tried("the waiter")?.tried("waiting")?;
        ensure!(
            reached > after,
            "waiting past {after} resolved with {reached}"
        );
        let now = owner.engine.safe_head(P).await.tried("the safe head")?;
        ensure!(
            now >= reached,
            "the wait resolved with {reached}, the safe head is {now}"
        );
        head = last.last().map_or(head, |record| record.local.offset);
    }
    Ok(())
}

pub(crate) async fn one_append_wakes_every_waiter(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    for _ in 0..5 {
        let head = owner.engine.safe_head(P).await.tried("the safe head")?;
        let start = |after: Offset| {
            let (engine, world) = (owner.engine.clone(), bench.world.clone());
            bench.start("waiter", async move {
                stroll(&*world).await;
                engine.wait(P, after).await
            })
        };
        let waiting: Vec<_> = (0..20).map(|_| start(head)).collect();
        let further = start(Offset(head.0 + 1));
        // One that gives up must not take a wake-up with it.
        drop(owner.engine.wait(P, head));
        stroll(&*bench.world).await;
        owner.append(vec![single("a")]).await?;
        for waiter in waiting {
            let reached = waiter.await.tried("a waiter")?.tried("waiting")?;
            ensure!(reached > head, "woken with {reached}, not past {head}");
        }
        owner.append(vec![single("b")]).await?;
        let reached = further.await.tried("the waiter")?.tried("waiting")?;
        ensure!(
            reached > Offset(head.0 + 1),
            "woken with {reached}, one append too early"
        );
    }
    Ok(())
}

pub(crate) async fn a_late_waiter_is_answered(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let mut last = Offset(0);
    for _ in 0..10 {
        let records = owner.append(vec![single("a")]).await?;
        last = records.last().map_or(last, |record| record.local.offset);
    }
    for after in 0..last.0 {
        let reached = owner
            .engine
            .wait(P, Offset(after))
            .await
            .tried("waiting for what is there")?;
        ensure!(
            reached >= last,
            "waiting past {after} resolved with {reached}, the end is {last}"
        );
    }
    Ok(())
}
