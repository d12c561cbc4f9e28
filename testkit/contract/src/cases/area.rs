//! Stored values.

use everfold_engine::engine::{Area, Put, PutError, Revision};
use everfold_engine::position::Incarnation;
use everfold_engine::{Bytes, Engine, Partition};

use crate::bench::{Bench, P};
use crate::check::{Checked, Tried, same};
use crate::owner::Owner;
use crate::sample::noise;

pub(crate) fn area(name: &str) -> Area {
    Area {
        name: name.into(),
        partition: P,
    }
}

/// Changes by key; `None` removes.
type Changes<'a> = &'a [(&'a str, Option<&'a str>)];

fn put_of(owner: &Owner, area: &Area, previous: u64, changes: Changes<'_>) -> Put {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Put {
        area: area.clone(),
        epoch: owner.epoch(),
        incarnation: owner.engine.identity().incarnation,
        previous: Revision(previous),
        clear: false,
        changes: changes
            .iter()
            .map(|(key, value)| (bytes(key), value.map(bytes)))
            .collect(),
    }
}

/// A put that must succeed and count the revision on.
pub(crate) async fn put(
    owner: &Owner,
    area: &Area,
    previous: u64,
    changes: Changes<'_>,
) -> Checked {
    let put = put_of(owner, area, previous, changes);
    let revision = owner.engine.put(put).await.tried("putting")?;
    same(&revision, &Revision(previous + 1), "the revision")
}

/// All of an area is this, whichever way it is read.
pub(crate) async fn holds(
    engine: &dyn Engine,
    area: &Area,
    revision: u64,
    expected: &[(&str, &str)],
) -> Checked {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let expected: Vec<_> = expected
        .iter()
        .map(|(key, value)| (bytes(key), bytes(value)))
        .collect();
    let name = &area.name;
    let found = engine
        .scan(area, None, usize::MAX)
        .await
        .tried("scanning")?;
    same(&found, &expected, &format!("all of {name}"))?;
    let known = engine.revision(area).await.tried("the revision")?;
    same(&known, &Revision(revision), &format!("revision of {name}"))?;
    for (key, value) in expected {
        let found = engine.get(area, &key).await.tried("getting")?;
        same(&found, &Some(value), &format!("{key:?} of {name}"))?;
    }
    Ok(())
}

pub(crate) async fn areas_keep_values_in_order(bench: &Bench) -> Checked {
    let owner = bench.owner().await?;
    let (engine, area) = (owner.engine.clone(), area("view/things/1"));
    holds(&*engine, &area, 0, &[]).await?;
    let missing = engine.get(&area, b"a").await.tried("getting")?;
    same(&missing, &None, "a value of an unwritten area")?;
    put(
        &owner,
        &area,
        0,
        &[("b", Some("2")), ("", Some("")), ("a", Some("1"))],
    )
    .await?;
    put(
        &owner,
        &area,
        1,
        &[("ab", Some("x")), ("b", Some("3")), ("none", None)],
    )
    .await?;
    let full = [("", ""), ("a", "1"), ("ab", "x"), ("b", "3")];
    holds(&*engine, &area, 2, &full).await?;
    put(
        &owner,
        &area,
        2,
        &[("a", None), ("\u{7f}", Some("y")), ("é", Some("z"))],
    )
    .await?;
    let full = [
        ("", ""),
        ("ab", "x"),
        ("b", "3"),
        ("\u{7f}", "y"),
        ("é", "z"),
    ];
    holds(&*engine, &area, 3, &full).await?;
    for limit in 1..7 {
        let (mut pages, mut after) = (Vec::new(), None::<Bytes>);
        loop {
            let page = engine
                .scan(&area, after.as_deref(), limit)
                .await
                .tried("scanning")?;
            ensure!(page.len() <= limit, "a page of {} over {limit}", page.len());
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            pages.extend(page);
        }
        let whole = engine.scan(&area, None, usize::MAX).await;
        same(&pages, &whole.tried("scanning")?, "pages")?;
    }
    let mut clear = put_of(&owner, &area, 3, &[("new", Some("1"))]);
    clear.clear = true;
    engine.put(clear).await.tried("clearing")?;
    holds(&*engine, &area, 4, &[("new", "1")]).await?;
    // Bytes of every kind, and more of them than a page holds.
    let large = noise(&*bench.world, 100_000);
    let key = Bytes::from_static(&[0, 0xff, 0]);
    let mut put = put_of(&owner, &area, 4, &[]);
    put.changes = vec![(key.clone(), Some(large.clone()))];
    engine.put(put).await.tried("putting")?;
    let found = engine.get(&area, &key).await.tried("getting")?;
    same(&found, &Some(large), "a large value")
}

pub(crate) async fn a_put_replaces_only_the_revision_it_read(bench: &Bench) -> Checked {
    let owner = bench.owner().await?;
    let (engine, area) = (owner.engine.clone(), area("a"));
    put(&owner, &area, 0, &[("k", Some("1"))]).await?;
    put(&owner, &area, 1, &[("k", Some("2"))]).await?;
    for wrong in [0, 1, 3, u64::MAX] {
        let stale = put_of(&owner, &area, wrong, &[("k", Some("stale"))]);
        ensure_form!(
            engine.put(stale).await,
            Err(PutError::Changed(Revision(2))),
            format!("a put over revision {wrong} of 2")
        );
    }
    holds(&*engine, &area, 2, &[("k", "2")]).await?;
    // Of many that read the same, one wins.
    let mut racing = Vec::new();
    for _ in 0..10 {
        let put = put_of(&owner, &area, 2, &[("k", Some("3"))]);
        let engine = engine.clone();
        racing.push(bench.start("put", async move { engine.put(put).await.is_ok() }));
    }
    let mut won = 0;
    for put in racing {
        won += usize::from(put.await.tried("a put")?);
    }
    same(&won, &1, "puts over one revision that succeeded")?;
    holds(&*engine, &area, 3, &[("k", "3")]).await
}

pub(crate) async fn a_put_needs_the_owner_and_the_log(bench: &Bench) -> Checked {
    let old = bench.owner().await?;
    let (engine, area) = (old.engine.clone(), area("a"));
    put(&old, &area, 0, &[("k", Some("1"))]).await?;
    let mut foreign = put_of(&old, &area, 1, &[("k", Some("foreign"))]);
    foreign.incarnation = Incarnation(foreign.incarnation.0 ^ 1);
    ensure_form!(
        engine.put(foreign).await,
        Err(PutError::Foreign(_)),
        "a put made from another log"
    );
    let new = Owner::claim(engine.clone(), P).await?;
    let late = put_of(&old, &area, 1, &[("k", Some("late"))]);
    ensure_form!(
        engine.put(late).await,
        Err(PutError::Fenced(P)),
        "a put of an earlier owner"
    );
    let mut beside = put_of(&new, &area, 0, &[("k", Some("beside"))]);
    beside.area.partition = Partition(PARTITION_BESIDE);
    ensure!(
        engine.put(beside).await.is_err(),
        "a put into a partition that another owns"
    );
    holds(&*engine, &area, 1, &[("k", "1")]).await?;
    put(&new, &area, 1, &[("k", Some("2"))]).await
}

const PARTITION_BESIDE: u16 = 2;

pub(crate) async fn a_put_is_all_or_nothing(bench: &Bench) -> Checked {
    let owner = bench.owner().await?;
    let (engine, area) = (owner.engine.clone(), area("a"));
    put(&owner, &area, 0, &[("a", Some("0")), ("b", Some("0"))]).await?;
    let (theirs, place) = (engine.clone(), area.clone());
    let reader = bench.start("reader", async move {
        loop {
            let all = theirs.scan(&place, None, 10).await.tried("scanning")?;
            ensure!(
                all.len() == 2 && all[0].1 == all[1].1,
                "half of a put was seen: {all:?}"
            );
            if all[0].1 == "20" {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    });
    for round in 1..=20 {
        let value = round.to_string();
        let mut whole = put_of(
            &owner,
            &area,
            round,
            &[("a", Some(&value)), ("b", Some(&value))],
        );
        whole.clear = true;
        engine.put(whole).await.tried("putting")?;
        tokio::task::yield_now().await;
    }
    reader.await.tried("the reader")??;
    let mut refused = put_of(&owner, &area, 1, &[("a", None), ("c", Some("1"))]);
    refused.clear = true;
    ensure!(engine.put(refused).await.is_err(), "a stale put succeeded");
    holds(&*engine, &area, 21, &[("a", "20"), ("b", "20")]).await
}

pub(crate) async fn areas_are_kept_apart(bench: &Bench) -> Checked {
    let engine = bench.engine()?;
    let mut owners = Vec::new();
    for partition in engine.identity().layout.all() {
        owners.push(Owner::claim(engine.clone(), partition).await?);
    }
    let names = ["a", "a/", "a/b", "ab", "A", "", "snapshots/ü"];
    for (index, owner) in owners.iter().enumerate() {
        for name in names {
            let area = Area {
                name: name.into(),
                partition: owner.partition,
            };
            let value = format!("{name} in {index}");
            put(owner, &area, 0, &[("k", Some(&value))]).await?;
        }
    }
    let mut clear = put_of(&owners[1], &area("a"), 1, &[]);
    clear.clear = true;
    engine.put(clear).await.tried("clearing")?;
    for (index, owner) in owners.iter().enumerate() {
        for name in names {
            let area = Area {
                name: name.into(),
                partition: owner.partition,
            };
            let value = format!("{name} in {index}");
            if name == "a" && owner.partition == P {
                holds(&*engine, &area, 2, &[]).await?;
            } else {
                holds(&*engine, &area, 1, &[("k", &value)]).await?;
            }
        }
    }
    Ok(())
}
