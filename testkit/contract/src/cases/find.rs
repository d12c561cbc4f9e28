//! Events by type, label and time.

use everfold_engine::engine::Query;
use everfold_engine::record::Kind;
use everfold_engine::{Engine, EntityKey, Offset, Record, Text, Timestamp};

use crate::bench::{Bench, P, read_everything, unlinked};
use crate::check::{Checked, Tried, same};
use crate::harness::Ending;
use crate::sample::{event, noise, record};

/// Units of events of some types, entities and labels, with records between that are no events.
async fn fill(bench: &Bench, owner: &mut crate::owner::Owner, rounds: usize) -> Checked {
    for _ in 0..rounds {
        let mut units = Vec::new();
        for _ in 0..=bench.below(3) {
            let mut unit = Vec::new();
            for _ in 0..=bench.below(2) {
                let mut found = event(&format!("e{}", bench.below(5)));
                let portable = &mut found.portable;
                portable.event_type = format!("Type{}", bench.below(4)).into();
                portable.entity.kind = format!("kind{}", bench.below(2)).into();
                let labels = (0..bench.below(3))
                    .map(|n| (Text::from(format!("label{n}")), word(bench.below(3))));
                portable.labels.extend(labels);
                portable.payload = noise(&*bench.world, bench.below(400) as usize);
                unit.push(found);
            }
            units.push(unit);
        }
        let key = EntityKey::new("kind0", "e0");
        let mut other = record(Kind::Outcome, key, "");
        other.portable.event_type = "Type0".into();
        units.push(vec![other]);
        owner.append(units).await?;
    }
    Ok(())
}

fn word(number: u64) -> Text {
    ["", "red", "green"][number as usize % 3].into()
}

fn queries(records: &[Record]) -> Vec<Query> {
    let label =
        |name: &str, value: &str| (Text::from(name.to_owned()), Text::from(value.to_owned()));
    let time = |share: usize| {
        let record = records.get(records.len() * share / 4);
        record.map_or(Timestamp(0), Record::recorded)
    };
    let plain = Query::default();
    vec![
        plain.clone(),
        Query {
            event_types: vec!["Type1".into()],
            ..plain.clone()
        },
        Query {
            event_types: vec!["Type0".into(), "Type3".into(), "None".into()],
            ..plain.clone()
        },
        Query {
            entity_types: vec!["kind1".into()],
            ..plain.clone()
        },
        Query {
            labels: vec![label("label0", "red")],
            ..plain.clone()
        },
        Query {
            labels: vec![label("label0", "red"), label("label1", "green")],
            event_types: vec!["Type1".into(), "Type2".into()],
            entity_types: vec!["kind0".into()],
            ..plain.clone()
        },
        Query {
            labels: vec![label("label0red", "")],
            ..plain.clone()
        },
        Query {
            since: Some(time(1)),
            until: Some(time(3)),
            event_types: vec!["Type2".into()],
            ..plain.clone()
        },
        Query {
            since: Some(time(2)),
            ..plain
        },
    ]
}

/// Everything that a query finds, some at a time.
async fn find_all(engine: &dyn Engine, query: &Query, limit: usize) -> Checked<Vec<Record>> {
    let head = engine
        .safe_head(P)
        .await
        .tried("asking for the safe head")?;
    let (mut found, mut after) = (Vec::new(), Offset(0));
    while after < head {
        let chunk = engine
            .find(P, query, after, limit)
            .await
            .tried("finding events")?;
        ensure!(
            chunk.records.len() <= limit,
            "{} events are over the limit of {limit}",
            chunk.records.len()
        );
        ensure!(
            chunk.next > after,
            "a search after {after} stands still below the safe head {head}"
        );
        after = chunk.next;
        found.extend(chunk.records.iter().map(|record| unlinked(record)));
    }
    Ok(found)
}

async fn agree(engine: &dyn Engine) -> Checked {
    let everything = read_everything(engine, P, Default::default()).await?;
    for query in queries(&everything) {
        let wanted = everything.iter().filter(|record| query.matches(record));
        let expected: Vec<_> = wanted.map(unlinked).collect();
        for limit in [1, 3, 1000] {
            let found = find_all(engine, &query, limit).await?;
            same(&found, &expected, &format!("{query:?}, {limit} at a time"))?;
        }
    }
    Ok(())
}

pub(crate) async fn events_are_found_by_type_label_and_time(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    fill(bench, &mut owner, 40).await?;
    agree(&*owner.engine).await
}

pub(crate) async fn events_are_found_after_a_restart(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    fill(bench, &mut owner, 25).await?;
    let engine = bench.reopen(owner.engine, Ending::Crashed).await;
    let mut owner = crate::owner::Owner::claim(engine, P).await?;
    fill(bench, &mut owner, 25).await?;
    agree(&*owner.engine).await
}
