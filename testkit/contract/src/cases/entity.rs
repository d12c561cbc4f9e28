//! Reading one entity.

use std::sync::Arc;

use everfold_engine::engine::{ReadError, ReadLimit};
use everfold_engine::record::Kind;
use everfold_engine::{Engine, EntityKey, Partition, Record};

use crate::bench::{Bench, P, read_all, unlinked};
use crate::check::{Checked, Tried, same};
use crate::owner::Owner;
use crate::sample::{record, single, unit, unusual};

/// An entity's events as the engine gives them.
pub(crate) async fn entity(
    engine: &dyn Engine,
    key: &EntityKey,
    after: u64,
    limit: usize,
) -> Checked<Vec<Record>> {
    let found = engine
        .read_entity(P, key, after, limit)
        .await
        .tried("reading an entity")?;
    Ok(found
        .iter()
        .map(|record: &Arc<Record>| unlinked(record))
        .collect())
}

/// An entity's events as they are in the partition.
fn of(all: &[Record], key: &EntityKey) -> Vec<Record> {
    let wanted = all
        .iter()
        .filter(|record| record.kind == Kind::Event && record.portable.entity == *key);
    wanted.map(unlinked).collect()
}

fn thing(id: &str) -> EntityKey {
    EntityKey::new("thing", id)
}

pub(crate) async fn entities_are_read_by_key(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let engine = owner.engine.clone();
    let mut all = Vec::new();
    for round in 0..10 {
        let mut units = vec![
            unit("old", 2),
            single(if round % 2 == 0 { "even" } else { "odd" }),
        ];
        if round == 8 {
            units.push(unit("late", 3));
        }
        all.extend(owner.append(units).await?);
        for id in ["old", "even", "odd", "late", "unknown", ""] {
            let found = entity(&*engine, &thing(id), 0, usize::MAX).await?;
            same(&found, &of(&all, &thing(id)), id)?;
        }
    }
    let elsewhere = engine
        .read_entity(Partition(0), &thing("old"), 0, 10)
        .await
        .tried("reading in another partition")?;
    ensure!(
        elsewhere.is_empty(),
        "an entity of {P} was found in partition 0"
    );
    ensure_form!(
        engine
            .read_entity(Partition(u16::MAX), &thing("old"), 0, 10)
            .await,
        Err(ReadError::NoPartition(_)),
        "read_entity where there is no partition"
    );
    Ok(())
}

pub(crate) async fn an_entity_is_read_after_a_version_and_up_to_a_limit(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let engine = owner.engine.clone();
    let mut all = Vec::new();
    for _ in 0..5 {
        all.extend(owner.append(vec![unit("a", 3), single("b")]).await?);
    }
    let events = of(&all, &thing("a"));
    for after in [0, 1, 2, 3, 7, 14, 15, 16, u64::MAX] {
        for limit in [1, 2, 3, 14, 15, 16, usize::MAX] {
            let wanted = events
                .iter()
                .filter(|event| event.local.version > after)
                .take(limit);
            same(
                &entity(&*engine, &thing("a"), after, limit).await?,
                &wanted.cloned().collect(),
                &format!("at most {limit} events after version {after}"),
            )?;
        }
    }
    Ok(())
}

pub(crate) async fn only_events_belong_to_an_entity(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let others = [Kind::Outcome, Kind::Claim, Kind::Mark];
    let mut all = owner.append(vec![single("a")]).await?;
    for kind in others {
        let other = vec![record(kind, thing("a"), "{}")];
        all.extend(owner.append(vec![other, single("a")]).await?);
    }
    let found = entity(&*owner.engine, &thing("a"), 0, usize::MAX).await?;
    same(&found, &of(&all, &thing("a")), "events")?;
    same(&found.len(), &4, "count of events")
}

pub(crate) async fn entities_are_told_apart_by_tenant_type_and_id(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let mut keys = Vec::new();
    for tenant in ["", "a", "ab"] {
        for kind in ["", "b", "thing"] {
            // The tagged ones share a slot; the odd pairs would be equal if names were glued.
            for id in ["", "a", "ba", "{t}-1", "{t}-2", "ü", "u\u{308}"] {
                keys.push(EntityKey {
                    tenant: tenant.into(),
                    kind: kind.into(),
                    id: id.into(),
                });
            }
        }
    }
    let mut all = Vec::new();
    for round in 0..3 {
        for (index, key) in keys.iter().enumerate() {
            if index % (round + 1) == 0 {
                let event = record(Kind::Event, key.clone(), format!("{index}"));
                all.extend(owner.append(vec![vec![event]]).await?);
            }
        }
    }
    all.extend(owner.append(vec![unusual(&*bench.world)]).await?);
    for key in &keys {
        let found = entity(&*owner.engine, key, 0, usize::MAX).await?;
        same(&found, &of(&all, key), &format!("{key:?}"))?;
    }
    Ok(())
}

pub(crate) async fn an_engine_without_an_index_says_so(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    owner.append(vec![single("a")]).await?;
    ensure_form!(
        owner.engine.read_entity(P, &thing("a"), 0, 1).await,
        Err(ReadError::Unsupported(_)),
        "read_entity"
    );
    Ok(())
}

/// Every entity of the partition is found, whatever was reopened before.
pub(crate) async fn all_entities_are_found(owner: &Owner) -> Checked {
    let all = read_all(&*owner.engine, P, ReadLimit::default()).await?;
    let events = all.iter().filter(|record| record.kind == Kind::Event);
    let keys: std::collections::BTreeSet<_> =
        events.map(|record| &record.portable.entity).collect();
    for key in keys {
        let found = entity(&*owner.engine, key, 0, usize::MAX).await?;
        same(&found, &of(&all, key), &format!("{key}"))?;
    }
    Ok(())
}
