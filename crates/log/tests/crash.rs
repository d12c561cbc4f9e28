//! Power cuts: what was acknowledged is there, what was not is whole or absent, whatever part of the
//! unflushed sectors the device kept.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use everfold_engine::engine::{AppendError, Area, Engine, Put, Revision};
use everfold_engine::record::{Kind, Record};
use everfold_engine::{Partition, Stamp};
use everfold_log::disk::Crash;
use everfold_log::{Log, MemoryDisk, OpenError, Options, verify};
use proptest::prelude::*;

use support::*;

const PARTITIONS: u16 = 3;

/// What the application was told.
#[derive(Default, Clone)]
struct Told {
    partitions: [Side; PARTITIONS as usize],
    /// Acknowledged puts, and whether one more is not known.
    puts: u64,
    put_unknown: bool,
    floor: Stamp,
}

#[derive(Default, Clone)]
struct Side {
    acknowledged: Vec<Record>,
    /// Ended without an answer: whole or absent.
    unknown: Vec<Record>,
}

fn options() -> Options {
    let mut options = small();
    options.partitions = Some(PARTITIONS);
    options
}

fn area() -> Area {
    Area {
        name: "view".into(),
        partition: P0,
    }
}

/// Appends to all partitions at once, round by round, until the disk dies or the rounds are over.
fn work(disk: &MemoryDisk, told: &mut Told, rounds: u64, size: usize) -> Result<(), ()> {
    let world = Still::patient();
    let log = Log::open(Arc::new(disk.clone()), world.clone(), options()).map_err(|_| ())?;
    told.check(&log).unwrap_or_else(|wrong| panic!("{wrong}"));
    let mut owners = Vec::new();
    for partition in (0..PARTITIONS).map(Partition) {
        let mut claim = log.claim(partition);
        poll(&mut claim);
        world.run();
        let claim = poll(&mut claim).ok_or(())?.map_err(|_| ())?;
        owners.push(Owner::after(claim, partition));
    }
    for round in 0..rounds {
        let mut appends = Vec::new();
        for (index, owner) in owners.iter_mut().enumerate() {
            let side = &mut told.partitions[index];
            let next = side.acknowledged.len() as u64 + 1;
            let count = (round + index as u64) % 3 + 1;
            let records = (next..next + count)
                .map(|n| event("e", n, payload(index, n, size)))
                .collect();
            let batch = owner.batch(records);
            side.unknown = batch.records.clone();
            appends.push(log.append(owner.partition, owner.epoch, batch));
        }
        appends.iter_mut().for_each(|append| {
            poll(append);
        });
        world.run();
        let mut lost = false;
        for (append, side) in appends.iter_mut().zip(&mut told.partitions) {
            match poll(append) {
                Some(Ok(_)) => side.acknowledged.append(&mut side.unknown),
                Some(Err(AppendError::Unknown(_))) | None => lost = true,
                Some(Err(error)) => panic!("{error}"),
            }
        }
        if lost {
            return Err(());
        }
        drop(appends);
        if round % 4 == 3 {
            put_once(&log, &owners[0], told)?;
            let floor = Stamp(owners[1].floor.0 + (1 << 30));
            let mut renew = log.renew(P1, owners[1].epoch, floor);
            poll(&mut renew);
            world.run();
            poll(&mut renew).ok_or(())?.map_err(|_| ())?;
            (told.floor, owners[1].floor) = (floor, floor);
        }
    }
    let mut close = log.close();
    poll(&mut close);
    world.run();
    poll(&mut close).ok_or(())
}

fn put_once(log: &Log, owner: &Owner, told: &mut Told) -> Result<(), ()> {
    let put = Put {
        area: area(),
        epoch: owner.epoch,
        incarnation: log.identity().incarnation,
        previous: Revision(told.puts),
        clear: false,
        changes: vec![("count".into(), Some(told.puts.to_string().into()))],
    };
    told.put_unknown = true;
    now(log.put(put)).map_err(|_| ())?;
    (told.puts, told.put_unknown) = (told.puts + 1, false);
    Ok(())
}

fn payload(partition: usize, number: u64, size: usize) -> Vec<u8> {
    let mut payload = format!("{partition}/{number}/").into_bytes();
    payload.resize(size * (1 + number as usize % 4), b'.');
    payload
}

impl Told {
    /// Compares with the log, and takes what was not known as it turned out.
    fn check(&mut self, log: &Log) -> Result<(), String> {
        for (partition, side) in (0..PARTITIONS).map(Partition).zip(&mut self.partitions) {
            let records = try_all(log, partition).map_err(|error| error.to_string())?;
            let found: Vec<_> = records
                .iter()
                .filter(|record| record.kind == Kind::Event)
                .collect();
            let with = side.acknowledged.len() + side.unknown.len();
            if found.len() == with {
                side.acknowledged.append(&mut side.unknown);
            }
            side.unknown.clear();
            let same = found.len() == side.acknowledged.len()
                && found.iter().zip(&side.acknowledged).all(|(found, told)| {
                    found.portable == told.portable && found.local.stamp == told.local.stamp
                });
            if !same {
                return Err(format!(
                    "partition {partition}: {} events acknowledged, {} found",
                    side.acknowledged.len(),
                    found.len()
                ));
            }
        }
        let revision = now(log.revision(&area())).map_err(|error| error.to_string())?;
        let stored = now(log.get(&area(), b"count")).map_err(|error| error.to_string())?;
        if self.put_unknown && revision.0 == self.puts + 1 {
            self.puts += 1;
        }
        self.put_unknown = false;
        let value = self.puts.checked_sub(1).map(|last| last.to_string().into());
        if revision.0 != self.puts || stored != value {
            return Err(format!("{} puts, found {revision:?} {stored:?}", self.puts));
        }
        Ok(())
    }
}

/// Reopens after a crash and compares.
fn recovered(disk: &MemoryDisk, told: &mut Told) -> Result<(), String> {
    let log = try_open(disk, options()).map_err(|error| error.to_string())?;
    told.check(&log)?;
    let claim = now(log.claim(P1)).map_err(|error| error.to_string())?;
    if claim.floor <= told.floor {
        return Err(format!("the floor fell below {:?}", told.floor));
    }
    Ok(())
}

#[test]
fn every_write_of_a_workload_may_be_the_last() {
    let disk = MemoryDisk::new();
    work(&disk, &mut Told::default(), 24, 300).unwrap();
    for last in 1..=disk.operations() {
        let disk = MemoryDisk::new();
        disk.die_after(last);
        let mut told = Told::default();
        let _ = work(&disk, &mut told, 24, 300);
        for kind in [
            Crash::Nothing,
            Crash::Everything,
            Crash::Sectors(last),
            Crash::Sectors(!last),
        ] {
            let wrong = recovered(&disk.crash(kind), &mut told.clone());
            assert_eq!(wrong, Ok(()), "after {last} operations, {kind:?}");
        }
    }
}

#[test]
fn a_disk_that_lies_about_flushes_is_noticed() {
    let disk = MemoryDisk::new();
    work(&disk, &mut Told::default(), 0, 300).unwrap();
    disk.ignore_syncs();
    let mut told = Told::default();
    // The claims of the workload are made anew; the log itself exists already.
    work(&disk.clone(), &mut told, 8, 300).unwrap_or(());
    assert!(recovered(&disk.crash(Crash::Nothing), &mut told).is_err());
}

fn crash() -> impl Strategy<Value = Crash> {
    prop_oneof![
        Just(Crash::Nothing),
        Just(Crash::Everything),
        any::<u64>().prop_map(Crash::Sectors),
        any::<u64>().prop_map(Crash::Sectors),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Crash after crash, in the middle of recovery too: what was cut off never comes back.
    #[test]
    fn nothing_is_lost_or_comes_back_over_many_crashes(
        lives in proptest::collection::vec((1u64..70, crash(), 1usize..900), 1..9),
    ) {
        let mut disk = MemoryDisk::new();
        let mut told = Told::default();
        for (operations, kind, size) in lives {
            disk.die_after(operations);
            let _ = work(&disk, &mut told, 40, size);
            disk = disk.crash(kind);
        }
        prop_assert_eq!(recovered(&disk, &mut told), Ok(()));
    }

    /// A changed byte anywhere among acknowledged frames is reported, never skipped.
    #[test]
    fn damage_is_reported(rounds in 1u64..30, size in 1usize..400, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let disk = MemoryDisk::new();
        let mut told = Told::default();
        work(&disk, &mut told, rounds, size).unwrap();
        let names = segments(&disk);
        // Everything but the frame that says that the log was closed, which is the last one.
        let mut bytes = Vec::new();
        for (file, name) in names.iter().enumerate() {
            let contents = disk.contents(name).unwrap();
            let end = contents.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes.extend((0..end).map(|at| (file, at)));
        }
        bytes.truncate(bytes.len() - 56);
        let (file, at) = bytes[at.index(bytes.len())];
        let mut contents = disk.contents(&names[file]).unwrap();
        contents[at] ^= 1 << bit;
        disk.replace(&names[file], contents);
        match try_open(&disk, options()) {
            Err(OpenError::Damaged(damage)) => prop_assert_eq!(&damage.file, &names[file]),
            Err(OpenError::NotASegment { .. } | OpenError::Newer { .. }) => prop_assert!(at < 16),
            Err(other) => prop_assert!(false, "{other}"),
            Ok(log) => {
                let wrong = told.clone().check(&log).is_err();
                // A segment that holds no frame yet can be begun again.
                let begun_again = at < 4096 && file + 1 == names.len() && file > 0;
                // Segments before the last two are looked at when they are read, or verified.
                let full = file + 2 < names.len();
                prop_assert!(begun_again || full, "byte {at} of {file}");
                now(log.close());
                let found = verify(&disk, &mut |_, _| {}).unwrap();
                prop_assert_eq!(begun_again, found.damage.is_empty(), "byte {} of {}", at, file);
                prop_assert!(begun_again || found.damage[0].file == names[file]);
                prop_assert!(!wrong || !begun_again);
            }
        }
    }
}
