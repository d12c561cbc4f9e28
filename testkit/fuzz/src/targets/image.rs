//! A directory of any files: it opens or says why not, and what opened once opens again with the
//! same records.
//!
//! An input is a list of files: a name, flags (1: the header's checksum is made right, 2: those of
//! the frames too), how many blocks long, how many bytes follow, and the bytes; zeros fill the rest.

use std::sync::Arc;

use everfold_engine::engine::ReadLimit;
use everfold_engine::{Engine, Offset, Partition, Record};
use everfold_log::{Disk, Log, MemoryDisk, Options, verify};
use everfold_sim::Simulation;

use crate::input::Input;
use crate::{outcome, repair};

pub(crate) const NAMES: [&str; 6] = [
    "0000000001.log",
    "0000000002.log",
    "0000000003.log",
    "areas.redb",
    "creating",
    "other",
];

fn options() -> Options {
    let mut options = Options::default();
    options.partitions = None;
    options.first_segment_bytes = 16 << 10;
    options.segment_bytes = 32 << 10;
    options.tail_bytes = 4 << 10;
    options
}

fn disk(bytes: &[u8]) -> MemoryDisk {
    let mut input = Input::new(bytes);
    let disk = MemoryDisk::new();
    while !input.is_empty() {
        let (name, flags) = (input.below(NAMES.len()), input.byte());
        let (blocks, length) = (input.below(17), usize::from(input.short()));
        let mut bytes = input.take(length).to_vec();
        bytes.resize(bytes.len().max(blocks * 4096), 0);
        if flags & 1 == 1 {
            repair::header(&mut bytes);
        }
        if flags & 2 == 2 {
            let incarnation = repair::incarnation(&bytes);
            repair::frames(
                &mut bytes,
                repair::FIRST_FRAME,
                incarnation,
                name as u64 + 1,
            );
        }
        disk.replace(NAMES[name], bytes);
    }
    disk
}

/// Every record, and how reading ended.
async fn records(log: &Log) -> (Vec<Arc<Record>>, Option<String>) {
    let mut records = Vec::new();
    for partition in 0..log.identity().layout.partitions {
        let mut after = Offset(0);
        loop {
            match log
                .read(Partition(partition), after, ReadLimit::default())
                .await
            {
                Err(error) => return (records, Some(error.to_string())),
                Ok(chunk) if chunk.records.is_empty() => break,
                Ok(chunk) => {
                    assert!(chunk.next > after, "a read that does not get on");
                    after = chunk.next;
                    records.extend(chunk.records);
                }
            }
        }
    }
    (records, None)
}

pub(super) fn run(bytes: &[u8]) -> u64 {
    let disk = disk(bytes);
    let verified = verify(&disk, &mut |_, _| {});
    let simulation = Simulation::new(1);
    simulation.run(async {
        let open = || {
            let disk: Arc<dyn Disk> = Arc::new(disk.clone());
            Log::open(disk, simulation.world(), options())
        };
        let log = match open() {
            Ok(log) => log,
            Err(error) => return outcome(std::mem::discriminant(&error)),
        };
        if let Ok(found) = &verified {
            assert_eq!(found.torn, log.report().torn, "verify and opening disagree");
        }
        let first = records(&log).await;
        log.close().await;
        drop(log);
        let again = open();
        let again = again.unwrap_or_else(|error| panic!("it does not open again: {error}"));
        assert!(again.report().torn.is_none());
        assert_eq!(
            records(&again).await,
            first,
            "other records when opened again"
        );
        let damage = verified.map(|found| found.damage.len().min(3)).ok();
        outcome((first.0.len(), first.1.is_some(), damage))
    })
}
