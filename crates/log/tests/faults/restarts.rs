//! A process ends, the next one goes on, and then the power fails: what the first one wrote without
//! having flushed it must not be built upon as if it were there.

use std::sync::Arc;

use everfold_engine::engine::{Engine, Put, PutError, Revision};
use everfold_log::disk::{Crash, Fault, FaultPlan};
use everfold_log::{Log, MemoryDisk};

use crate::support::*;
use crate::told::area;

/// A log whose background work never gets its turn.
fn hurried(disk: &MemoryDisk) -> (Arc<Log>, Arc<Still>) {
    let world = Still::eager();
    world.hold_jobs();
    let log = Log::open(Arc::new(disk.clone()), world.clone(), small()).unwrap();
    (log, world)
}

#[test]
fn the_names_of_files_are_durable_before_anything_is_acknowledged() {
    let disk = MemoryDisk::new();
    disk.set_plan(FaultPlan::new(0).at(Fault::FailedDirectorySync, 1));
    assert!(
        try_open(&disk, small()).is_err(),
        "the first segment has no durable name"
    );
    let (log, _) = hurried(&disk);
    let mut owner = Owner::of(&log, P0);
    owner.append(&log, vec![event("a", 1, "kept")]);
    let after = open(&disk.crash(Crash::Nothing));
    assert_eq!(all(&after, P0).len(), 2);
}

#[test]
fn what_is_found_is_durable_before_a_later_segment_begins() {
    let mut rolled = 0;
    // Some sizes leave no room for what the next process writes first.
    for size in (11_000..12_200).step_by(24) {
        let disk = MemoryDisk::new();
        let (log, world) = hurried(&disk);
        let mut owner = Owner::of(&log, P0);
        disk.set_plan(FaultPlan::new(0).at(Fault::LyingSync, 1));
        owner.append(&log, vec![event("a", 1, vec![b'x'; size])]);
        // Killed between writing and flushing.
        world.end();
        let (log, world) = hurried(&disk);
        let mut owner = Owner::of(&log, P0);
        rolled += u64::from(disk.contents("0000000002.log").is_some());
        owner.append(&log, vec![event("a", 2, "kept")]);
        let after_power = disk.crash(Crash::Nothing);
        world.release_jobs();
        let before = all(&log, P0);
        let after = open(&after_power);
        assert_eq!(all(&after, P0), before, "after an event of {size} bytes");
    }
    assert!(rolled > 0);
}

#[test]
fn a_store_of_areas_whose_flush_failed_is_left_alone_until_the_next_start() {
    let disk = MemoryDisk::new();
    let world = Still::eager();
    let log = Log::open(Arc::new(disk.clone()), world.clone(), small()).unwrap();
    let owner = Owner::of(&log, P0);
    let put = |previous| {
        now(log.put(Put {
            area: area(),
            epoch: owner.epoch,
            incarnation: log.identity().incarnation,
            previous: Revision(previous),
            clear: false,
            changes: vec![("count".into(), Some("value".into()))],
        }))
    };
    put(0).unwrap();
    let plan = FaultPlan::new(0).only(Fault::FailedSync, "areas.redb");
    disk.set_plan(plan.at(Fault::FailedSync, 1));
    assert!(put(1).is_err());
    // Read back it might look as if it had been flushed, and be built upon.
    for previous in [1, 2, 1] {
        assert!(matches!(put(previous), Err(PutError::Unavailable(_))));
    }
    for seed in 0..50 {
        let after = open(&disk.crash(Crash::Sectors(seed)));
        assert_eq!(after.report().areas_discarded, None);
        let revision = now(after.revision(&area())).unwrap();
        assert!((1..=2).contains(&revision.0), "{revision:?}");
    }
}
