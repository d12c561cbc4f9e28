//! The log as an engine: what it takes, gives back and refuses.

#![allow(clippy::unwrap_used)]

mod support;

use everfold_engine::engine::{
    AppendError, Area, Engine, Epoch, OwnerError, Put, PutError, ReadLimit, Refusal, Revision,
};
use everfold_engine::record::{Kind, Link};
use everfold_engine::{EntityKey, Offset, Stamp};
use everfold_log::{MemoryDisk, Options};

use support::*;

#[test]
fn records_come_back_as_they_were_written_over_many_segments_and_after_a_restart() {
    let disk = MemoryDisk::new();
    let log = open(&disk);
    let (mut a, mut b) = (Owner::of(&log, P0), Owner::of(&log, P1));
    for version in 1..=200 {
        a.append(&log, vec![event("a", version, vec![b'a'; 400])]);
        let unit = vec![
            event("b", 2 * version - 1, "x"),
            event("b", 2 * version, "y"),
        ];
        b.append(&log, unit);
    }
    let (first, second) = (all(&log, P0), all(&log, P1));
    assert_eq!((first.len(), second.len()), (201, 401));
    let mut link = Link::default();
    for (offset, record) in (1..).zip(&second) {
        assert_eq!(record.local.offset, Offset(offset));
        link = record.link_after(link);
        assert_eq!(record.local.link, link, "the chain at {offset}");
    }
    now(log.close());
    let again = open(&disk);
    assert!(again.report().segments > 3, "{:?}", again.report());
    assert!(again.report().closed && again.report().torn.is_none());
    assert_eq!(all(&again, P0), first);
    assert_eq!(all(&again, P1), second);
}

#[test]
fn a_read_starts_anywhere_and_keeps_units_whole() {
    let disk = MemoryDisk::new();
    let log = open(&disk);
    let mut owner = Owner::of(&log, P0);
    for version in 0..50 {
        let unit = (1..=4).map(|n| event("a", version * 4 + n, vec![7; 300]));
        owner.append(&log, unit.collect());
    }
    let everything = all(&log, P0);
    now(log.close());
    // Once from memory as far as it reaches, once from disk only.
    for log in [log, open(&disk)] {
        for start in (1..=201).step_by(4) {
            let limit = ReadLimit {
                records: 1,
                bytes: 1,
            };
            let chunk = now(log.read_chained(P0, Offset(start), limit)).unwrap();
            let end = (start as usize + 4).min(201);
            assert_eq!(chunk.records, everything[start as usize..end]);
            assert_eq!(
                (chunk.next, chunk.safe_head),
                (Offset(end as u64), Offset(201))
            );
        }
    }
}

#[test]
fn an_entity_is_found_by_its_key_and_version() {
    let disk = MemoryDisk::new();
    let log = open(&disk);
    let mut owner = Owner::of(&log, P0);
    for version in 1..=60 {
        for name in ["a", "b", "c"] {
            owner.append(&log, vec![event(name, version, vec![b'-'; 200])]);
        }
    }
    now(log.close());
    let again = open(&disk);
    let mut owner = Owner::of(&again, P0);
    owner.append(&again, vec![event("b", 61, "newest")]);
    let key = EntityKey::new("thing", "b");
    for (after, limit, expected) in [
        (0, usize::MAX, 1..=61),
        (0, 5, 1..=5),
        (59, 10, 60..=61),
        (30, 2, 31..=32),
    ] {
        let found = now(again.read_entity(P0, &key, after, limit)).unwrap();
        let versions: Vec<_> = found.iter().map(|record| record.local.version).collect();
        assert_eq!(versions, expected.collect::<Vec<_>>());
        assert!(found.iter().all(|record| record.portable.entity == key));
    }
    let nobody = EntityKey::new("thing", "nobody");
    assert_eq!(now(again.read_entity(P0, &nobody, 0, 10)), Ok(vec![]));
    assert_eq!(now(again.read_entity(P1, &key, 0, 10)), Ok(vec![]));
}

#[test]
fn an_old_owner_can_neither_append_nor_store() {
    let disk = MemoryDisk::new();
    let log = open(&disk);
    let mut old = Owner::of(&log, P0);
    old.append(&log, vec![event("a", 1, "1")]);
    let new = Owner::of(&log, P0);
    assert!(new.epoch > old.epoch && new.floor > old.floor);
    let late = old.batch(vec![event("a", 2, "2")]);
    assert_eq!(
        now(log.append(P0, old.epoch, late)),
        Err(AppendError::Fenced(P0))
    );
    let fenced = OwnerError::Fenced {
        partition: P0,
        current: Some(new.epoch),
    };
    assert_eq!(now(log.confirm(P0, old.epoch)), Err(fenced.clone()));
    assert_eq!(
        now(log.renew(P0, old.epoch, Stamp(i64::MAX))),
        Err(fenced.clone())
    );
    assert_eq!(now(log.release(P0, old.epoch)), Err(fenced));
    assert_eq!(now(log.confirm(P0, new.epoch)), Ok(()));
    let kinds: Vec<_> = all(&log, P0).iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [Kind::Claim, Kind::Event, Kind::Claim]);
    now(log.release(P0, new.epoch)).unwrap();
    assert!(now(log.confirm(P0, new.epoch)).is_err());
}

#[test]
fn no_ownership_outlives_the_process_and_epochs_grow_over_restarts() {
    let disk = MemoryDisk::new();
    let log = open(&disk);
    let mut before = Owner::of(&log, P0);
    now(log.close());
    let again = open(&disk);
    let late = before.batch(vec![event("a", 1, "1")]);
    assert_eq!(
        now(again.append(P0, before.epoch, late)),
        Err(AppendError::Fenced(P0))
    );
    assert_eq!(Owner::of(&again, P0).epoch, Epoch(before.epoch.0 + 1));
}

#[test]
fn a_floor_survives_a_restart() {
    let disk = MemoryDisk::new();
    let log = open(&disk);
    let owner = Owner::of(&log, P0);
    let floor = Stamp(owner.floor.0 + (1 << 40));
    now(log.renew(P0, owner.epoch, floor)).unwrap();
    let low = batch(1, owner.floor, P0, vec![event("a", 1, "1")]);
    assert!(matches!(
        now(log.append(P0, owner.epoch, low)),
        Err(AppendError::Refused(Refusal::Invalid(_)))
    ));
    drop(log);
    let again = open(&disk.crash(everfold_log::disk::Crash::Nothing));
    assert!(now(again.claim(P0)).unwrap().floor > floor);
}

#[test]
fn readers_wait_for_what_is_durable() {
    let world = Still::patient();
    let log = everfold_log::Log::open(
        std::sync::Arc::new(MemoryDisk::new()),
        world.clone(),
        small(),
    )
    .unwrap();
    let mut claim = log.claim(P0);
    assert!(poll(&mut claim).is_none());
    assert_eq!(now(log.safe_head(P0)), Ok(Offset(0)));
    let mut wait = log.wait(P0, Offset(0));
    assert!(poll(&mut wait).is_none());
    world.run();
    assert_eq!(poll(&mut wait), Some(Ok(Offset(1))));
    assert_eq!(poll(&mut claim).unwrap().unwrap().safe_head, Offset(1));
}

#[test]
fn a_second_append_of_a_partition_waits_even_if_the_first_caller_goes_away() {
    let world = Still::patient();
    let log = everfold_log::Log::open(
        std::sync::Arc::new(MemoryDisk::new()),
        world.clone(),
        small(),
    )
    .unwrap();
    let mut claim = log.claim(P0);
    poll(&mut claim);
    world.run();
    let mut owner = Owner::after(poll(&mut claim).unwrap().unwrap(), P0);
    let mut first = log.append(P0, owner.epoch, owner.batch(vec![event("a", 1, "1")]));
    let mut second = log.append(P0, owner.epoch, owner.batch(vec![event("a", 2, "2")]));
    assert!(poll(&mut first).is_none() && poll(&mut second).is_none());
    drop(first);
    assert!(poll(&mut second).is_none());
    world.run();
    assert!(poll(&mut second).is_none(), "it was submitted just now");
    world.run();
    assert_eq!(poll(&mut second).unwrap().unwrap().last, Offset(3));
    let payloads: Vec<_> = all(&log, P0)[1..]
        .iter()
        .map(|record| record.portable.payload.clone())
        .collect();
    assert_eq!(payloads, ["1", "2"]);
}

fn put(log: &everfold_log::Log, owner: &Owner, previous: u64, value: Option<&'static str>) -> Put {
    Put {
        area: Area {
            name: "view/1".into(),
            partition: owner.partition,
        },
        epoch: owner.epoch,
        incarnation: log.identity().incarnation,
        previous: Revision(previous),
        clear: false,
        changes: vec![("key".into(), value.map(Into::into))],
    }
}

#[test]
fn an_area_changes_only_from_the_stated_revision() {
    let disk = MemoryDisk::new();
    let log = open(&disk);
    let owner = Owner::of(&log, P0);
    assert_eq!(
        now(log.put(put(&log, &owner, 0, Some("1")))),
        Ok(Revision(1))
    );
    assert_eq!(
        now(log.put(put(&log, &owner, 0, Some("2")))),
        Err(PutError::Changed(Revision(1)))
    );
    let mut foreign = put(&log, &owner, 1, Some("2"));
    foreign.incarnation.0 += 1;
    assert!(matches!(now(log.put(foreign)), Err(PutError::Foreign(_))));
    let area = put(&log, &owner, 0, None).area;
    assert_eq!(now(log.get(&area, b"key")), Ok(Some("1".into())));
    now(log.close());
    let again = open(&disk);
    assert_eq!(now(again.revision(&area)), Ok(Revision(1)));
    assert_eq!(now(again.get(&area, b"key")), Ok(Some("1".into())));
    assert_eq!(
        now(again.put(put(&again, &owner, 1, Some("2")))),
        Err(PutError::Fenced(P0))
    );
    let owner = Owner::of(&again, P0);
    let mut clear = put(&again, &owner, 1, None);
    clear.clear = true;
    clear.changes = (0..5)
        .map(|n| (vec![n].into(), Some(vec![n].into())))
        .collect();
    assert_eq!(now(again.put(clear)), Ok(Revision(2)));
    let entries = now(again.scan(&area, Some(&[1]), 2)).unwrap();
    assert_eq!(
        entries.iter().map(|entry| entry.0[0]).collect::<Vec<_>>(),
        [2, 3]
    );
    assert_eq!(now(again.get(&area, b"key")), Ok(None));
    let other = Area {
        partition: P1,
        ..area
    };
    assert_eq!(now(again.revision(&other)), Ok(Revision(0)));
}

#[test]
fn areas_that_cannot_be_read_are_emptied_and_reported() {
    let disk = MemoryDisk::new();
    let log = open(&disk);
    let owner = Owner::of(&log, P0);
    now(log.put(put(&log, &owner, 0, Some("1")))).unwrap();
    now(log.close());
    disk.replace("areas.redb", vec![0x5a; 20_000]);
    let again = open(&disk);
    assert!(again.report().areas_discarded.is_some());
    let area = put(&again, &owner, 0, None).area;
    assert_eq!(now(again.revision(&area)), Ok(Revision(0)));
    let owner = Owner::of(&again, P0);
    assert_eq!(
        now(again.put(put(&again, &owner, 0, Some("1")))),
        Ok(Revision(1))
    );
}

#[test]
fn a_batch_larger_than_a_segment_finds_room() {
    let disk = MemoryDisk::new();
    let log = open(&disk);
    let mut owner = Owner::of(&log, P0);
    for version in 1..4 {
        owner.append(
            &log,
            vec![event("a", version, vec![version as u8; 200_000])],
        );
    }
    let before = all(&log, P0);
    now(log.close());
    assert_eq!(all(&open(&disk), P0), before);
}

#[test]
fn a_closed_log_takes_nothing_and_ends_waits() {
    let log = open(&MemoryDisk::new());
    let mut owner = Owner::of(&log, P0);
    let mut wait = log.wait(P0, Offset(1));
    assert!(poll(&mut wait).is_none());
    now(log.close());
    assert!(poll(&mut wait).unwrap().is_err());
    let late = owner.batch(vec![event("a", 1, "1")]);
    assert!(matches!(
        now(log.append(P0, owner.epoch, late)),
        Err(AppendError::Refused(Refusal::ReadOnly(_)))
    ));
    assert!(matches!(now(log.claim(P0)), Err(OwnerError::Stopped(_))));
}

#[test]
fn the_file_system_engine_keeps_what_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let disks: [fn(&std::path::Path) -> everfold_log::Directory; 2] = [
        |path| everfold_log::Directory::new(path).unwrap(),
        |path| everfold_log::Directory::new(path).unwrap().buffered(),
    ];
    for (name, disk) in ["direct", "buffered"].iter().zip(disks) {
        let path = directory.path().join(name);
        let open = || {
            let disk = std::sync::Arc::new(disk(&path));
            everfold_log::Log::open(disk, Still::eager(), Options::default()).unwrap()
        };
        let log = open();
        let mut owner = Owner::of(&log, P0);
        for version in 1..=20 {
            owner.append(&log, vec![event("a", version, vec![b'x'; 3000])]);
        }
        let before = all(&log, P0);
        now(log.close());
        let again = open();
        assert_eq!(all(&again, P0), before);
        assert_eq!(again.identity().layout.partitions, 16);
    }
}

#[test]
fn a_reader_that_waits_for_the_disk_holds_up_no_append() {
    let (disk, world) = (MemoryDisk::new(), Still::eager());
    let mut options = small();
    options.tail_bytes = 1;
    options.first_segment_bytes = 1 << 20;
    options.segment_bytes = 1 << 20;
    let log = everfold_log::Log::open(std::sync::Arc::new(disk), world.clone(), options).unwrap();
    let mut owner = Owner::of(&log, P0);
    owner.append(&log, vec![event("a", 1, "1")]);
    world.hold_jobs();
    let mut read = log.read(P0, Offset(0), ReadLimit::default());
    assert!(poll(&mut read).is_none());
    for version in 2..20 {
        owner.append(&log, vec![event("a", version, "more")]);
    }
    assert!(poll(&mut read).is_none());
    world.release_jobs();
    let chunk = poll(&mut read).unwrap().unwrap();
    assert_eq!((chunk.records.len(), chunk.safe_head), (2, Offset(2)));
}
