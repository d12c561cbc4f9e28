//! Memory, faults, files of others, limits.

use std::sync::Arc;

use everfold_engine::engine::{Engine, Query, ReadLimit};
use everfold_engine::record::Reply;
use everfold_engine::world::System;
use everfold_engine::{Offset, World};
use everfold_log::disk::{Call, Crash, Fault, FaultPlan};
use everfold_log::{Disk, Log, MemoryDisk, verify};

use crate::hooked::*;
use crate::support::*;

/// Attacks the budget of the tail with records that are nothing but answers.
#[test]
fn the_newest_records_stay_within_their_budget_with_their_answers() {
    let mut options = small();
    options.tail_bytes = 64 << 10;
    options.segment_bytes = 16 << 20;
    options.first_segment_bytes = 16 << 20;
    options.read_cache_bytes = 0;
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options);
    let mut owner = Owner::of(&log, P0);
    for version in 1..=50 {
        let mut record = event("a", version, "x");
        record.local.reply = Some(Reply {
            command_digest: 1.into(),
            rejected: false,
            body: noise(version, 100_000).into(),
            source: None,
        });
        owner.append(&log, vec![record]);
    }
    disk.set_plan(FaultPlan::default());
    let limit = ReadLimit::default();
    let chunk = now(log.read(P0, Offset(21), limit)).unwrap();
    let answers = chunk.records.iter().map(|record| {
        let reply = record.local.reply.as_ref();
        reply.map_or(0, |reply| reply.body.len())
    });
    let answers: usize = answers.sum();
    assert!(
        disk.calls(Call::Read) > 0,
        "{answers} bytes of answers came from a memory of 32 KiB"
    );
}

/// The flush of a new segment's header fails; the next process finds it readable, builds on it, and
/// power fails.
#[test]
fn nothing_is_built_on_a_header_whose_flush_failed() {
    for nth in 1..120 {
        let disk = MemoryDisk::new();
        let log = open_with(&disk, options());
        let mut owner = Owner::of(&log, P0);
        disk.set_plan(FaultPlan::new(1).at(Fault::FailedSync, nth));
        let mut told = 0;
        for version in 1..=60 {
            let batch = owner.batch(vec![event("a", version, noise(version, 700))]);
            if now(log.append(P0, owner.epoch, batch)).is_err() {
                break;
            }
            told = version;
        }
        now(log.close());
        drop(log);
        disk.set_plan(FaultPlan::default());
        let log = open_with(&disk, options());
        let mut owner = Owner::of(&log, P0);
        let held = versions(&log, "a").len() as u64;
        assert!(held >= told);
        fill(&log, &mut owner, "a", held + 1..=held + 5);
        drop(log);
        let disk = disk.crash(Crash::Nothing);
        let log = try_open(&disk, options());
        let log = log.unwrap_or_else(|error| panic!("flush {nth} failed: {error}"));
        assert_eq!(
            versions(&log, "a"),
            (1..=held + 5).collect::<Vec<_>>(),
            "flush {nth}"
        );
    }
}

/// Segments are gone from some generation on (an older copy was put back), their indexes are not.
#[test]
fn an_index_that_is_ahead_of_the_log_is_made_again() {
    let mut options = options();
    options.compression = None;
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options.clone());
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, "a", 1..=40);
    fill(&log, &mut owner, "b", 1..=160);
    now(log.close());
    drop(log);
    let merged = "0000000001-0000000008.index";
    assert!(
        Disk::list(&disk).unwrap().iter().any(|name| name == merged),
        "no merged index"
    );
    for name in segments(&disk) {
        if name.as_str() > "0000000004.log" {
            Disk::remove(&disk, &name).unwrap();
        }
    }
    let log = open_with(&disk, options.clone());
    let mut owner = Owner::of(&log, P0);
    let before = versions(&log, "a").len() as u64;
    fill(&log, &mut owner, "a", before + 1..=before + 100);
    let whole: Vec<u64> = (1..=before + 100).collect();
    let read = |log: &Log| {
        let found = now(log.read_entity(P0, &key("a"), 0, 10_000));
        found.map(|records| {
            let versions = records.iter().map(|record| record.local.version);
            versions.collect::<Vec<_>>()
        })
    };
    assert_eq!(read(&log), Ok(whole.clone()));
    now(log.close());
    drop(log);
    let log = open_with(&disk, options);
    assert_eq!(read(&log), Ok(whole), "after a restart");
}

/// "A directory that has segments may hold other files; they are not looked at."
#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options());
    now(log.close());
    drop(log);
    disk.replace("key of my car.spare", b"where it is".to_vec());
    let log = open_with(&disk, options());
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, "a", 1..=60);
    now(log.close());
    let contents = disk.contents("key of my car.spare");
    assert_eq!(contents, Some(b"where it is".to_vec()));
}

/// "`trimming`: files while they are written; removed when the log is opened."
#[test]
fn a_marker_that_was_not_finished_is_removed() {
    let disk = MemoryDisk::new();
    now(open_with(&disk, options()).close());
    disk.replace("trimming", vec![1; 100]);
    let log = open_with(&disk, options());
    assert_eq!(disk.contents("trimming"), None);
    drop(log);
}

/// A search reads several segments, and more than one of them is packed meanwhile.
#[test]
fn a_search_goes_on_while_one_segment_after_the_other_is_packed() {
    let disk = MemoryDisk::new();
    let hooked = Hooked::over(&disk);
    let hooks = Arc::clone(&hooked.hooks);
    let log = Log::open(Arc::new(hooked), Still::eager(), options()).unwrap();
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, "a", 1..=5);
    fill(&log, &mut owner, "c", 1..=15);
    fill(&log, &mut owner, "b", 1..=3);
    fill(&log, &mut owner, "c", 16..=50);
    owner.append(&log, vec![baseline("a", 5), baseline("b", 3)]);
    let (first, later) = (Arc::clone(&log), Arc::clone(&hooks));
    let act = move || {
        assert!(trim_entity(&first, "a", Offset(u64::MAX)) > 0);
        let second = Arc::clone(&first);
        let act = move || {
            assert!(trim_entity(&second, "b", Offset(u64::MAX)) > 0);
        };
        let mut hooks = later.before_open.lock().unwrap();
        hooks.push(("0000000002.log".into(), Box::new(act)));
    };
    let wanted = ("0000000001.log".into(), Box::new(act) as Act);
    hooks.before_open.lock().unwrap().push(wanted);
    let query = Query {
        entity_types: vec!["thing".into()],
        ..Query::default()
    };
    let found = now(log.find(P0, &query, Offset(0), 1000));
    assert!(hooks.before_open.lock().unwrap().is_empty());
    let found = found.map(|chunk| {
        let records = chunk.records.iter();
        records.filter(|r| r.portable.entity.id == "c").count()
    });
    assert_eq!(found, Ok(50));
}

/// Attacks searches between memory and disk: indexes of segments go from one to the other beside
/// them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_search_that_follows_the_writing_skips_nothing() {
    const EVENTS: u64 = 30_000;
    let mut options = options();
    options.segment_bytes = 16 << 10;
    options.tail_bytes = 8 << 20;
    options.compression = None;
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let log = Log::open(disk, System::current(), options).unwrap();
    let claim = log.claim(P0).await.unwrap();
    let mut searches = Vec::new();
    for _ in 0..3 {
        let log = Arc::clone(&log);
        let (done, ended) = tokio::sync::oneshot::channel();
        searches.push(ended);
        let search = async move {
            let query = Query {
                event_types: vec!["Happened".into()],
                ..Query::default()
            };
            let (mut next, mut expected) = (Offset(0), 1);
            while expected <= EVENTS {
                let chunk = log.find(P0, &query, next, 1000).await.unwrap();
                next = chunk.next;
                for record in &chunk.records {
                    let version = record.local.version;
                    assert_eq!(version, expected, "events were skipped");
                    expected += 1;
                }
                assert!(
                    expected > EVENTS || next.0 < EVENTS + 1,
                    "the end was reached with {expected}"
                );
                tokio::task::yield_now().await;
            }
            let _ = done.send(());
        };
        System::current().spawn("search", Box::pin(search));
    }
    let mut owner = Owner::after(claim, P0);
    for version in 1..=EVENTS {
        let batch = owner.batch(vec![event("a", version, vec![0; 700])]);
        log.append(P0, owner.epoch, batch).await.unwrap();
    }
    for search in searches {
        search.await.expect("a search has failed");
    }
    log.close().await;
}

/// What was acknowledged is there; only the index of a segment is not, for there was no room for it.
#[test]
fn a_log_whose_indexes_are_missing_opens_on_a_full_disk() {
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options());
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, "a", 1..=60);
    now(log.close());
    drop(log);
    remove_indexes(&disk);
    disk.set_capacity(Some(0));
    let log = try_open(&disk, options());
    let log = log.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(versions(&log, "a"), (1..=60).collect::<Vec<_>>());
}

/// A file of an odd length can neither be filled with zeros nor be a segment.
#[tokio::test(flavor = "multi_thread")]
async fn a_spare_file_of_an_odd_length_does_not_stop_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = Log::open_directory(&path, System::current(), options()).unwrap();
    log.close().await;
    drop(log);
    std::fs::write(path.join("old.spare"), b"odd").unwrap();
    let log = Log::open_directory(&path, System::current(), options()).unwrap();
    let claim = log.claim(P0).await.unwrap();
    let mut owner = Owner::after(claim, P0);
    for version in 1..=100 {
        let batch = owner.batch(vec![event("a", version, noise(version, 700))]);
        let appended = log.append(P0, owner.epoch, batch).await;
        assert!(appended.is_ok(), "version {version}: {appended:?}");
    }
    log.close().await;
}

/// A packed segment that did not find room must not keep what it has taken, while appends are refused
/// for want of it.
#[test]
fn what_was_not_packed_for_want_of_room_takes_none() {
    for megabytes in 10..22 {
        let mut options = options();
        options.plain_segments = 0;
        options.first_segment_bytes = 4 << 20;
        options.segment_bytes = 4 << 20;
        let disk = MemoryDisk::new();
        let log = open_with(&disk, options);
        let mut owner = Owner::of(&log, P0);
        disk.set_capacity(Some(megabytes << 20));
        for version in 1..1000 {
            let batch = owner.batch(vec![event("a", version, noise(version, 500_000))]);
            if now(log.append(P0, owner.epoch, batch)).is_err() {
                break;
            }
        }
        let left = ["sealing", "indexing"].map(|name| disk.contents(name));
        let left = left.map(|file| file.map_or(0, |file| file.len()));
        assert_eq!(left, [0, 0], "of {megabytes} MiB");
    }
}

/// As many partitions and as small segments as there may be, and a frame larger than a segment.
#[test]
fn the_limits_go_together() {
    let mut options = options();
    options.partitions = Some(1024);
    options.first_segment_bytes = 0;
    options.segment_bytes = 0;
    options.plain_segments = 0;
    options.read_cache_bytes = 0;
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options.clone());
    let mut owners: Vec<Owner> = [0, 511, 1023]
        .map(|partition| Owner::of(&log, everfold_engine::Partition(partition)))
        .into();
    for version in 1..=20 {
        for owner in &mut owners {
            let length = if version == 10 { 900_000 } else { 3000 };
            let record = event("a", version, noise(version, length));
            owner.append(&log, vec![record]);
        }
    }
    now(log.close());
    drop(log);
    let log = open_with(&disk, options);
    for owner in &owners {
        assert_eq!(all(&log, owner.partition).len(), 21);
        let found = now(log.read_entity(owner.partition, &key("a"), 0, 100));
        assert_eq!(found.unwrap().len(), 20);
    }
    now(log.close());
    drop(log);
    assert_eq!(verify(&disk, &mut |_, _| {}).unwrap().damage, []);
}

/// Attacks merging and packing with one bad block of one index.
#[test]
fn a_damaged_index_does_not_end_all_upkeep() {
    let mut options = options();
    options.plain_segments = 0;
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options);
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, "a", 1..=60);
    disk.flip("0000000001-0000000001.index", 40, 0);
    fill(&log, &mut owner, "a", 61..=400);
    let plain = segments(&disk).into_iter();
    let plain = plain.filter(|name| name.ends_with(".log")).count();
    // The one that is written, and the one that is prepared.
    assert!(plain <= 3, "{plain} are not packed: {:?}", log.doctor());
}
