//! Any sequence of calls has the same effect on the embedded log and on the reference engine, over
//! closings and power cuts.
//!
//! The log also keeps claims as records, so offsets differ: what is compared are events.

use std::sync::Arc;

use everfold_engine::engine::{
    AppendError, Area, Batch, Epoch, OwnerError, Put, PutError, ReadLimit, Refusal, Revision,
};
use everfold_engine::memory::Memory;
use everfold_engine::record::{Kind, Link, Local, Portable, Unit};
use everfold_engine::{Engine, EntityKey, Offset, Partition, Record, Stamp, Timestamp};
use everfold_log::disk::Crash;
use everfold_log::{Disk, Log, MemoryDisk, Options};
use everfold_sim::Simulation;

use crate::input::Input;
use crate::outcome;

const PARTITIONS: u16 = 2;
const CALLS: usize = 120;

pub(super) fn run(bytes: &[u8]) -> u64 {
    let simulation = Simulation::new(1);
    simulation.run(async {
        let memory = Memory::new(simulation.world(), PARTITIONS).expect("two partitions");
        let disk = MemoryDisk::new();
        let mut pair = Pair {
            log: open(&disk, &simulation),
            disk,
            memory,
            owners: Default::default(),
            versions: Default::default(),
            revision: Revision(0),
            batches: 0,
        };
        let mut input = Input::new(bytes);
        let mut happened = [0u8; 16];
        for _ in 0..CALLS {
            if input.is_empty() {
                break;
            }
            let call = input.below(16);
            happened[call] = happened[call].saturating_add(1).min(3);
            pair.call(call, &mut input, &simulation).await;
        }
        for partition in 0..PARTITIONS {
            pair.compare(Partition(partition), ReadLimit::default())
                .await;
        }
        outcome(happened)
    })
}

fn open(disk: &MemoryDisk, simulation: &Simulation) -> Arc<Log> {
    let mut options = Options::default();
    options.partitions = Some(PARTITIONS);
    options.first_segment_bytes = 16 << 10;
    options.segment_bytes = 16 << 10;
    options.tail_bytes = 3000;
    options.flush_bytes = 4000;
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Log::open(disk, simulation.world(), options).expect("a sound log opens")
}

/// The owner of a partition on both engines.
#[derive(Default, Clone, Copy)]
struct Owner {
    epochs: Option<(Epoch, Epoch)>,
    stamp: Stamp,
}

struct Pair {
    log: Arc<Log>,
    disk: MemoryDisk,
    memory: Memory,
    owners: [Owner; PARTITIONS as usize],
    versions: [[u64; 3]; PARTITIONS as usize],
    revision: Revision,
    batches: u64,
}

fn area() -> Area {
    Area {
        name: "area".into(),
        partition: Partition(0),
    }
}

fn entity(which: usize) -> EntityKey {
    EntityKey::new("thing", format!("e{which}"))
}

impl Pair {
    async fn call(&mut self, call: usize, input: &mut Input<'_>, simulation: &Simulation) {
        let partition = Partition(u16::from(input.byte()) % PARTITIONS);
        match call {
            0 => self.claim(partition).await,
            1..=6 => self.append(partition, input).await,
            7 => {
                let limit = ReadLimit {
                    records: input.below(20),
                    bytes: input.below(9) * 100,
                };
                self.compare(partition, limit).await;
            }
            8 | 9 => self.read_entity(partition, input).await,
            10 => self.put(input).await,
            11 => self.scan(input).await,
            12 => self.renew(partition, input).await,
            13 => self.confirm_or_release(partition, input).await,
            14 => {
                self.log.close().await;
                self.reopen(simulation).await;
            }
            _ => {
                self.disk = self.disk.crash(Crash::Sectors(u64::from(input.byte())));
                self.reopen(simulation).await;
            }
        }
    }

    async fn claim(&mut self, partition: Partition) {
        let of_log = self.log.claim(partition).await.expect("a claim");
        let of_memory = self.memory.claim(partition).await.expect("a claim");
        let owner = &mut self.owners[partition.index()];
        assert!(of_log.floor >= owner.stamp, "the floor fell");
        assert!(owner.epochs.is_none_or(|epochs| epochs.0 < of_log.epoch));
        owner.epochs = Some((of_log.epoch, of_memory.epoch));
        owner.stamp = of_log.floor.max(of_memory.floor);
    }

    async fn append(&mut self, partition: Partition, input: &mut Input<'_>) {
        let owner = &mut self.owners[partition.index()];
        let Some(epochs) = owner.epochs else { return };
        let (count, flaw) = (input.below(4) as u32 + 1, input.byte());
        let mut stamp = owner.stamp;
        let mut versions = self.versions[partition.index()];
        let mut records = Vec::new();
        for index in 0..count {
            let which = input.below(versions.len());
            versions[which] += 1;
            stamp = Stamp::next(stamp, Timestamp(0), partition);
            let mut portable = Portable::new(entity(which), "Happened");
            let size = input.below(5) * 150;
            portable.payload = vec![input.byte(); size].into();
            portable.unit = match flaw & 1 {
                1 => Unit { index, count },
                _ => Unit::SINGLE,
            };
            records.push(Record {
                kind: Kind::Event,
                portable,
                local: Local {
                    offset: Offset(0),
                    version: versions[which],
                    epoch: 0,
                    batch: 0,
                    stamp,
                    reply: None,
                    link: Link::default(),
                },
            });
        }
        let mut stale = 0;
        match flaw >> 1 {
            120 => records.clear(),
            121 => records[0].local.stamp = Stamp(0),
            122 => records[0].portable.unit = Unit { index: 1, count: 9 },
            123 => stale = 1,
            124 => records[0].portable.payload = vec![0; (1 << 20) + 1].into(),
            _ => {}
        }
        self.batches += 1;
        let batch = Batch::new(self.batches, records);
        let epochs = (Epoch(epochs.0.0 - stale), Epoch(epochs.1.0 - stale));
        let of_log = self.log.append(partition, epochs.0, batch.clone()).await;
        let of_memory = self.memory.append(partition, epochs.1, batch).await;
        match (of_log, of_memory) {
            (Ok(one), Ok(other)) => {
                assert_eq!(one.last.0 - one.first.0, other.last.0 - other.first.0);
                owner.stamp = stamp;
                self.versions[partition.index()] = versions;
            }
            (Err(one), Err(other)) => assert_eq!(kind(&one), kind(&other), "{one} / {other}"),
            (one, other) => panic!("append: {one:?} / {other:?}"),
        }
    }

    /// All events of a partition, read in steps of this size.
    async fn compare(&self, partition: Partition, limit: ReadLimit) {
        let of_log = events(&*self.log, partition, limit).await;
        let of_memory = events(&self.memory, partition, limit).await;
        same(&of_log, &of_memory);
    }

    async fn read_entity(&self, partition: Partition, input: &mut Input<'_>) {
        let (which, after, limit) = (entity(input.below(4)), input.byte(), input.below(9));
        let after = u64::from(after) % 16;
        let of_log = self.log.read_entity(partition, &which, after, limit).await;
        let of_memory = self
            .memory
            .read_entity(partition, &which, after, limit)
            .await;
        same(&of_log.expect("a read"), &of_memory.expect("a read"));
    }

    async fn put(&mut self, input: &mut Input<'_>) {
        let Some(epochs) = self.owners[0].epochs else {
            return;
        };
        let (flags, count) = (input.byte(), input.below(4));
        let changes = (0..count).map(|_| {
            let key = vec![b'k', input.byte() % 8];
            let value = input.byte();
            let value = (value & 3 != 0).then(|| vec![value; usize::from(value)].into());
            (key.into(), value)
        });
        let changes: Vec<_> = changes.collect();
        let put = |epoch: Epoch, engine: &dyn Engine| Put {
            area: area(),
            epoch: Epoch(epoch.0 - u64::from(flags & 7 == 7)),
            incarnation: engine.identity().incarnation,
            previous: Revision(self.revision.0 + u64::from(flags & 56 == 56)),
            clear: flags & 64 == 64,
            changes: changes.clone(),
        };
        let of_log = self.log.put(put(epochs.0, &*self.log)).await;
        let of_memory = self.memory.put(put(epochs.1, &self.memory)).await;
        assert_eq!(of_log, of_memory);
        match of_log {
            Ok(revision) => self.revision = revision,
            Err(PutError::Changed(_) | PutError::Fenced(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    async fn scan(&self, input: &mut Input<'_>) {
        let key = [b'k', input.byte() % 8];
        let limit = input.below(9);
        let after = limit.is_multiple_of(2).then_some(&key[..]);
        let area = area();
        let (log, memory) = (&self.log, &self.memory);
        assert_eq!(
            log.scan(&area, after, limit).await,
            memory.scan(&area, after, limit).await
        );
        assert_eq!(log.get(&area, &key).await, memory.get(&area, &key).await);
        assert_eq!(log.revision(&area).await, memory.revision(&area).await);
    }

    async fn renew(&mut self, partition: Partition, input: &mut Input<'_>) {
        let owner = &mut self.owners[partition.index()];
        let Some(epochs) = owner.epochs else { return };
        let stamp = Stamp(owner.stamp.0 + (i64::from(input.byte()) << 24));
        let of_log = self.log.renew(partition, epochs.0, stamp).await;
        let of_memory = self.memory.renew(partition, epochs.1, stamp).await;
        assert_eq!(
            of_log.is_ok(),
            of_memory.is_ok(),
            "{of_log:?} / {of_memory:?}"
        );
        if of_log.is_ok() {
            owner.stamp = stamp;
        }
    }

    async fn confirm_or_release(&mut self, partition: Partition, input: &mut Input<'_>) {
        let Some(epochs) = self.owners[partition.index()].epochs else {
            return;
        };
        let releases = input.byte() & 3 == 3;
        let [one, other] = if releases {
            [
                self.log.release(partition, epochs.0).await,
                self.memory.release(partition, epochs.1).await,
            ]
        } else {
            [
                self.log.confirm(partition, epochs.0).await,
                self.memory.confirm(partition, epochs.1).await,
            ]
        };
        let fenced = |result: &Result<(), OwnerError>| match result {
            Ok(()) => false,
            Err(OwnerError::Fenced { .. }) => true,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(fenced(&one), fenced(&other), "{one:?} / {other:?}");
    }

    /// No ownership outlives the process.
    async fn reopen(&mut self, simulation: &Simulation) {
        self.log = open(&self.disk, simulation);
        for (owner, partition) in self.owners.iter_mut().zip((0..PARTITIONS).map(Partition)) {
            if let Some(epochs) = owner.epochs {
                // Fenced already if it was given up.
                let _ = self.memory.release(partition, epochs.1).await;
            }
        }
    }
}

fn kind(error: &AppendError) -> &'static str {
    match error {
        AppendError::Refused(Refusal::Invalid(_)) => "invalid",
        AppendError::Refused(Refusal::TooLarge { .. }) => "too large",
        AppendError::Refused(_) => "refused",
        AppendError::Fenced(_) => "fenced",
        _ => "unknown",
    }
}

async fn events(engine: &dyn Engine, partition: Partition, limit: ReadLimit) -> Vec<Arc<Record>> {
    let (mut events, mut after) = (Vec::new(), Offset(0));
    loop {
        let chunk = engine.read(partition, after, limit).await.expect("a read");
        let Some(last) = chunk.records.last() else {
            let head = engine.safe_head(partition).await.expect("a head");
            assert_eq!(
                (after, chunk.safe_head),
                (head, head),
                "a read ends before the head"
            );
            return events;
        };
        assert!(last.portable.unit.is_last(), "a unit is cut");
        assert_eq!(last.local.offset, chunk.next);
        after = chunk.next;
        events.extend(
            chunk
                .records
                .into_iter()
                .filter(|record| record.kind == Kind::Event),
        );
    }
}

fn same(of_log: &[Arc<Record>], of_memory: &[Arc<Record>]) {
    assert_eq!(of_log.len(), of_memory.len());
    for (one, other) in of_log.iter().zip(of_memory) {
        assert_eq!(one.portable, other.portable);
        assert_eq!(one.local.stamp, other.local.stamp);
        assert_eq!(one.local.version, other.local.version);
        assert_eq!(one.local.batch, other.local.batch);
    }
}
