//! Reading back what was written long ago: while the log is in use, and all of it.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use everfold_engine::{Engine, Offset, World};
use everfold_log::disk::Crash;
use everfold_log::{Disk, Log, MemoryDisk, Options, Verified, verify};
use everfold_sim::Simulation;

use support::*;

fn options() -> Options {
    let mut options = small();
    options.plain_segments = 2;
    options.scrub_bytes_per_second = None;
    options
}

fn log_of(disk: &MemoryDisk) -> Arc<Log> {
    log_about(disk, "a")
}

fn log_about(disk: &MemoryDisk, entity: &str) -> Arc<Log> {
    let log = try_open(disk, options()).unwrap();
    let (mut owner, mut other) = (Owner::of(&log, P0), Owner::of(&log, P1));
    for version in 1..=250 {
        owner.append(&log, vec![event(entity, version, vec![version as u8; 700])]);
        if version % 5 == 0 {
            other.append(&log, vec![event("b", version / 5, vec![3; 50])]);
        }
    }
    log
}

fn flip(disk: &MemoryDisk, name: &str, at: usize) {
    let mut bytes = disk.contents(name).unwrap();
    bytes[at] ^= 4;
    disk.replace(name, bytes);
}

fn looked_at(disk: &MemoryDisk) -> Verified {
    verify(disk, &mut |_, _| {}).unwrap()
}

#[test]
fn a_scrub_finds_nothing_in_a_log_that_is_whole() {
    let disk = MemoryDisk::new();
    let log = log_of(&disk);
    assert!(log.doctor().iter().all(|finding| finding.name != "scrub"));
    let mut told = (0, 0);
    let found = now(log.scrub(|done, total| told = (done, total))).unwrap();
    assert!(
        found.damage.is_empty() && found.indexes.is_empty(),
        "{found:?}"
    );
    assert!(found.segments > 4 && found.records > 200);
    assert_eq!(told, (found.bytes, found.bytes));
    let findings = log.doctor();
    let scrub = findings
        .iter()
        .find(|finding| finding.name == "scrub")
        .unwrap();
    assert!(scrub.value.contains("damaged in 0 places") && !scrub.loses_data);
}

#[test]
fn a_scrub_finds_damage_in_every_form_and_tells_it() {
    let whole = MemoryDisk::new();
    drop(log_of(&whole));
    let names = segments(&whole);
    let full = &names[..names.len() - 2];
    assert!(full.iter().any(|name| name.ends_with(".sealed")));
    assert!(full.iter().any(|name| name.ends_with(".log")));
    for name in full {
        let disk = whole.crash(Crash::Everything);
        let log = try_open(&disk, options()).unwrap();
        let at = if name.ends_with(".sealed") {
            900
        } else {
            4096 + 1000
        };
        flip(&disk, name, at);
        let found = now(log.scrub(|_, _| {})).unwrap();
        assert_eq!(found.damage.len(), 1, "{name}: {found:?}");
        assert_eq!(found.damage[0].file, *name);
        let findings = log.doctor();
        let damage = findings
            .iter()
            .find(|finding| finding.name == "damage")
            .unwrap();
        assert!(damage.loses_data && damage.value.contains(name.as_str()));
        // Whole again: the next scrub says so.
        flip(&disk, name, at);
        assert!(now(log.scrub(|_, _| {})).unwrap().damage.is_empty());
        assert!(log.doctor().iter().all(|finding| finding.name != "damage"));
        now(log.close());
        assert!(now(log.scrub(|_, _| {})).is_err());
    }
}

#[test]
fn a_scrub_comes_by_itself_and_no_faster_than_allowed() {
    let simulation = Simulation::new(7);
    let disk = MemoryDisk::new();
    drop(log_of(&disk));
    let bytes: u64 = segments(&disk)
        .iter()
        .map(|name| disk.contents(name).unwrap().len() as u64)
        .sum();
    let world: Arc<dyn World> = simulation.world();
    let mut options = options();
    options.scrub_every = Some(Duration::from_secs(240));
    options.scrub_bytes_per_second = Some(1 << 10);
    let log = Log::open(Arc::new(disk.clone()), Arc::clone(&world), options).unwrap();
    let scrubbed = |log: &Log| log.doctor().iter().any(|finding| finding.name == "scrub");
    let took = simulation.run(async move {
        world.sleep(Duration::from_secs(10)).await;
        while !scrubbed(&log) {
            world.sleep(Duration::from_secs(1)).await;
        }
        let took = world.elapsed();
        log.close().await;
        took
    });
    let least = (bytes - (96 << 10)) >> 10;
    assert!(
        took >= Duration::from_secs(least),
        "{took:?} for {bytes} bytes"
    );
}

/// Attacks: one look that ends at the first thing that is wrong.
#[test]
fn verification_goes_on_behind_damage_and_names_all_of_it() {
    let disk = MemoryDisk::new();
    let log = log_of(&disk);
    now(log.close());
    let before = looked_at(&disk);
    assert!(
        before.damage.is_empty() && before.indexes.is_empty(),
        "{before:?}"
    );
    let names = segments(&disk);
    let (packed, plain) = (&names[1], &names[names.len() - 3]);
    assert!(packed.ends_with(".sealed") && plain.ends_with(".log"));
    let active = &names[names.len() - 2];
    // Headers of a packed one, a plain one, and the one in use; and a file that is gone.
    for name in [packed, plain, active] {
        flip(&disk, name, 30);
    }
    Disk::remove(&disk, &names[3]).unwrap();
    let found = looked_at(&disk);
    for name in [packed.as_str(), plain, active, "0000000004.log"] {
        let named = found.damage.iter().filter(|damage| damage.file == name);
        assert_eq!(named.count(), 1, "{name}: {found:?}");
    }
    assert_eq!(found.damage.len(), 4, "{found:?}");
    assert_eq!(found.segments, before.segments - 4);
}

#[test]
fn indexes_are_compared_with_their_segments() {
    let whole = MemoryDisk::new();
    now(log_of(&whole).close());
    let names = Disk::list(&whole).unwrap();
    let indexes: Vec<String> = names
        .into_iter()
        .filter(|name| name.ends_with(".index"))
        .collect();
    for name in &indexes {
        let length = whole.contents(name).unwrap().len();
        for at in [20, length / 2, length - 100] {
            let disk = whole.crash(Crash::Everything);
            flip(&disk, name, at);
            let found = looked_at(&disk);
            assert!(found.damage.is_empty());
            assert_eq!(found.indexes.len(), 1, "{name} at {at}");
            assert_eq!(found.indexes[0].file, *name);
            // As is said: one that is removed is made again.
            Disk::remove(&disk, name).unwrap();
            now(try_open(&disk, options()).unwrap().close());
            let found = looked_at(&disk);
            assert!(
                found.damage.is_empty() && found.indexes.is_empty(),
                "{found:?}"
            );
        }
    }
    // Checksums are right, but of another log that ran the same way.
    let other = MemoryDisk::new();
    now(log_about(&other, "c").close());
    let name = Disk::list(&other)
        .unwrap()
        .into_iter()
        .find(|name| indexes.contains(name))
        .unwrap();
    let disk = whole.crash(Crash::Everything);
    disk.replace(&name, other.contents(&name).unwrap());
    let found = looked_at(&disk);
    assert!(found.damage.is_empty());
    assert_eq!(found.indexes.len(), 1, "{found:?}");
}

/// Attacks: segments that are packed and used again while they are read back.
#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_beside_writes_finds_no_damage() {
    {
        let world: Arc<dyn World> = everfold_engine::world::System::current();
        let mut options = options();
        options.plain_segments = 0;
        let log = Log::open(Arc::new(MemoryDisk::new()), Arc::clone(&world), options).unwrap();
        let mut owner = Owner::after(log.claim(P0).await.unwrap(), P0);
        let room = Arc::new(tokio::sync::Semaphore::new(0));
        let (writes, permits) = (Arc::clone(&log), Arc::clone(&room));
        let (end, ended) = tokio::sync::oneshot::channel();
        let writer = async move {
            let mut version = 0;
            while let Ok(permit) = permits.acquire().await {
                permit.forget();
                version += 1;
                let batch = owner.batch(vec![event("a", version, vec![5; 3000])]);
                writes.append(P0, owner.epoch, batch).await.unwrap();
            }
            let _ = end.send(());
        };
        world.spawn("writer", Box::pin(writer));
        for round in 0..30 {
            room.add_permits(60);
            let found = log.scrub(|_, _| {}).await.unwrap();
            assert!(found.damage.is_empty(), "{found:?}");
            assert!(found.indexes.is_empty(), "{found:?}");
            log.wait(P0, Offset(round * 60)).await.unwrap();
        }
        room.close();
        ended.await.unwrap();
        assert!(log.scrub(|_, _| {}).await.unwrap().segments > 10);
        log.close().await;
    }
}
