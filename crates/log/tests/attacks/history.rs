//! Trimming, indexes and readers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use everfold_engine::engine::{Engine, Query, ReadLimit, Trim};
use everfold_engine::record::Kind;
use everfold_engine::{Offset, Timestamp};
use everfold_log::{Disk, Log, MemoryDisk, verify};

use crate::hooked::*;
use crate::support::*;

/// Attacks the search by time: a block whose first frame was trimmed has no stamp of its own.
#[test]
fn a_search_by_time_misses_nothing_after_an_entity_was_trimmed() {
    let mut options = options();
    options.first_segment_bytes = 1 << 20;
    options.segment_bytes = 1 << 20;
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options.clone());
    let mut owner = Owner::of(&log, P0);
    let mut millis = 10_000;
    // A block is closed by each of the large events, so that the next begins with a small one.
    for n in 1..=10 {
        for (entity, length) in [("a", 10), ("b", 70_000)] {
            millis += 1000;
            append_at(&log, &mut owner, millis, event(entity, n, noise(n, length)));
        }
    }
    append_at(&log, &mut owner, millis + 1, baseline("a", 10));
    for n in 1..=20 {
        append_at(
            &log,
            &mut owner,
            millis + 1_000_000,
            event("c", n, noise(n, 70_000)),
        );
    }
    assert!(trim_entity(&log, "a", Offset(u64::MAX)) > 0);
    let of_b: Vec<_> = all(&log, P0)
        .into_iter()
        .filter(|record| record.portable.entity.id == "b")
        .collect();
    assert_eq!(of_b.len(), 10);
    for since in (10_000..millis).step_by(500) {
        let query = Query {
            entity_types: vec!["thing".into()],
            since: Some(Timestamp::from_millis(since)),
            until: Some(Timestamp::from_millis(millis + 2)),
            ..Query::default()
        };
        let found = now(log.find(P0, &query, Offset(0), 10_000)).unwrap();
        let found = found
            .records
            .iter()
            .filter(|record| record.portable.entity.id == "b")
            .count();
        let expected = of_b
            .iter()
            .filter(|record| record.recorded() >= Timestamp::from_millis(since))
            .count();
        assert_eq!(found, expected, "since {since}");
    }
}

fn two_entities(disk: &MemoryDisk) {
    let log = open_with(disk, options());
    let mut owner = Owner::of(&log, P0);
    for version in 1..=8 {
        owner.append(&log, vec![event("a", version, noise(version, 300))]);
        owner.append(&log, vec![event("b", version, noise(version, 300))]);
    }
    owner.append(&log, vec![baseline("a", 8), baseline("b", 8)]);
    fill(&log, &mut owner, "c", 1..=40);
    // Packs the first segment.
    owner.append(&log, vec![baseline("c", 40)]);
    trim_entity(&log, "c", Offset(u64::MAX));
    now(log.close());
}

/// Attacks what is kept open: a reader opens a packed segment just before it is written anew.
#[test]
fn what_was_trimmed_while_a_reader_opened_the_segment_stays_trimmed() {
    let disk = MemoryDisk::new();
    two_entities(&disk);
    let hooked = Hooked::over(&disk);
    let hooks = Arc::clone(&hooked.hooks);
    let log = Log::open(Arc::new(hooked), Still::eager(), options()).unwrap();
    let trimming = Arc::clone(&log);
    let act = move || assert_eq!(trim_entity(&trimming, "a", Offset(u64::MAX)), 8);
    *hooks.after_open.lock().unwrap() = Some(("0000000001.sealed".into(), Box::new(act)));
    let _ = now(log.read(P0, Offset(0), ReadLimit::default())).unwrap();
    assert!(
        hooks.after_open.lock().unwrap().is_none(),
        "the segment was not opened"
    );
    // A second trim begins with what is there.
    assert_eq!(trim_entity(&log, "b", Offset(u64::MAX)), 8);
    now(log.close());
    drop(log);
    let log = open_with(&disk, options());
    let left = all(&log, P0);
    let of_a = left
        .iter()
        .filter(|record| record.kind == Kind::Event && record.portable.entity.id == "a");
    assert_eq!(of_a.count(), 0, "trimmed events are back");
}

/// Attacks "made again if it is missing or damaged" in a block that opening does not look at.
#[test]
fn a_damaged_index_is_made_again() {
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options());
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, "a", 1..=60);
    now(log.close());
    drop(log);
    for name in Disk::list(&disk).unwrap() {
        if name.ends_with(".index") {
            disk.flip(&name, 40, 0);
        }
    }
    // It is damage: somebody has to say so, or nobody has to notice.
    let damage = verify(&disk, &mut |_, _| {}).unwrap().damage;
    for _ in 0..2 {
        let log = open_with(&disk, options());
        let _ = now(log.read_entity(P0, &key("a"), 0, 100));
        now(log.close());
    }
    let log = open_with(&disk, options());
    let found = now(log.read_entity(P0, &key("a"), 0, 100));
    let found = found.map(|records| records.len());
    assert_eq!(
        found,
        Ok(60),
        "verify found {damage:?}, opening {:?}",
        log.report()
    );
}

/// Trimming an entity packs segments out of order, so a plain one may come before a packed one.
#[test]
fn an_index_of_a_plain_segment_before_a_packed_one_is_made_again() {
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options());
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, "b", 1..=40);
    fill(&log, &mut owner, "a", 1..=40);
    owner.append(&log, vec![baseline("a", 40)]);
    fill(&log, &mut owner, "b", 41..=80);
    assert!(trim_entity(&log, "a", Offset(u64::MAX)) > 0);
    now(log.close());
    drop(log);
    remove_indexes(&disk);
    let log = open_with(&disk, options());
    assert_eq!(versions(&log, "b"), (1..=80).collect::<Vec<_>>());
}

/// Handlers lag, so an entity is trimmed up to an offset in the middle of what its baseline stands for.
#[test]
fn verification_finds_no_damage_in_an_entity_that_was_trimmed_twice() {
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options());
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, "a", 1..=40);
    owner.append(&log, vec![baseline("a", 40)]);
    fill(&log, &mut owner, "b", 1..=30);
    assert_eq!(trim_entity(&log, "a", Offset(u64::MAX)), 40);
    fill(&log, &mut owner, "a", 41..=60);
    let until = owner.append(&log, vec![event("b", 31, "x")]);
    fill(&log, &mut owner, "a", 61..=80);
    owner.append(&log, vec![baseline("a", 80)]);
    fill(&log, &mut owner, "b", 32..=60);
    assert_eq!(trim_entity(&log, "a", until), 20);
    now(log.close());
    drop(log);
    let found = verify(&disk, &mut |_, _| {}).unwrap();
    assert_eq!(found.damage, []);
}

/// Attacks what opening reads: behind the active segment lies a prepared one of the same size.
#[test]
fn opening_reads_no_more_than_the_active_segment() {
    let mut options = small();
    options.first_segment_bytes = 1 << 20;
    options.segment_bytes = 1 << 20;
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options.clone());
    let mut owner = Owner::of(&log, P0);
    owner.append(&log, vec![event("a", 1, "x")]);
    now(log.close());
    drop(log);
    let hooked = Hooked::over(&disk);
    let hooks = Arc::clone(&hooked.hooks);
    let log = Log::open(Arc::new(hooked), Still::eager(), options).unwrap();
    let read = hooks.read.load(Ordering::Relaxed);
    assert!(
        read <= (1 << 20) + (512 << 10),
        "{read} bytes were read to open a log with one event and a segment of 1 MiB"
    );
    drop(log);
}

/// Frames were found in memory; their segment is packed before they are read, and the newest one
/// lies in the active segment.
#[test]
fn a_history_is_read_while_its_older_half_is_packed() {
    let mut options = options();
    options.plain_segments = 0;
    let disk = MemoryDisk::new();
    let world = Still::eager();
    let log = Log::open(Arc::new(disk), world.clone(), options).unwrap();
    let mut owner = Owner::of(&log, P0);
    owner.append(&log, vec![event("x", 1, "first")]);
    world.hold_jobs();
    fill(&log, &mut owner, "b", 1..=15);
    owner.append(&log, vec![event("x", 2, "second")]);
    let x = key("x");
    let mut history = log.read_entity(P0, &x, 0, 10);
    assert!(poll(&mut history).is_none());
    // The segment is indexed, packed and its file taken before the read has its turn.
    world.release_jobs();
    let found = poll(&mut history).unwrap();
    assert_eq!(found.map(|records| records.len()), Ok(2));
}

/// Attacks readers of an index that is replaced: it is large enough to be freed in steps.
#[test]
fn a_reader_of_an_index_that_goes_is_not_told_of_damage() {
    let mut options = options();
    options.first_segment_bytes = 16 << 20;
    options.segment_bytes = 16 << 20;
    options.read_cache_bytes = 0;
    let disk = MemoryDisk::new();
    let hooked = Hooked::over(&disk);
    let hooks = Arc::clone(&hooked.hooks);
    let log = Log::open(Arc::new(hooked), Still::eager(), options).unwrap();
    let mut owner = Owner::of(&log, P0);
    let mut version = 0;
    for _ in 0..20 {
        let unit = (0..1000).map(|_| {
            version += 1;
            let mut record = event("a", version, "");
            record.portable.labels = (0..20)
                .map(|n| (format!("l{n}").into(), version.to_string().into()))
                .collect();
            record
        });
        let unit = unit.collect();
        owner.append(&log, unit);
    }
    for _ in 0..20 {
        version += 1;
        owner.append(&log, vec![event("a", version, noise(version, 1_000_000))]);
    }
    let end = owner.append(&log, vec![baseline("a", version)]);
    for n in 1..=20 {
        owner.append(&log, vec![event("b", n, noise(n, 1_000_000))]);
    }
    let name = "0000000001-0000000001.index";
    let length = disk.contents(name).unwrap().len();
    assert!(length > 8 << 20, "an index of {length} bytes");
    let trimming = Arc::clone(&log);
    let act = move || {
        let trimmed = now(trimming.trim(Trim::Before(vec![end, Offset(0)]))).unwrap();
        assert!(trimmed.records > 20_000);
    };
    *hooks.before_read.lock().unwrap() = Some((name.into(), Box::new(act)));
    let found = now(log.read_entity(P0, &key("a"), 0, 10));
    assert!(hooks.before_read.lock().unwrap().is_none());
    let found = found.map(|records| records[0].kind);
    assert_eq!(found, Ok(Kind::Baseline));
}
