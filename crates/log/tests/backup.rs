//! Backups: of a log that is being written, cut short anywhere, damaged, and back.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use everfold_engine::world::System;
use everfold_engine::{Engine, Record, World};
use everfold_log::disk::{Access, Crash};
use everfold_log::{
    BackupError, Directory, Disk, Log, MemoryDisk, OpenError, Options, backup, restore,
    verify_backup,
};

use support::*;

fn packing() -> Options {
    let mut options = small();
    options.plain_segments = 1;
    options
}

fn shared(disk: &MemoryDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn write(log: &Log, owner: &mut Owner, versions: std::ops::RangeInclusive<u64>) {
    for version in versions {
        let payload: Vec<u8> = (0..600).map(|n| (version * 31 + n * n) as u8).collect();
        owner.append(log, vec![event("a", version, payload)]);
    }
}

fn back_up(
    source: &MemoryDisk,
    target: &MemoryDisk,
) -> Result<everfold_log::BackedUp, BackupError> {
    backup(source, &shared(target), &mut |_, _| {})
}

fn restored(from: &MemoryDisk) -> Result<MemoryDisk, BackupError> {
    let target = MemoryDisk::new();
    restore(&shared(from), &target, &mut |_, _| {})?;
    Ok(target)
}

fn contents(disk: &MemoryDisk) -> [Vec<Arc<Record>>; 2] {
    let log = try_open(disk, packing()).unwrap();
    let found = [all(&log, P0), all(&log, P1)];
    now(log.close());
    found
}

#[test]
fn a_log_in_use_is_backed_up_in_steps_and_goes_on_where_it_is_restored() {
    let (disk, target) = (MemoryDisk::new(), MemoryDisk::new());
    let log = try_open(&disk, packing()).unwrap();
    let mut owner = Owner::of(&log, P0);
    write(&log, &mut owner, 1..=150);
    let first = now(log.backup(shared(&target), |_, _| {})).unwrap();
    assert_eq!(first.number, 1);
    assert_eq!(first.copied, first.segments);
    let then = all(&log, P0);
    let mut told = (0, 0);
    write(&log, &mut owner, 151..=260);
    let second = backup(&disk, &shared(&target), &mut |done, total| {
        told = (done, total)
    })
    .unwrap();
    assert_eq!(told.0, told.1, "all of it was told");
    assert_eq!(second.number, 2);
    assert!(second.segments > first.segments);
    // What was plain then was packed since, or was being written; the rest is there.
    assert_eq!(second.copied, second.segments - (first.segments - 2));
    let now_there = all(&log, P0);
    assert_eq!(second.records, now_there.len() as u64);
    let third = back_up(&disk, &target).unwrap();
    assert_eq!((third.copied, third.bytes), (0, 0));
    assert!(
        disk.contents("0000000001.sealed").is_some(),
        "segments were packed"
    );
    let back = restored(&target).unwrap();
    write(&log, &mut owner, 261..=262);
    now(log.close());
    let log = try_open(&back, packing()).unwrap();
    let found = all(&log, P0);
    assert_eq!(found, now_there);
    assert_eq!(found[..then.len()], then[..]);
    let entity = everfold_engine::EntityKey::new("thing", "a");
    assert_eq!(
        now(log.read_entity(P0, &entity, 0, 1000)).unwrap().len(),
        260
    );
    let mut owner = Owner::of(&log, P0);
    write(&log, &mut owner, 261..=300);
    now(log.close());
    assert!(
        everfold_log::verify(&back, &mut |_, _| {})
            .unwrap()
            .damage
            .is_empty()
    );
    assert_eq!(contents(&back)[0].len(), now_there.len() + 41);
}

/// What a job that blocks comes to, beside the tasks.
async fn aside<T: Send + 'static>(
    world: &Arc<dyn World>,
    job: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, result) = tokio::sync::oneshot::channel();
    let run = move || {
        let _ = done.send(job());
    };
    world.block("aside", Box::new(run));
    result.await.unwrap()
}

/// Attacks: segments are packed, their files renamed, zeroed and used again while they are copied.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_during_writes_holds_a_prefix() {
    let place = tempfile::tempdir().unwrap();
    {
        for on_files in [false, true] {
            let world: Arc<dyn World> = System::current();
            let disk: Arc<dyn Disk> = if on_files {
                Arc::new(Directory::new(place.path().join("log")).unwrap())
            } else {
                Arc::new(MemoryDisk::new())
            };
            let log = Log::open(Arc::clone(&disk), Arc::clone(&world), packing()).unwrap();
            // So many writes go beside each backup: more than one alone, and not for ever.
            let room = Arc::new(tokio::sync::Semaphore::new(0));
            let mut writers = Vec::new();
            for partition in [P0, P1] {
                let (log, room) = (Arc::clone(&log), Arc::clone(&room));
                let mut owner = Owner::after(log.claim(partition).await.unwrap(), partition);
                let (end, ended) = tokio::sync::oneshot::channel();
                writers.push(ended);
                let writer = async move {
                    let mut version = 0;
                    while let Ok(permit) = room.acquire().await {
                        permit.forget();
                        version += 1;
                        let records = vec![event("a", version, vec![version as u8; 3000])];
                        let batch = owner.batch(records);
                        log.append(partition, owner.epoch, batch).await.unwrap();
                    }
                    let _ = end.send(());
                };
                world.spawn("writer", Box::pin(writer));
            }
            let target: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
            let mut grown = 0;
            for round in 0..12 {
                room.add_permits(150);
                // Every other one looks from outside, as another process does.
                let done = if round % 2 == 0 {
                    log.backup(Arc::clone(&target), |_, _| {}).await.unwrap()
                } else {
                    let (source, target) = (Arc::clone(&disk), Arc::clone(&target));
                    let job = move || backup(&*source, &target, &mut |_, _| {});
                    aside(&world, job).await.unwrap()
                };
                assert!(done.records >= grown);
                grown = done.records;
                let from = Arc::clone(&target);
                let job = move || {
                    let back = MemoryDisk::new();
                    let found = restore(&from, &back, &mut |_, _| {}).unwrap();
                    assert_eq!(found.records, done.records);
                    contents(&back)
                };
                let copies = aside(&world, job).await;
                for (partition, mut ours) in [P0, P1].into_iter().zip(copies) {
                    let mut after = everfold_engine::Offset(0);
                    let wanted = ours.len();
                    let mut theirs = Vec::new();
                    while theirs.len() < wanted {
                        let chunk = log
                            .read(partition, after, Default::default())
                            .await
                            .unwrap();
                        after = chunk.next;
                        theirs.extend(chunk.records);
                    }
                    theirs.truncate(wanted);
                    // One by one: a difference is to be readable.
                    for (ours, theirs) in ours.drain(..).zip(theirs) {
                        assert_eq!(ours, theirs);
                    }
                }
            }
            room.close();
            for writer in writers {
                writer.await.unwrap();
            }
            log.close().await;
            let names = disk.list().unwrap();
            assert!(
                names.iter().any(|name| name.ends_with(".sealed")),
                "{names:?}"
            );
        }
    }
}

/// What is there when a process is killed and the machine goes on.
fn killed(disk: &MemoryDisk) -> MemoryDisk {
    let copy = MemoryDisk::new();
    for name in Disk::list(disk).unwrap() {
        copy.replace(&name, disk.contents(&name).unwrap());
    }
    copy
}

fn two_states() -> (MemoryDisk, MemoryDisk, [[Vec<Arc<Record>>; 2]; 2]) {
    let (disk, target) = (MemoryDisk::new(), MemoryDisk::new());
    let log = try_open(&disk, packing()).unwrap();
    let (mut owner, mut other) = (Owner::of(&log, P0), Owner::of(&log, P1));
    write(&log, &mut owner, 1..=70);
    write(&log, &mut other, 1..=3);
    back_up(&disk, &target).unwrap();
    let first = [all(&log, P0), all(&log, P1)];
    write(&log, &mut owner, 71..=160);
    let second = [all(&log, P0), all(&log, P1)];
    now(log.close());
    (disk, target, [first, second])
}

#[test]
fn a_backup_that_is_cut_short_anywhere_leaves_the_one_before() {
    let (disk, target, states) = two_states();
    for seed in 0.. {
        let attempt = target.crash(Crash::Everything);
        attempt.die_after(seed);
        let done = back_up(&disk, &attempt);
        let crash = |kind| attempt.crash(kind);
        let kinds = [Crash::Nothing, Crash::Everything, Crash::Sectors(seed)];
        for after in kinds.map(crash).into_iter().chain([killed(&attempt)]) {
            let found = contents(&restored(&after).unwrap());
            let expected = if done.is_ok() {
                &states[1..]
            } else {
                &states[..]
            };
            assert!(expected.contains(&found), "after {seed} operations");
            // And the next one gets it all.
            back_up(&disk, &after).unwrap();
            assert_eq!(contents(&restored(&after).unwrap()), states[1]);
        }
        if done.is_ok() && attempt.operations() < seed {
            assert!(seed > 12, "{seed} operations");
            return;
        }
    }
}

#[test]
fn a_restore_that_is_cut_short_anywhere_is_no_log_and_begins_anew() {
    let (disk, target, states) = two_states();
    back_up(&disk, &target).unwrap();
    for seed in 0.. {
        let attempt = MemoryDisk::new();
        attempt.die_after(seed);
        let done = restore(&shared(&target), &attempt, &mut |_, _| {});
        let crash = |kind| attempt.crash(kind);
        let kinds = [Crash::Nothing, Crash::Everything, Crash::Sectors(seed)];
        for after in kinds.map(crash).into_iter().chain([killed(&attempt)]) {
            let is_log = Disk::list(&after)
                .unwrap()
                .iter()
                .any(|name| name.ends_with(".log"));
            if done.is_err() && is_log {
                let opened = try_open(&after, packing());
                if Disk::list(&after)
                    .unwrap()
                    .iter()
                    .any(|name| name == "restoring")
                {
                    assert!(matches!(opened, Err(OpenError::Unfinished { .. })));
                } else {
                    // Nothing but the last step was cut off.
                    now(opened.unwrap().close());
                    assert_eq!(contents(&after), states[1]);
                    continue;
                }
            }
            if done.is_err() {
                restore(&shared(&target), &after, &mut |_, _| {}).unwrap();
            }
            assert_eq!(contents(&after), states[1]);
        }
        if done.is_ok() {
            assert!(seed > 12, "{seed} operations");
            return;
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_named_before_anything_is_restored() {
    let (disk, target, _) = two_states();
    back_up(&disk, &target).unwrap();
    assert!(
        verify_backup(&shared(&target), &mut |_, _| {})
            .unwrap()
            .damage
            .is_empty()
    );
    for name in Disk::list(&target).unwrap() {
        let bytes = target.contents(&name).unwrap();
        for at in [
            0,
            9,
            bytes.len() / 3,
            bytes.len() / 2,
            bytes.len().saturating_sub(1),
        ] {
            if bytes.is_empty() {
                continue;
            }
            let broken = target.crash(Crash::Everything);
            let mut bytes = bytes.clone();
            bytes[at] ^= 16;
            broken.replace(&name, bytes);
            let back = MemoryDisk::new();
            let error = restore(&shared(&broken), &back, &mut |_, _| {}).unwrap_err();
            assert!(error.to_string().contains(&name), "{name} at {at}: {error}");
            assert_eq!(Disk::list(&back).unwrap(), Vec::<String>::new());
            match verify_backup(&shared(&broken), &mut |_, _| {}) {
                Ok(found) => assert!(found.damage.iter().any(|damage| damage.file == name)),
                Err(error) => assert!(error.to_string().contains(&name), "{error}"),
            }
        }
        let broken = target.crash(Crash::Everything);
        Disk::remove(&broken, &name).unwrap();
        assert!(restored(&broken).is_err(), "{name}");
    }
}

#[test]
fn damage_is_not_copied() {
    let (disk, _, _) = two_states();
    for name in segments(&disk) {
        let broken = disk.crash(Crash::Everything);
        let mut bytes = broken.contents(&name).unwrap();
        let at = if name.ends_with(".sealed") {
            700
        } else {
            4096 + 2000
        };
        bytes[at] ^= 1;
        broken.replace(&name, bytes);
        let target = MemoryDisk::new();
        let error = back_up(&broken, &target).unwrap_err();
        assert!(
            matches!(&error, BackupError::Log(OpenError::Damaged(damage)) if damage.file.contains(&name)),
            "{name}: {error}"
        );
        assert!(matches!(
            restored(&target),
            Err(BackupError::NotABackup { .. })
        ));
    }
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let (disk, target, states) = two_states();
    // Another log, also of the same name.
    let other = MemoryDisk::new();
    let world = Still::eager();
    World::random(&*world);
    now(Log::open(shared(&other), world, packing()).unwrap().close());
    let error = back_up(&other, &target).unwrap_err();
    assert!(matches!(error, BackupError::OtherLog { .. }), "{error}");
    // A directory of something else.
    let letters = MemoryDisk::new();
    letters.replace("letters.txt", vec![1]);
    let error = back_up(&disk, &letters).unwrap_err();
    assert!(matches!(&error, BackupError::Foreign { file, .. } if file == "letters.txt"));
    assert!(restore(&shared(&target), &letters, &mut |_, _| {}).is_err());
    assert!(restore(&shared(&target), &disk, &mut |_, _| {}).is_err());
    assert!(matches!(
        restored(&MemoryDisk::new()),
        Err(BackupError::NotABackup { .. })
    ));
    // A backup is no log, and is not taken for one.
    assert!(matches!(
        try_open(&target, packing()),
        Err(OpenError::Backup { .. })
    ));
    assert!(matches!(
        back_up(&target, &MemoryDisk::new()),
        Err(BackupError::Log(_))
    ));
    // A log that went on from an older state.
    let older = restored(&target).unwrap();
    back_up(&disk, &target).unwrap();
    assert!(matches!(
        back_up(&older, &target),
        Err(BackupError::Ahead { .. })
    ));
    for versions in [71..=80, 81..=300] {
        let log = try_open(&older, packing()).unwrap();
        let mut owner = Owner::of(&log, P0);
        for version in versions {
            owner.append(&log, vec![event("b", version, vec![7; 600])]);
        }
        let mut third = Owner::of(&log, P1);
        for version in 1..5 {
            third.append(&log, vec![event("c", version, vec![8; 600])]);
        }
        now(log.close());
        let error = back_up(&older, &target).unwrap_err();
        assert!(matches!(error, BackupError::Ahead { .. }), "{error}");
    }
    assert_eq!(contents(&restored(&target).unwrap()), states[1]);
    // A newer format.
    let mut bytes = target.contents("backup.manifest").unwrap();
    bytes[8] = 9;
    target.replace("backup.manifest", bytes);
    assert!(matches!(
        restored(&target),
        Err(BackupError::Newer { found: 9, .. })
    ));
}

#[test]
fn a_copy_that_has_gone_is_made_again() {
    let (disk, target, states) = two_states();
    let name = "0000000001.sealed.copy";
    let name = if target.contents(name).is_some() {
        name
    } else {
        "0000000001.log.copy"
    };
    Disk::open(&target, name, Access::Store)
        .unwrap()
        .set_len(100)
        .unwrap();
    back_up(&disk, &target).unwrap();
    assert_eq!(contents(&restored(&target).unwrap()), states[1]);
    // A packed segment whose file was replaced is another one.
    let log = try_open(&disk, packing()).unwrap();
    let mut owner = Owner::of(&log, P0);
    write(&log, &mut owner, 161..=170);
    now(log.close());
    let names = Disk::list(&target).unwrap();
    let copy = names
        .iter()
        .find(|name| name.starts_with("0000000001.sealed"));
    let mut bytes = target.contents(copy.unwrap()).unwrap();
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    target.replace(copy.unwrap(), bytes);
    assert!(restored(&target).is_err());
    back_up(&disk, &target).unwrap();
    assert_eq!(contents(&restored(&target).unwrap()), contents(&disk));
}

/// Attacks: a log that was restored and went on otherwise within the segment that is written.
#[test]
fn a_fork_within_a_segment_is_refused() {
    let (disk, target) = (MemoryDisk::new(), MemoryDisk::new());
    let log = open(&disk);
    let mut owner = Owner::of(&log, P0);
    write(&log, &mut owner, 1..=3);
    back_up(&disk, &target).unwrap();
    let fork = restored(&target).unwrap();
    write(&log, &mut owner, 4..=5);
    now(log.close());
    back_up(&disk, &target).unwrap();
    let log = open(&fork);
    let mut owner = Owner::of(&log, P0);
    for version in 4..=9 {
        owner.append(&log, vec![event("a", version, "otherwise")]);
    }
    now(log.close());
    let error = back_up(&fork, &target).unwrap_err();
    assert!(matches!(error, BackupError::Ahead { .. }), "{error}");
    assert_eq!(contents(&restored(&target).unwrap()), contents(&disk));
}
