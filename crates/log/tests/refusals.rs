//! What the log refuses: other people's directories, full disks, failed flushes.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use everfold_engine::engine::{AppendError, Engine, OwnerError, ReadError, ReadLimit, Refusal};
use everfold_log::disk::Crash;
use everfold_log::{Log, MemoryDisk, OpenError, Options};

use support::*;

fn refused(disk: &MemoryDisk, options: Options) -> OpenError {
    try_open(disk, options).err().expect("the log opened")
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let disk = MemoryDisk::new();
    disk.replace("photo.jpg", vec![1, 2, 3]);
    let error = refused(&disk, small());
    assert!(matches!(&error, OpenError::Foreign { file, .. } if file == "photo.jpg"));
    assert!(disk.contents("lock").is_none() && disk.contents("0000000001.log").is_none());
    disk.replace("0000000001.log", vec![b'x'; 9000]);
    let error = refused(&disk, small());
    assert!(matches!(&error, OpenError::NotASegment { file } if file == "0000000001.log"));
}

#[test]
fn one_process_has_the_log() {
    let disk = MemoryDisk::new();
    let log = open(&disk);
    assert!(matches!(refused(&disk, small()), OpenError::InUse { .. }));
    now(log.close());
    open(&disk);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let first = Log::open_directory(&path, Still::eager(), small()).unwrap();
    let second = Log::open_directory(&path, Still::eager(), small());
    let error = second.err().expect("two opened it");
    assert!(
        error.to_string().contains(path.to_str().unwrap()),
        "{error}"
    );
    drop(first);
    Log::open_directory(&path, Still::eager(), small()).unwrap();
}

#[test]
fn a_log_keeps_what_it_was_made_with() {
    let disk = MemoryDisk::new();
    now(open(&disk).close());
    let mut other = small();
    other.partitions = Some(3);
    let error = refused(&disk, other.clone());
    assert!(
        error.to_string().contains("partition count of 2, not 3"),
        "{error}"
    );
    other.partitions = None;
    other.log = Some("orders".into());
    assert!(matches!(
        refused(&disk, other.clone()),
        OpenError::Different {
            what: "the name",
            ..
        }
    ));
    other.log = None;
    let log = try_open(&disk, other).unwrap();
    assert_eq!(log.identity().layout.partitions, 2);
    let mut none = small();
    none.partitions = Some(0);
    assert!(matches!(
        refused(&MemoryDisk::new(), none),
        OpenError::Invalid(_)
    ));
}

fn three_segments() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let log = open(&disk);
    let mut owner = Owner::of(&log, P0);
    for version in 1..=90 {
        owner.append(&log, vec![event("a", version, vec![0; 500])]);
    }
    now(log.close());
    assert!(disk.contents("0000000003.log").is_some());
    disk
}

#[test]
fn missing_foreign_and_newer_segments_are_named() {
    let disk = three_segments();
    let second = disk.contents("0000000002.log").unwrap();
    everfold_log::Disk::remove(&disk, "0000000002.log").unwrap();
    let error = refused(&disk, small());
    assert!(matches!(&error, OpenError::MissingSegment { missing } if missing == "0000000002.log"));
    let other = MemoryDisk::new();
    let world = Still::eager();
    everfold_engine::World::random(&*world);
    let log = Log::open(Arc::new(other.clone()), world, small()).unwrap();
    let mut owner = Owner::of(&log, P0);
    for version in 1..=90 {
        owner.append(&log, vec![event("a", version, vec![0; 500])]);
    }
    // The segments at the end are looked at when the log is opened.
    let last = disk.contents("0000000003.log").unwrap();
    disk.replace("0000000002.log", second);
    disk.replace("0000000003.log", other.contents("0000000003.log").unwrap());
    assert!(matches!(
        refused(&disk, small()),
        OpenError::MixedLogs { .. }
    ));
    let mut newer = last.clone();
    newer[8] = 2;
    disk.replace("0000000003.log", newer);
    assert!(matches!(
        refused(&disk, small()),
        OpenError::Newer {
            found: 2,
            known: 1,
            ..
        }
    ));
    disk.replace("0000000003.log", last);
    // Those before when they are read, or verified.
    let first = disk.contents("0000000001.log").unwrap();
    disk.replace("0000000001.log", other.contents("0000000001.log").unwrap());
    let log = open(&disk);
    let read = now(log.read(P0, everfold_engine::Offset(0), ReadLimit::default()));
    assert!(matches!(&read, Err(ReadError::Damaged(why)) if why.contains("0000000001.log")));
    now(log.close());
    let found = everfold_log::verify(&disk, &mut |_, _| {}).unwrap();
    assert_eq!(found.damage[0].file, "0000000002.log");
    disk.replace("0000000001.log", first);
    open(&disk);
    for generation in 1..10 {
        let name = format!("{generation:010}.log");
        if disk.contents(&name).is_some() {
            everfold_log::Disk::remove(&disk, &name).unwrap();
        }
    }
    let disk = disk.crash(Crash::Nothing);
    disk.replace("areas.redb", vec![]);
    let error = try_open(&disk, small());
    assert!(matches!(
        error,
        Ok(_) | Err(OpenError::MissingSegment { .. })
    ));
}

#[test]
fn a_full_disk_refuses_what_does_not_fit_until_there_is_space() {
    let disk = MemoryDisk::new();
    let log = open(&disk);
    let mut owner = Owner::of(&log, P0);
    disk.set_capacity(Some(16 << 10));
    let mut version = 0;
    let refusal = loop {
        let batch = owner.batch(vec![event("a", version + 1, vec![0; 900])]);
        match now(log.append(P0, owner.epoch, batch)) {
            Ok(_) => version += 1,
            Err(error) => break error,
        }
        assert!(version < 1000, "the disk is never full");
    };
    assert!(
        matches!(refusal, AppendError::Refused(Refusal::Full(_))),
        "{refusal}"
    );
    // What fits into the space that was reserved still goes in.
    version += 1;
    owner.append(&log, vec![event("a", version, "small")]);
    let before = all(&log, P0);
    disk.set_capacity(None);
    for _ in 0..30 {
        version += 1;
        owner.append(&log, vec![event("a", version, vec![1; 900])]);
    }
    let after = all(&log, P0);
    assert_eq!(after.len(), before.len() + 30);
    now(log.close());
    assert_eq!(all(&open(&disk), P0), after);
}

#[test]
fn after_a_failed_flush_the_log_stops_for_good() {
    let disk = MemoryDisk::new();
    let log = open(&disk);
    let mut owner = Owner::of(&log, P0);
    owner.append(&log, vec![event("a", 1, "kept")]);
    let before = all(&log, P0);
    let mut wait = log.wait(P0, before.last().unwrap().local.offset);
    assert!(poll(&mut wait).is_none());
    disk.fail_syncs();
    for version in 2..4 {
        let batch = owner.batch(vec![event("a", version, "not known")]);
        let error = now(log.append(P0, owner.epoch, batch)).unwrap_err();
        assert!(matches!(error, AppendError::Unknown(_)), "{error}");
    }
    let stopped = |result: Result<(), OwnerError>| matches!(result, Err(OwnerError::Stopped(_)));
    assert!(stopped(now(log.confirm(P0, owner.epoch))));
    assert!(stopped(now(log.claim(P1)).map(drop)));
    assert!(poll(&mut wait).unwrap().is_err());
    assert_eq!(all(&log, P0), before, "nothing unknown is shown");
    now(log.close());
}
