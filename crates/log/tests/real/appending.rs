//! A process that appends to a directory until it is killed, and tells each event that was
//! acknowledged.

use std::io::Write;
use std::path::Path;

use everfold_engine::engine::{Batch, Epoch, ReadLimit};
use everfold_engine::record::{Kind, Unit};
use everfold_engine::world::System;
use everfold_engine::{Engine, Offset, Partition, Stamp, Timestamp};
use everfold_log::{Log, Options};

use crate::support::event;

pub const PARTITIONS: u16 = 3;

pub fn options() -> Options {
    let mut options = Options::default();
    options.partitions = Some(PARTITIONS);
    options.first_segment_bytes = 64 << 10;
    options.segment_bytes = 256 << 10;
    options
}

/// Numbers of the events of a partition, and the first byte that repeats each in its payload.
pub async fn numbers(log: &Log, partition: Partition) -> Vec<u64> {
    let (mut numbers, mut after) = (Vec::new(), Offset(0));
    loop {
        let chunk = log
            .read(partition, after, ReadLimit::default())
            .await
            .unwrap();
        if chunk.records.is_empty() {
            return numbers;
        }
        after = chunk.next;
        for record in chunk
            .records
            .iter()
            .filter(|record| record.kind == Kind::Event)
        {
            let number = record.local.version;
            let payload = &record.portable.payload;
            assert_eq!(
                *payload,
                payload_of(number),
                "another payload of event {number}"
            );
            numbers.push(number);
        }
    }
}

pub fn payload_of(number: u64) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(8 + (number * 37 % 700) as usize, number as u8);
    payload
}

/// An owner over the real log.
pub struct Owner<'a> {
    pub log: &'a Log,
    pub partition: Partition,
    epoch: Epoch,
    stamp: Stamp,
    pub last: u64,
    batches: u64,
}

impl<'a> Owner<'a> {
    pub async fn of(log: &'a Log, partition: Partition) -> Self {
        let claim = log.claim(partition).await.unwrap();
        Self {
            log,
            partition,
            epoch: claim.epoch,
            stamp: claim.floor,
            last: numbers(log, partition)
                .await
                .last()
                .copied()
                .unwrap_or_default(),
            batches: 0,
        }
    }

    /// Appends one event; its number.
    pub async fn append(&mut self) -> Result<u64, everfold_engine::engine::AppendError> {
        let number = self.last + 1;
        let mut record = event("counter", number, payload_of(number));
        self.stamp = Stamp::next(self.stamp, Timestamp(0), self.partition);
        record.local.stamp = self.stamp;
        record.portable.unit = Unit::SINGLE;
        self.batches += 1;
        let batch = Batch::new(self.batches, vec![record]);
        self.log.append(self.partition, self.epoch, batch).await?;
        self.last = number;
        Ok(number)
    }
}

/// Appends to all partitions and tells `out` a line for each acknowledged event, `most` in all.
pub async fn append(path: &Path, most: u64, out: &mut impl Write) {
    let log = Log::open_directory(path, System::current(), options()).unwrap();
    let mut owners = Vec::new();
    for partition in 0..PARTITIONS {
        owners.push(Owner::of(&log, Partition(partition)).await);
    }
    writeln!(out, "ready").unwrap();
    for _ in 0..most.div_ceil(u64::from(PARTITIONS)) {
        for owner in &mut owners {
            let number = owner.append().await.unwrap();
            // One write: a line is there or not.
            out.write_all(format!("{} {number}\n", owner.partition).as_bytes())
                .unwrap();
            out.flush().unwrap();
        }
    }
}
