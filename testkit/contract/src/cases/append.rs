//! What an append does when it succeeds.

use everfold_engine::Bytes;
use everfold_engine::engine::{AppendError, ReadLimit};
use everfold_engine::record::Kind;

use crate::bench::{Bench, P, read_all};
use crate::check::{Checked, Tried, same};
use crate::sample::{OVERHEAD, event, noise, single, unit, unusual};

pub(crate) async fn offsets_of_a_batch_are_consecutive_and_grow(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let mut expected = Vec::new();
    for count in [1, 5, 1, 17, 2] {
        let batch = owner.compose(vec![unit("a", count), single("b")]);
        let at = owner.try_append(batch.clone()).await.tried("appending")?;
        let last = expected
            .last()
            .map_or(0, |record: &everfold_engine::Record| record.local.offset.0);
        ensure!(
            at.first.0 > last,
            "a batch was put at {}, the one before reaches to {last}",
            at.first
        );
        expected.extend(owner.expected(&batch, at)?);
    }
    same(&owner.all().await?, &expected, "what can be read")
}

pub(crate) async fn every_field_comes_back(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let mut expected = Vec::new();
    for _ in 0..30 {
        let units = vec![
            unusual(&*bench.world),
            single("between"),
            unusual(&*bench.world),
        ];
        expected.extend(owner.append(units).await?);
    }
    let actual = owner.all().await?;
    for (actual, expected) in actual.iter().zip(&expected) {
        same(&actual.kind, &expected.kind, "kind")?;
        same(&actual.local, &expected.local, "local part")?;
        same(&actual.portable, &expected.portable, "portable part")?;
        same(&actual.digest(), &expected.digest(), "digest")?;
    }
    same(&actual.len(), &expected.len(), "count of records")
}

pub(crate) async fn payloads_come_back_bit_for_bit(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let limits = owner.engine.limits();
    let every_byte: Bytes = (0..=255).collect();
    let largest = limits
        .event_bytes
        .min(limits.unit_bytes)
        .min(limits.batch_bytes)
        - OVERHEAD;
    let payloads = [
        Bytes::new(),
        Bytes::from_static(b"\0"),
        every_byte,
        Bytes::from_static(b"{\"a\": 1.0, \"a\": 1e0, \"\\u0000\": null} "),
        Bytes::from_static(&[0xff, 0xfe, 0x80]),
        vec![0; largest].into(),
        noise(&*bench.world, largest),
        noise(&*bench.world, largest - 1),
    ];
    let mut expected = Vec::new();
    for (index, payload) in payloads.into_iter().enumerate() {
        let mut record = event("a");
        if index % 2 == 1 {
            record.kind = Kind::Event;
            record.portable.metadata = payload;
            record.portable.payload = Bytes::new();
        } else {
            record.portable.payload = payload;
        }
        expected.extend(owner.append(vec![vec![record]]).await?);
    }
    let all = read_all(&*owner.engine, P, ReadLimit::default()).await?;
    same(&all, &expected, "what can be read")
}

pub(crate) async fn a_second_append_in_flight_keeps_the_order(bench: &Bench) -> Checked {
    let mut owner = bench.owner().await?;
    let mut expected = Vec::new();
    for _ in 0..20 {
        let kept = owner.tail.clone();
        let first = owner.compose(vec![single("a")]);
        let between = owner.tail.clone();
        let second = owner.compose(vec![unit("b", 2)]);
        let (first_at, second_at) = tokio::join!(
            biased;
            owner.try_append(first.clone()),
            owner.try_append(second.clone())
        );
        match (first_at, second_at) {
            (Ok(first_at), Ok(second_at)) => {
                expected.extend(owner.expected(&first, first_at)?);
                expected.extend(owner.expected(&second, second_at)?);
            }
            (Ok(first_at), Err(AppendError::Refused(_))) => {
                expected.extend(owner.expected(&first, first_at)?);
                owner.tail = between;
            }
            (Err(AppendError::Refused(_)), Err(AppendError::Refused(_))) => owner.tail = kept,
            other => return Err(format!("two appends in flight ended as {other:?}")),
        }
        same(&owner.all().await?, &expected, "what can be read")?;
    }
    ensure!(!expected.is_empty(), "nothing was appended");
    Ok(())
}
