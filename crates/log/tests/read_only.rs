//! A log that is read while somebody else writes it.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use everfold_engine::engine::{AppendError, Area, Epoch, OwnerError, ReadLimit, Refusal};
use everfold_engine::{Engine, EntityKey, Offset, Partition, Record, Stamp};
use everfold_log::disk::Crash;
use everfold_log::{Directory, Disk, Log, MemoryDisk, OpenError, Options, ReadOnly};

use support::*;

fn packing() -> Options {
    let mut options = small();
    options.plain_segments = 1;
    options
}

fn reader(disk: &MemoryDisk) -> Result<Arc<ReadOnly>, OpenError> {
    Log::open_read_only(Arc::new(disk.clone()), Still::eager(), packing())
}

fn everything(engine: &dyn Engine, partition: Partition) -> Vec<Arc<Record>> {
    let (mut records, mut after) = (Vec::new(), Offset(0));
    let limit = ReadLimit {
        records: 7,
        bytes: 5000,
    };
    loop {
        let chunk = now(engine.read(partition, after, limit)).unwrap();
        if chunk.next == after {
            return records;
        }
        after = chunk.next;
        records.extend(chunk.records);
    }
}

fn files(disk: &MemoryDisk) -> BTreeMap<String, Vec<u8>> {
    let names = Disk::list(disk).unwrap();
    names
        .into_iter()
        .map(|name| (name.clone(), disk.contents(&name).unwrap()))
        .collect()
}

#[test]
fn a_reader_follows_through_new_and_packed_segments_and_changes_nothing() {
    let disk = MemoryDisk::new();
    let log = try_open(&disk, packing()).unwrap();
    let reader = reader(&disk).unwrap();
    let (mut owner, mut other) = (Owner::of(&log, P0), Owner::of(&log, P1));
    let entity = EntityKey::new("thing", "a");
    for version in 1..=300 {
        owner.append(&log, vec![event("a", version, vec![version as u8; 700])]);
        if version % 10 == 0 {
            other.append(&log, vec![event("b", version / 10, "other")]);
        }
        let before = files(&disk);
        let head = now(log.safe_head(P0)).unwrap();
        match version % 3 {
            0 => assert_eq!(now(reader.safe_head(P0)).unwrap(), head),
            1 => assert_eq!(now(reader.wait(P0, Offset(head.0 - 1))).unwrap(), head),
            _ => {
                let found = now(reader.read_entity(P0, &entity, version - 1, 5)).unwrap();
                assert_eq!(found.len(), 1);
                assert_eq!(found[0].local.version, version);
            }
        }
        if version % 50 == 0 {
            assert_eq!(everything(&*reader, P0), all(&log, P0));
            assert_eq!(everything(&*reader, P1), all(&log, P1));
            let found = now(reader.read_entity(P0, &entity, 0, 1000)).unwrap();
            let versions = found.iter().map(|record| record.local.version);
            assert!(versions.eq(1..=version));
        }
        assert_eq!(files(&disk), before);
    }
    assert!(
        disk.contents("0000000001.sealed").is_some(),
        "segments were packed"
    );
    now(log.close());
    assert_eq!(everything(&*reader, P0), contents(&disk));
    // Closed, opened and written by somebody else.
    let log = try_open(&disk, packing()).unwrap();
    let mut owner = Owner::of(&log, P0);
    owner.append(&log, vec![event("a", 301, "again")]);
    assert_eq!(everything(&*reader, P0), all(&log, P0));
    assert!(now(reader.safe_head(Partition(2))).is_err());
}

fn contents(disk: &MemoryDisk) -> Vec<Arc<Record>> {
    let disk = disk.crash(Crash::Everything);
    let log = try_open(&disk, packing()).unwrap();
    all(&log, P0)
}

/// Attacks: a reader that learned where records lie long ago, and comes back when every file has
/// another name, form or content.
#[test]
fn a_reader_that_slept_finds_everything_in_its_new_form() {
    let disk = MemoryDisk::new();
    let log = try_open(&disk, packing()).unwrap();
    let mut owner = Owner::of(&log, P0);
    for version in 1..=20 {
        owner.append(&log, vec![event("a", version, vec![version as u8; 700])]);
    }
    let late = reader(&disk).unwrap();
    let reader = reader(&disk).unwrap();
    let then = everything(&*reader, P0);
    assert_eq!(then, all(&log, P0));
    for version in 21..=400 {
        owner.append(&log, vec![event("a", version, vec![version as u8; 700])]);
    }
    assert_eq!(now(late.safe_head(P0)), now(log.safe_head(P0)));
    // What it knew is read again without a look at the end of the log.
    let mut after = Offset(0);
    for expected in &then {
        let limit = ReadLimit {
            records: 1,
            bytes: 1,
        };
        let chunk = now(reader.read(P0, after, limit)).unwrap();
        assert_eq!(chunk.records.first(), Some(expected));
        after = chunk.next;
    }
    assert_eq!(everything(&*reader, P0), all(&log, P0));
}

/// Attacks: showing what a crash could still take away.
#[test]
fn what_cannot_be_made_durable_is_not_shown() {
    let disk = MemoryDisk::new();
    let log = try_open(&disk, packing()).unwrap();
    let mut owner = Owner::of(&log, P0);
    owner.append(&log, vec![event("a", 1, "kept")]);
    let early = reader(&disk).unwrap();
    let before = everything(&*early, P0);
    disk.fail_syncs();
    let batch = owner.batch(vec![event("a", 2, "not known")]);
    assert!(now(log.append(P0, owner.epoch, batch)).is_err());
    assert!(
        reader(&disk).is_err(),
        "a new reader cannot tell what is durable"
    );
    let head = now(early.safe_head(P0));
    assert!(head.is_err() || head == Ok(before.last().unwrap().local.offset));
    let chunk = now(early.read(P0, Offset(0), ReadLimit::default())).unwrap();
    assert_eq!(chunk.records, before);
}

#[test]
fn missing_and_damaged_indexes_are_made_in_memory() {
    let disk = MemoryDisk::new();
    let log = try_open(&disk, packing()).unwrap();
    let mut owner = Owner::of(&log, P0);
    for version in 1..=200 {
        owner.append(&log, vec![event("a", version, vec![version as u8; 700])]);
    }
    let expected = all(&log, P0);
    now(log.close());
    let names = Disk::list(&disk).unwrap();
    let indexes: Vec<_> = names
        .iter()
        .filter(|name| name.ends_with(".index"))
        .collect();
    assert!(indexes.len() > 1);
    Disk::remove(&disk, indexes[0]).unwrap();
    let mut bytes = disk.contents(indexes[1]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    disk.replace(indexes[1], bytes);
    let before = files(&disk);
    let reader = reader(&disk).unwrap();
    assert!(reader.report().indexes_made > 1);
    assert_eq!(everything(&*reader, P0), expected);
    let found = now(reader.read_entity(P0, &EntityKey::new("thing", "a"), 0, 1000)).unwrap();
    assert_eq!(found.len(), 200);
    assert_eq!(files(&disk), before);
}

#[test]
fn everything_that_writes_is_refused() {
    let disk = MemoryDisk::new();
    assert!(matches!(reader(&disk), Err(OpenError::Invalid(why)) if why.contains("no log")));
    let log = try_open(&disk, packing()).unwrap();
    let owner = Owner::of(&log, P0);
    let reader = reader(&disk).unwrap();
    let refused = |result: Result<(), OwnerError>| matches!(result, Err(OwnerError::ReadOnly(_)));
    assert!(refused(now(reader.claim(P0)).map(drop)));
    assert!(refused(now(reader.renew(P0, owner.epoch, Stamp(0)))));
    assert!(refused(now(reader.release(P0, owner.epoch))));
    assert!(refused(now(reader.confirm(P0, Epoch(1)))));
    let batch = batch(1, Stamp(1 << 40), P0, vec![event("a", 1, "no")]);
    let append = now(reader.append(P0, owner.epoch, batch));
    assert!(matches!(
        append,
        Err(AppendError::Refused(Refusal::ReadOnly(_)))
    ));
    let area = Area {
        name: "view".into(),
        partition: P0,
    };
    assert_eq!(now(reader.get(&area, b"key")).unwrap(), None);
    let mut other = packing();
    other.log = Some("orders".into());
    let opened = Log::open_read_only(Arc::new(disk.clone()), Still::eager(), other);
    assert!(matches!(opened, Err(OpenError::Different { .. })));
}

#[test]
fn a_directory_for_reading_is_neither_made_nor_written() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("data");
    assert!(Directory::read_only(&path).is_err());
    assert!(Log::open_directory_read_only(&path, Still::eager(), packing()).is_err());
    assert!(!path.exists());
    let log = Log::open_directory(&path, Still::eager(), packing()).unwrap();
    let mut owner = Owner::of(&log, P0);
    for version in 1..=100 {
        owner.append(&log, vec![event("a", version, vec![0; 700])]);
    }
    let reader = Log::open_directory_read_only(&path, Still::eager(), packing()).unwrap();
    assert_eq!(everything(&*reader, P0), all(&log, P0));
    let disk = Directory::read_only(&path).unwrap();
    let denied = |result: std::io::Result<()>| {
        result.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    };
    for access in [
        everfold_log::disk::Access::Journal,
        everfold_log::disk::Access::Store,
    ] {
        assert!(denied(disk.open("0000000001.log", access).map(drop)));
    }
    assert!(denied(disk.rename("0000000001.log", "x")) && denied(disk.remove("lock")));
    assert!(matches!(
        everfold_log::verify(&disk, &mut |_, _| {}),
        Err(OpenError::InUse { .. })
    ));
    now(log.close());
    let names = |disk: &Directory| {
        let mut names = disk.list().unwrap();
        names.sort();
        names
    };
    let before = names(&disk);
    let found = everfold_log::verify(&disk, &mut |_, _| {}).unwrap();
    assert!(found.damage.is_empty() && found.indexes.is_empty());
    assert_eq!(names(&disk), before);
}
