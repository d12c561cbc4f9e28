//! Indexes that are damaged or missing while their log is in use.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use everfold_engine::engine::{Engine, ReadError};
use everfold_engine::{EntityKey, Offset};
use everfold_log::disk::{Fault, FaultPlan};
use everfold_log::{Disk, Log, MemoryDisk, Options, verify};

use support::*;

fn options(plain_segments: u64) -> Options {
    let mut options = small();
    options.segment_bytes = 16 << 10;
    options.tail_bytes = 0;
    options.read_cache_bytes = 0;
    options.plain_segments = plain_segments;
    options
}

fn log_of(disk: &MemoryDisk, options: &Options, events: u64) -> (Arc<Log>, Owner) {
    let log = try_open(disk, options.clone()).unwrap();
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, 1, events);
    (log, owner)
}

fn fill(log: &Log, owner: &mut Owner, first: u64, last: u64) {
    for version in first..=last {
        owner.append(log, vec![event("a", version, vec![version as u8; 700])]);
    }
}

fn indexes(disk: &MemoryDisk) -> Vec<String> {
    let mut names = Disk::list(disk).unwrap();
    names.retain(|name| name.ends_with(".index"));
    names.sort();
    names
}

fn versions(log: &Log) -> Result<Vec<u64>, ReadError> {
    let found = now(log.read_entity(P0, &EntityKey::new("thing", "a"), 0, 10_000))?;
    Ok(found.iter().map(|record| record.local.version).collect())
}

fn assert_whole(disk: &MemoryDisk) {
    let found = verify(disk, &mut |_, _| {}).unwrap();
    assert_eq!(found.damage, []);
}

#[test]
fn a_damaged_index_is_reported_once_and_then_as_good_as_before() {
    for plain_segments in [0, 100] {
        let (disk, options) = (MemoryDisk::new(), options(plain_segments));
        let (log, mut owner) = log_of(&disk, &options, 300);
        let before = indexes(&disk);
        assert!(before.contains(&"0000000001-0000000008.index".to_owned()));
        before.iter().for_each(|name| disk.flip(name, 40, 0));
        let told = versions(&log);
        assert!(matches!(&told, Err(ReadError::Damaged(why)) if why.contains(".index")));
        let whole = |last: u64| Ok((1..=last).collect::<Vec<_>>());
        assert_eq!(versions(&log), whole(300));
        assert_eq!(all(&log, P0).len(), 301);
        assert_eq!(indexes(&disk), before);
        fill(&log, &mut owner, 301, 400);
        assert_eq!(versions(&log), whole(400));
        assert!(log.doctor().iter().all(|finding| finding.name != "upkeep"));
        now(log.close());
        drop(log);
        assert_whole(&disk);
        let log = try_open(&disk, options).unwrap();
        assert_eq!(log.report().indexes_made, 0);
        assert_eq!(versions(&log), whole(400));
    }
}

/// Nothing is to be lost by making an index again that cannot be made again.
#[test]
fn a_damaged_index_of_a_damaged_segment_stays_and_is_told_of() {
    let (disk, options) = (MemoryDisk::new(), options(100));
    let (log, mut owner) = log_of(&disk, &options, 60);
    disk.flip("0000000002-0000000002.index", 40, 0);
    disk.flip("0000000002.log", 9000, 0);
    assert!(versions(&log).is_err());
    assert!(
        versions(&log).is_err(),
        "events are missing, and nobody says so"
    );
    let finding = log.doctor();
    let finding = finding.iter().find(|finding| finding.name == "upkeep");
    assert!(finding.unwrap().value.contains("0000000002.log"));
    assert!(indexes(&disk).contains(&"0000000002-0000000002.index".to_owned()));
    fill(&log, &mut owner, 61, 400);
    let merged = indexes(&disk);
    assert!(
        merged
            .iter()
            .any(|name| name > &"0000000003".to_owned() && !is_single(name))
    );
}

#[test]
fn an_index_of_many_segments_stays_whole_if_one_of_them_is_damaged() {
    let (disk, options) = (MemoryDisk::new(), options(100));
    let (log, _) = log_of(&disk, &options, 300);
    let before = indexes(&disk);
    disk.flip("0000000001-0000000008.index", 40, 0);
    disk.flip("0000000005.log", 9000, 0);
    assert!(versions(&log).is_err());
    assert!(versions(&log).is_err());
    assert_eq!(indexes(&disk), before);
}

fn is_single(name: &str) -> bool {
    name[..10] == name[11..21]
}

#[test]
fn an_index_that_finds_no_room_when_the_log_is_opened_is_written_later() {
    for plain_segments in [0, 2, 100] {
        for missing in 0..3 {
            let (disk, options) = (MemoryDisk::new(), options(plain_segments));
            let (log, _) = log_of(&disk, &options, 240);
            now(log.close());
            drop(log);
            let gone = indexes(&disk)[missing].clone();
            Disk::remove(&disk, &gone).unwrap();
            disk.set_capacity(Some(0));
            let log = try_open(&disk, options.clone()).unwrap();
            let whole = |last: u64| Ok((1..=last).collect::<Vec<_>>());
            assert_eq!(versions(&log), whole(240), "without {gone}");
            let offsets = all(&log, P0);
            let offsets: Vec<_> = offsets.iter().map(|record| record.local.offset).collect();
            assert_eq!(offsets, (1..=241).map(Offset).collect::<Vec<_>>());
            disk.set_capacity(None);
            let mut owner = Owner::of(&log, P0);
            fill(&log, &mut owner, 241, 300);
            assert_eq!(versions(&log), whole(300), "{gone} of {plain_segments}");
            now(log.close());
            drop(log);
            assert_whole(&disk);
            let log = try_open(&disk, options).unwrap();
            assert_eq!(log.report().indexes_made, 0, "{gone} of {plain_segments}");
            assert_eq!(versions(&log), whole(300));
        }
    }
}

/// A device that fails to read says nothing of what is stored: whoever reads asks again.
#[test]
fn an_index_that_the_device_fails_to_read_is_not_called_damaged() {
    let (disk, options) = (MemoryDisk::new(), options(100));
    let (log, _) = log_of(&disk, &options, 300);
    let whole: Vec<u64> = (1..=300).collect();
    let mut refused = 0;
    for nth in 1..10 {
        disk.set_plan(FaultPlan::new(nth).at(Fault::FailedRead, nth));
        match versions(&log) {
            Ok(found) => assert_eq!(found, whole),
            Err(ReadError::Unavailable(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        disk.set_plan(FaultPlan::default());
        assert_eq!(versions(&log), Ok(whole.clone()));
    }
    assert!(refused > 0);
}
