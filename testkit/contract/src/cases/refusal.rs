//! What an append does when it is refused.

use everfold_engine::engine::{AppendError, Batch, Refusal};
use everfold_engine::record::{Reply, Unit};
use everfold_engine::{Record, Stamp, Text, Uuid};

use crate::bench::Bench;
use crate::check::{Checked, same};
use crate::owner::Owner;
use crate::sample::{OVERHEAD, event, noise, single, unit};

/// Tries something that must be refused in a certain way; afterwards nothing is there, and the
/// ownership goes on.
async fn refused(
    owner: &mut Owner,
    expected: &mut Vec<Record>,
    what: &str,
    batch: Batch,
    right: fn(&Refusal) -> bool,
) -> Checked {
    match owner.try_append(batch).await {
        Err(AppendError::Refused(refusal)) if right(&refusal) => {}
        Ok(at) => return Err(format!("{what}: appended at {at:?}")),
        other => return Err(format!("{what}: refused in the wrong way: {other:?}")),
    }
    same(&owner.all().await?, expected, &format!("after {what}"))?;
    expected.extend(owner.append(vec![single("after")]).await?);
    same(
        &owner.all().await?,
        expected,
        &format!("after the append that followed {what}"),
    )
}

/// A record that takes so many bytes of the limits, in all places where they may be.
fn sized(bench: &Bench, bytes: usize) -> Record {
    let mut record = event("big");
    let part = (bytes - OVERHEAD) / 5;
    let text = || Text::from("x".repeat(part));
    record.portable.metadata = noise(&*bench.world, part);
    record.portable.labels.push((Text::new(), text()));
    record.portable.principal = text();
    record.portable.trace = text();
    record.portable.payload = noise(&*bench.world, bytes - OVERHEAD - 4 * part);
    record
}

/// A unit of one small event whose answer has this size.
fn answered(bytes: usize) -> Vec<Record> {
    let mut record = event("answered");
    record.portable.command = Some(Uuid::from_u128(1));
    record.local.reply = Some(Reply {
        command_digest: 1.into(),
        rejected: false,
        body: vec![b'x'; bytes].into(),
        source: None,
    });
    vec![record]
}

/// Records that are within the event limit each and have this size together.
fn sized_unit(bench: &Bench, mut bytes: usize, event: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while bytes > 0 {
        let mut size = bytes.min(event);
        if (1..OVERHEAD).contains(&(bytes - size)) {
            size -= OVERHEAD;
        }
        records.push(sized(bench, size));
        bytes -= size;
    }
    records
}

pub(crate) async fn what_is_too_large_is_refused(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let limits = owner.engine.limits();
    let mut expected = owner.append(vec![single("before")]).await?;
    let units_of_batch = limits.batch_bytes / limits.unit_bytes + 1;
    let event_size = limits.event_bytes;
    let too_large = |refusal: &Refusal| matches!(refusal, Refusal::TooLarge { .. });
    let tries = [
        (
            "an event over the limit",
            vec![vec![sized(bench, event_size + 1)]],
        ),
        (
            "an event over the limit behind a good one",
            vec![single("good"), vec![sized(bench, event_size + 1)]],
        ),
        (
            "a unit over the limit",
            vec![sized_unit(bench, limits.unit_bytes + 1, event_size)],
        ),
        (
            "a unit whose answer is over the limit",
            vec![answered(limits.unit_bytes)],
        ),
        (
            "a batch over the limit of bytes",
            (0..units_of_batch)
                .map(|_| sized_unit(bench, limits.unit_bytes, event_size))
                .collect(),
        ),
        (
            "a batch over the limit of records",
            (0..=limits.batch_records).map(|_| single("many")).collect(),
        ),
    ];
    for (what, units) in tries {
        let kept = owner.tail.clone();
        let batch = owner.compose(units);
        owner.tail = kept;
        refused(&mut owner, &mut expected, what, batch, too_large).await?;
    }
    // Exactly at the limits is within them.
    let full = vec![sized_unit(bench, limits.unit_bytes, event_size)];
    expected.extend(owner.append(full).await?);
    let many = (0..limits.batch_records).map(|_| single("many")).collect();
    expected.extend(owner.append(many).await?);
    same(&owner.all().await?, &expected, "what can be read")
}

type Spoil = fn(&mut Batch, Stamp);

pub(crate) async fn malformed_batches_are_refused(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let mut expected = owner.append(vec![single("before")]).await?;
    let tries: [(&str, Spoil); 11] = [
        ("an empty batch", |batch, _| batch.records.clear()),
        ("a batch that ends within a unit", |batch, _| {
            batch.records.pop();
        }),
        ("a batch that begins within a unit", |batch, _| {
            batch.records.remove(0);
            batch.records.remove(0);
        }),
        ("a unit with a gap", |batch, _| {
            batch.records.remove(2);
        }),
        (
            "a unit that begins before the last one ended",
            |batch, _| {
                batch.records[2].portable.unit = Unit::SINGLE;
            },
        ),
        ("a unit of no records", |batch, _| {
            batch.records[0].portable.unit = Unit { index: 0, count: 0 };
        }),
        ("an index past its unit", |batch, _| {
            batch.records[3].portable.unit = Unit { index: 3, count: 3 };
        }),
        ("equal stamps", |batch, _| {
            batch.records[2].local.stamp = batch.records[1].local.stamp;
        }),
        ("falling stamps", |batch, _| {
            let stamp = batch.records[1].local.stamp;
            batch.records[1].local.stamp = batch.records[2].local.stamp;
            batch.records[2].local.stamp = stamp;
        }),
        ("a stamp at the floor", |batch, floor| {
            batch.records[0].local.stamp = floor;
        }),
        ("a stamp below the floor", |batch, floor| {
            batch.records[0].local.stamp = Stamp(floor.0 - 1);
        }),
    ];
    for (what, spoil) in tries {
        let kept = owner.tail.clone();
        let mut batch = owner.compose(vec![single("a"), unit("b", 3)]);
        owner.tail = kept;
        spoil(&mut batch, owner.tail.stamp);
        let invalid = |refusal: &Refusal| matches!(refusal, Refusal::Invalid(_));
        refused(&mut owner, &mut expected, what, batch, invalid).await?;
    }
    Ok(())
}

pub(crate) async fn a_refused_batch_leaves_nothing(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let mut expected = owner.append(vec![single("before")]).await?;
    let event_size = owner.engine.limits().event_bytes;
    for good in 1..6 {
        let kept = owner.tail.clone();
        let mut units: Vec<_> = (0..good).map(|count| unit("good", count + 1)).collect();
        units.push(vec![sized(bench, event_size + 1)]);
        let batch = owner.compose(units);
        owner.tail = kept;
        let any = |_: &Refusal| true;
        refused(
            &mut owner,
            &mut expected,
            "a batch whose last unit is bad",
            batch,
            any,
        )
        .await?;
    }
    Ok(())
}
