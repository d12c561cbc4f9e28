//! Trimming: nothing goes but what a baseline stands for, and the chain stays whole.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use everfold_engine::engine::{Engine, ReadLimit, Trim, TrimError};
use everfold_engine::record::{Kind, Record};
use everfold_engine::{EntityKey, Offset};
use everfold_log::disk::Crash;
use everfold_log::{Log, MemoryDisk, OpenError, Options, verify};
use proptest::prelude::*;

use support::*;

fn options() -> Options {
    let mut options = small();
    options.segment_bytes = 16 << 10;
    options.tail_bytes = 0;
    options.plain_segments = 1;
    options
}

fn open_small(disk: &MemoryDisk) -> Arc<Log> {
    try_open(disk, options()).unwrap_or_else(|error| panic!("{error}"))
}

fn baseline(entity: &str, version: u64) -> Record {
    let mut record = event(entity, version, format!("state of {entity} at {version}"));
    record.kind = Kind::Baseline;
    record
}

fn key(entity: &str) -> EntityKey {
    EntityKey::new("thing", entity)
}

fn history(log: &Log, entity: &str, after: u64) -> Vec<(Kind, u64)> {
    let records = now(log.read_entity(P0, &key(entity), after, 1000)).unwrap();
    let versions = records
        .iter()
        .map(|record| (record.kind, record.local.version));
    versions.collect()
}

fn events(versions: std::ops::RangeInclusive<u64>) -> Vec<(Kind, u64)> {
    versions.map(|version| (Kind::Event, version)).collect()
}

/// Bytes that do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Events of two entities by turns, in units of one and of two.
fn fill(log: &Log, owner: &mut Owner, versions: std::ops::RangeInclusive<u64>) {
    for version in versions {
        if version % 3 == 0 {
            let unit = vec![
                event("a", version, noise(version, 700)),
                event("b", version, noise(version, 500)),
            ];
            owner.append(log, unit);
        } else {
            owner.append(log, vec![event("a", version, noise(version, 700))]);
            owner.append(log, vec![event("b", version, noise(version, 500))]);
        }
    }
}

fn whole(disk: &MemoryDisk) {
    let found = verify(disk, &mut |_, _| {}).unwrap();
    assert_eq!(found.damage, []);
}

#[test]
fn an_entity_is_trimmed_behind_its_baseline_and_no_other() {
    let disk = MemoryDisk::new();
    let log = open_small(&disk);
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, 1..=60);
    let before = all(&log, P0);
    let trim = || Trim::Entity {
        partition: P0,
        entity: key("a"),
        until: Offset(u64::MAX),
    };
    assert!(matches!(
        now(log.trim(trim())),
        Err(TrimError::NoBaseline { .. })
    ));
    assert_eq!(all(&log, P0), before);
    owner.append(&log, vec![baseline("a", 60)]);
    fill(&log, &mut owner, 61..=100);
    let trimmed = now(log.trim(trim())).unwrap();
    assert!(trimmed.records > 50 && trimmed.bytes > 0, "{trimmed:?}");
    let check = |log: &Log| {
        let mut expected = vec![(Kind::Baseline, 60)];
        expected.extend(events(61..=100));
        assert_eq!(history(log, "a", 0), expected);
        assert_eq!(history(log, "a", 59), expected);
        assert_eq!(history(log, "a", 60), events(61..=100));
        assert_eq!(history(log, "b", 0), events(1..=100));
        let left = all(log, P0);
        let of_b = |record: &&Arc<Record>| record.portable.entity.id == "b";
        let old = before.iter().filter(of_b);
        assert!(old.eq(left.iter().filter(of_b).take(60)));
        assert!(left.len() + trimmed.records as usize > before.len() + 40);
    };
    check(&log);
    now(log.close());
    whole(&disk);
    // Indexes are made again from what is left.
    for name in everfold_log::Disk::list(&disk).unwrap() {
        if name.ends_with(".index") {
            everfold_log::Disk::remove(&disk, &name).unwrap();
        }
    }
    let log = open_small(&disk);
    check(&log);
    // Once more: nothing is left to go.
    assert_eq!(now(log.trim(trim())).unwrap().records, 0);
}

#[test]
fn segments_go_only_behind_baselines_of_all_their_entities() {
    let disk = MemoryDisk::new();
    let log = open_small(&disk);
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, 1..=60);
    let end = owner.append(&log, vec![baseline("a", 60)]);
    fill(&log, &mut owner, 61..=80);
    let trim = || Trim::Before(vec![end, Offset(0)]);
    let refused = now(log.trim(trim()));
    assert!(
        matches!(&refused, Err(TrimError::NoBaseline { entity, .. }) if entity.id == "b"),
        "{refused:?}"
    );
    assert_eq!(history(&log, "b", 0), events(1..=80));
    owner.append(&log, vec![baseline("b", 80), baseline("a", 80)]);
    fill(&log, &mut owner, 81..=90);
    let trimmed = now(log.trim(trim())).unwrap();
    assert!(trimmed.records > 40 && trimmed.bytes > 0, "{trimmed:?}");
    let check = |log: &Log| {
        for entity in ["a", "b"] {
            let mut expected = vec![(Kind::Baseline, 80)];
            expected.extend(events(81..=90));
            assert_eq!(history(log, entity, 0), expected);
        }
        // A reader from the start begins with what is left, without holes.
        let left = all(log, P0);
        let offsets: Vec<_> = left.iter().map(|record| record.local.offset.0).collect();
        assert_eq!(offsets[0], trimmed.records + 1);
        assert!(offsets.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    };
    check(&log);
    now(log.close());
    whole(&disk);
    let log = open_small(&disk);
    check(&log);
    fill(&log, &mut Owner::of(&log, P0), 91..=95);
    now(log.close());
    // A segment that was not trimmed is missed.
    let first = segments(&disk).remove(0);
    everfold_log::Disk::remove(&disk, &first).unwrap();
    assert!(matches!(
        try_open(&disk, options()),
        Err(OpenError::MissingSegment { .. })
    ));
}

#[test]
fn all_full_segments_may_go() {
    let disk = MemoryDisk::new();
    let log = open_small(&disk);
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, 1..=60);
    // Both lie in one segment, which is not full yet.
    let end = owner.append(&log, vec![baseline("a", 60), baseline("b", 60)]);
    let trimmed = now(log.trim(Trim::Before(vec![end, Offset(0)]))).unwrap();
    assert!(trimmed.records > 80, "{trimmed:?}");
    let check = |log: &Log| {
        assert_eq!(all(log, P0)[0].local.offset.0, trimmed.records + 1);
        assert_eq!(history(log, "b", 0), [(Kind::Baseline, 60)]);
    };
    check(&log);
    now(log.close());
    whole(&disk);
    let log = open_small(&disk);
    check(&log);
    let limit = ReadLimit::default();
    let chunk = now(log.read(P1, Offset(0), limit)).unwrap();
    assert!(chunk.records.is_empty() && chunk.next == chunk.safe_head);
}

#[test]
fn an_empty_request_and_a_wrong_one_are_answered() {
    let log = open_small(&MemoryDisk::new());
    let wrong = now(log.trim(Trim::Before(vec![Offset(1)])));
    assert!(matches!(wrong, Err(TrimError::Invalid(_))));
    let nothing = now(log.trim(Trim::Before(vec![Offset(0), Offset(0)])));
    assert_eq!(nothing.unwrap().records, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Power fails while history is trimmed: it is all there or begins with its baseline, and what
    /// was not asked to go is there.
    #[test]
    fn a_crash_while_trimming_loses_nothing_else(operations in 1u64..120, seed in any::<u64>(), whole_segments: bool) {
        let disk = MemoryDisk::new();
        let log = open_small(&disk);
        let mut owner = Owner::of(&log, P0);
        fill(&log, &mut owner, 1..=60);
        let end = owner.append(&log, vec![baseline("a", 60), baseline("b", 60)]);
        fill(&log, &mut owner, 61..=70);
        disk.die_after(operations);
        let trim = match whole_segments {
            true => Trim::Before(vec![end, Offset(0)]),
            false => Trim::Entity { partition: P0, entity: key("a"), until: Offset(u64::MAX) },
        };
        let _ = now(log.trim(trim));
        drop(log);
        let disk = disk.crash(Crash::Sectors(seed));
        let log = open_small(&disk);
        for entity in ["a", "b"] {
            let found = history(&log, entity, 0);
            let mut trimmed = vec![(Kind::Baseline, 60)];
            trimmed.extend(events(61..=70));
            let may_go = whole_segments || entity == "a";
            prop_assert!(found == events(1..=70) || (may_go && found == trimmed), "{entity}: {found:?}");
        }
        let limit = ReadLimit::default();
        prop_assert!(now(log.read(P0, Offset(0), limit)).is_ok());
        now(log.close());
        prop_assert_eq!(verify(&disk, &mut |_, _| {}).unwrap().damage, vec![]);
    }
}
