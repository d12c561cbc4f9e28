//! Every call of a workload, of each kind, goes wrong once, in every way it can.

use std::collections::BTreeSet;
use std::sync::Arc;

use everfold_log::MemoryDisk;
use everfold_log::disk::{Call, Crash, Fault, FaultPlan};

use crate::life::{Ending, Life};
use crate::random::Random;
use crate::support::{Still, try_open};
use crate::told::{GARBAGE, Told, options};

const STEPS: u64 = 14;

/// What is on a disk, and what was told of it.
fn grown(seed: u64) -> (MemoryDisk, Told) {
    let (disk, mut told) = (MemoryDisk::new(), Told::default());
    live(&disk, &mut told, seed, &|_| {}).unwrap();
    (disk, told)
}

fn live(
    disk: &MemoryDisk,
    told: &mut Told,
    seed: u64,
    opened: &dyn Fn(&MemoryDisk),
) -> Result<Ending, String> {
    let world = Still::patient();
    let life = Life {
        world: Arc::clone(&world),
        disk,
        told,
        random: &mut Random(seed),
        steps: STEPS,
        flush_bytes: 4 << 20,
        opened,
    };
    let ending = life.live();
    world.end();
    ending
}

/// A life during which one call goes wrong, a crash, and a life without faults.
fn after(before: &(MemoryDisk, Told), fault: Fault, nth: u64, kind: Crash) -> Result<bool, String> {
    let disk = before.0.crash(Crash::Everything);
    let mut told = before.1.clone();
    let plan = FaultPlan::new(nth)
        .only(Fault::LyingSync, ".log")
        .only(Fault::FlippedRead, ".log")
        .at(fault, nth);
    let counted = disk.tally().fired(fault);
    if fault == Fault::FlippedRead {
        live(&disk, &mut told, 2, &|disk| disk.set_plan(plan.clone()))?;
    } else {
        disk.set_plan(plan);
        live(&disk, &mut told, 2, &|_| {})?;
    }
    let fired = disk.tally().fired(fault) > counted;
    disk.set_plan(FaultPlan::default());
    let disk = disk.crash(kind);
    told.lied = fault == Fault::LyingSync;
    told.examine(&disk)?;
    if !told.lied {
        live(&disk, &mut told, 3, &|_| {})?;
    }
    Ok(fired)
}

#[test]
fn every_call_may_fail_in_every_way() {
    let spoiled = grown(1);
    spoiled.0.replace("areas.redb", GARBAGE.to_vec());
    let spoiled = (spoiled.0, spoiled.1.without_areas());
    let beginnings = [(MemoryDisk::new(), Told::default()), grown(1), spoiled];
    let mut happened = BTreeSet::new();
    for (which, before) in beginnings.iter().enumerate() {
        let clean = before.0.crash(Crash::Everything);
        clean.set_plan(FaultPlan::default());
        live(&clean, &mut before.1.clone(), 2, &|_| {}).unwrap();
        for fault in Fault::ALL {
            let Some(call) = fault.call() else { continue };
            for nth in 1..=clean.calls(call) {
                let kinds = [Crash::Nothing, Crash::Everything, Crash::Sectors(nth)];
                let kind = kinds[nth as usize % 3];
                let result = after(before, fault, nth, kind);
                let fired = result.unwrap_or_else(|wrong| {
                    panic!("beginning {which}, {fault:?} at call {nth}, {kind:?}: {wrong}")
                });
                happened.extend(fired.then_some(fault));
                // What slides to a later call, or past the end, may never happen.
                let slides = matches!(fault, Fault::Full | Fault::LyingSync | Fault::FlippedRead);
                assert!(
                    fired || slides,
                    "beginning {which}, {fault:?} at call {nth}"
                );
            }
        }
    }
    let planned = Fault::ALL
        .into_iter()
        .filter(|fault| fault.call().is_some());
    assert_eq!(happened, planned.collect());
}

/// A wrong bit in what is read while a log is opened is an error, after which the log opens with
/// everything. Without a close frame one in the last flush cannot be told from a torn flush, which
/// is reported.
#[test]
fn a_wrong_bit_read_while_opening_is_noticed() {
    let (mut tried, mut noticed) = (0, 0);
    for seed in 1..7 {
        let (disk, mut told) = (MemoryDisk::new(), Told::default());
        live(&disk, &mut told, seed, &|_| {}).unwrap();
        let reads = disk.crash(Crash::Everything);
        reads.set_plan(FaultPlan::default());
        drop(try_open(&reads, options()).unwrap());
        for nth in (1..=reads.calls(Call::Read)).flat_map(|nth| [nth; 8]) {
            let copy = disk.crash(Crash::Everything);
            tried += 1;
            let plan = FaultPlan::new(tried).only(Fault::FlippedRead, ".log");
            copy.set_plan(plan.at(Fault::FlippedRead, nth));
            let mut told = told.clone();
            match try_open(&copy, options()) {
                Err(_) => {
                    noticed += 1;
                    copy.set_plan(FaultPlan::default());
                    told.examine(&copy).unwrap();
                }
                Ok(log) => {
                    // What looks torn is read once more before anything is cut off.
                    told.lied = false;
                    told.check(&log, &copy).unwrap();
                }
            }
        }
    }
    assert!(noticed > 20, "{noticed} of {tried}");
}
