//! Random lives over random disks: as many seeds as time allows, or as asked for.
//!
//! `EVERFOLD_SEED` runs one seed, `EVERFOLD_SEEDS` so many, `EVERFOLD_CRASH_SECONDS` as many as fit
//! into so many seconds (5 unless told otherwise).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use everfold_engine::engine::Engine;
use everfold_log::disk::{Crash, Fault, FaultPlan, Tally};
use everfold_log::recovery::{Expectation, recover};
use everfold_log::{MemoryDisk, OpenError, segment, verify};

use crate::life::{Ending, Life};
use crate::random::Random;
use crate::support::*;
use crate::told::{GARBAGE, PARTITIONS, Told, options};

/// Wrong bits that are read are met in segments: areas are not guarded against them, and a wrong
/// bit while a log is opened is looked at by itself.
const COMMON: [Fault; 7] = [
    Fault::FailedWrite,
    Fault::ShortWrite,
    Fault::Full,
    Fault::FailedSync,
    Fault::LyingSync,
    Fault::FailedRead,
    Fault::ShortRead,
];
const RARE: [Fault; 6] = [
    Fault::FailedDirectorySync,
    Fault::FailedOpen,
    Fault::FailedList,
    Fault::FailedRename,
    Fault::FailedRemove,
    Fault::FailedSetLength,
];

fn plan(random: &mut Random) -> FaultPlan {
    // A store of areas whose reads end early again and again is emptied: once is tried elsewhere.
    let mut plan = FaultPlan::new(random.next())
        .only(Fault::LyingSync, ".log")
        .only(Fault::ShortRead, ".log");
    if random.once_in(2) {
        let within = random.pick(&[3, 20, 100]);
        plan = plan.drawn(&COMMON, random.below(4) as usize, within);
    }
    if random.once_in(3) {
        plan = plan.drawn(&RARE, 2, 2);
    }
    plan
}

/// One seed; what its disks did.
fn run(seed: u64) -> Result<Tally, String> {
    let mut random = Random(seed);
    let (mut disk, mut told) = (MemoryDisk::new(), Told::default());
    let mut lies_behind = false;
    for _ in 0..=random.below(6) {
        let mut opening = plan(&mut random);
        if told.areas_spoiled && random.once_in(2) {
            opening = opening.at(Fault::FailedRemove, 1);
        }
        disk.set_plan(opening);
        if random.once_in(4) {
            disk.die_after(1 + random.below(150));
        }
        let [lies, failures, cuts] = [Fault::LyingSync, Fault::FailedSync, Fault::PowerCut]
            .map(|fault| disk.tally().fired(fault));
        let work = plan(&mut random);
        let flips = random.pick(&[0, 0, 1, 3]);
        let work = work
            .only(Fault::FlippedRead, ".log")
            .drawn(&[Fault::FlippedRead], flips, 30);
        let goes_on = random.once_in(2);
        let world = Still::patient();
        let life = Life {
            world: Arc::clone(&world),
            disk: &disk,
            told: &mut told,
            steps: random.below(60),
            flush_bytes: random.pick(&[1, 3000, 4 << 20]),
            random: &mut Random(random.next()),
            opened: &|disk| {
                if goes_on {
                    disk.set_plan(work.clone());
                }
            },
        };
        let ending = life.live()?;
        told.lied = disk.tally().fired(Fault::LyingSync) > lies;
        disk.set_plan(FaultPlan::default());
        disk.set_capacity(None);
        let kind = match random.below(4) {
            0 => Crash::Nothing,
            1 => Crash::Everything,
            _ => Crash::Sectors(random.next()),
        };
        let crashed = disk.crash(kind);
        // A process that is killed writes no more, so what is left is taken before it is dropped.
        world.end();
        // A process that ends leaves what it wrote readable, durable or not. What a failed flush
        // left cannot be told from what was flushed, so there the machine goes down too.
        let restarts = random.once_in(3)
            && disk.tally().fired(Fault::FailedSync) == failures
            && disk.tally().fired(Fault::PowerCut) == cuts;
        if restarts {
            told.lied = false;
            lies_behind |= disk.tally().fired(Fault::LyingSync) > lies;
            continue;
        }
        told.lied |= std::mem::take(&mut lies_behind);
        disk = crashed;
        let lied = told.lied;
        told.examine(&disk)
            .map_err(|wrong| format!("{ending:?}, {kind:?}, lied {lied}: {wrong}"))?;
        if std::mem::take(&mut told.lied) {
            let left = disk.crash(Crash::Everything);
            let whole = verify(&left, &mut |_, _| {}).is_ok_and(|found| found.damage.is_empty());
            if try_open(&left, options()).is_err() || !whole {
                return Ok(disk.tally());
            }
            for side in &mut told.sides {
                let last = side.acknowledged.last();
                side.floor = last.map_or_else(Default::default, |last| last.local.stamp);
            }
        }
        if random.once_in(3) {
            spoil(&disk, &told, &mut random)?;
        }
        let has_areas = disk.contents("areas.redb").is_some();
        if has_areas && ending != Ending::NotOpened && random.once_in(3) {
            disk.replace("areas.redb", GARBAGE.to_vec());
            told = told.without_areas();
        }
    }
    Ok(disk.tally())
}

/// One wrong bit anywhere in a copy of the log: named, or in the last flush, which nobody can tell
/// from a torn one, or where nothing is kept.
fn spoil(disk: &MemoryDisk, told: &Told, random: &mut Random) -> Result<(), String> {
    let whole = try_open(&disk.crash(Crash::Everything), options());
    let whole = whole.map_err(|error| error.to_string())?;
    let segments = whole.report().segments;
    let generation = 1 + random.below(segments);
    let name = format!("{generation:010}.log");
    let copy = disk.crash(Crash::Everything);
    let packed = format!("{generation:010}.sealed");
    if let Some(bytes) = copy.contents(&packed) {
        let (at, bit) = (random.below(bytes.len() as u64), random.next() as u8);
        copy.flip(&packed, at, bit);
        return full(&copy, told, &packed, &format!("byte {at} of {packed}"));
    }
    let Some(bytes) = copy.contents(&name) else {
        // The first opening makes it.
        return Ok(());
    };
    let first_frame = segment::header_bytes(PARTITIONS);
    let found = recover(
        &bytes,
        &Expectation {
            incarnation: whole.identity().incarnation.0,
            generation,
            first_frame,
            last_flush: 0,
            sealed_end: None,
        },
    );
    let last = found.frames.last();
    let last_flush = last.map_or(found.end, |last| u64::from(last.header.flush_start));
    let until = if random.once_in(4) {
        bytes.len() as u64
    } else {
        found.end
    };
    let (at, bit) = (random.below(until), random.next() as u8);
    copy.flip(&name, at, bit);
    let is_last = generation == segments;
    let damage = verify(&copy, &mut |_, _| {}).map(|found| found.damage);
    let place = format!("byte {at} of {name}, which ends at {}", found.end);
    match try_open(&copy, options()) {
        Err(OpenError::Damaged(damaged)) => {
            if damaged.file != name || damaged.at > at {
                return Err(format!("{place}: {damaged}"));
            }
            let agrees = damage.is_ok_and(|all| all.iter().any(|one| one.file == name));
            if !agrees {
                return Err(format!("{place}: verify finds nothing"));
            }
            copy.flip(&name, at, bit);
            told.clone().examine(&copy)
        }
        Err(OpenError::NotASegment { file } | OpenError::Newer { file, .. }) if at < 16 => {
            match file == name {
                true => Ok(()),
                false => Err(format!("{place}: {file} is blamed")),
            }
        }
        Err(error) => Err(format!("{place}: {error}")),
        Ok(log) => {
            let torn = log.report().torn.is_some();
            let in_last_flush = is_last && (last_flush..found.end).contains(&at);
            let no_frames = is_last && generation > 1 && found.frames.is_empty();
            let mut left = told.clone();
            left.lied = in_last_flush;
            if in_last_flush && !torn {
                return Err(format!("{place}: not noticed"));
            }
            if at < found.end && !in_last_flush && !no_frames {
                // Opening looks no further than the headers of the last two segments.
                return match generation < segments {
                    true => full(&copy, told, &name, &place),
                    false => Err(format!("{place}: not noticed")),
                };
            }
            left.areas_spoiled = false;
            if told.areas_spoiled || log.report().areas_discarded.is_some() {
                return Ok(());
            }
            left.check(&log, &copy)
                .map_err(|wrong| format!("{place}: {wrong}"))
        }
    }
}

/// A wrong bit in a full segment: verification names the file, and readers are told of damage or
/// given what was written.
fn full(copy: &MemoryDisk, told: &Told, name: &str, place: &str) -> Result<(), String> {
    let copy = copy.crash(Crash::Everything);
    let named = match verify(&copy, &mut |_, _| {}) {
        Ok(found) => found.damage.iter().any(|damage| damage.file == name),
        Err(error) => error.to_string().contains(name),
    };
    if !named {
        return Err(format!("{place}: verify does not name it"));
    }
    let log = match try_open(&copy, options()) {
        Ok(log) => log,
        Err(error) if error.to_string().contains(name) => return Ok(()),
        Err(error) => return Err(format!("{place}: {error}")),
    };
    match told.clone().check(&log, &copy) {
        Err(wrong) if !wrong.contains("damaged") => Err(format!("{place}: {wrong}")),
        _ => Ok(()),
    }
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value}: not a number")),
    )
}

#[test]
fn any_life_over_any_disk_keeps_what_was_acknowledged() {
    let (first, most, seconds) = match (number("EVERFOLD_SEED"), number("EVERFOLD_SEEDS")) {
        (Some(seed), _) => (seed, 1, None),
        (None, Some(count)) => (1, count, None),
        (None, None) => (
            1,
            u64::MAX,
            Some(number("EVERFOLD_CRASH_SECONDS").unwrap_or(5)),
        ),
    };
    let begin = Instant::now();
    let (mut tally, mut runs) = (Tally::default(), 0);
    while runs < most && seconds.is_none_or(|most| begin.elapsed() < Duration::from_secs(most)) {
        let seed = first + runs;
        let result = catch_unwind(AssertUnwindSafe(|| run(seed)));
        let replay =
            format!("EVERFOLD_SEED={seed} cargo test -p everfold-log --test faults any_life");
        match result {
            Ok(Ok(counts)) => tally.add(&counts),
            Ok(Err(wrong)) => panic!("seed {seed}: {wrong}\nreplay: {replay}"),
            Err(_) => panic!("seed {seed} panicked\nreplay: {replay}"),
        }
        runs += 1;
    }
    println!("{runs} seeds\n{tally}");
    // Few seeds cannot hold everything; that each call fails in each way is a test of its own.
    if runs >= 300 {
        let never: Vec<_> = Fault::ALL
            .into_iter()
            .filter(|fault| tally.fired(*fault) == 0)
            .collect();
        assert!(
            never.is_empty(),
            "never happened in {runs} seeds: {never:?}"
        );
    }
}
