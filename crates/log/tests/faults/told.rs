//! What the application was told, and whether the log agrees.

use std::sync::Arc;

use everfold_engine::engine::{Area, Engine, ReadError, ReadLimit};
use everfold_engine::record::{Kind, Record};
use everfold_engine::{EntityKey, Offset, Partition, Stamp};
use everfold_log::{Log, MemoryDisk, OpenError, verify};

use crate::support::*;

pub const PARTITIONS: u16 = 3;
/// What the store of areas is spoiled with.
pub const GARBAGE: &[u8] = &[7; 9000];

#[derive(Default, Clone)]
pub struct Told {
    pub sides: [Side; PARTITIONS as usize],
    /// Acknowledged puts, and whether one more is not known.
    pub puts: u64,
    pub put_unknown: bool,
    /// The store of areas was spoiled: it has to be emptied, and say so.
    pub areas_spoiled: bool,
    /// A flush lied: a crash may have taken the end of what was acknowledged.
    pub lied: bool,
}

#[derive(Default, Clone)]
pub struct Side {
    pub acknowledged: Vec<Record>,
    /// Ended without an answer: whole or absent.
    pub unknown: Vec<Record>,
    pub floor: Stamp,
}

impl Side {
    /// The next version of an entity.
    pub fn version(&self, entity: &str) -> u64 {
        let known = self.acknowledged.iter().chain(&self.unknown);
        let of = known.filter(|record| record.portable.entity.id == entity);
        of.count() as u64 + 1
    }
}

pub fn area() -> Area {
    Area {
        name: "view".into(),
        partition: P0,
    }
}

/// The result of a read, tried again as long as the disk is to blame for its error.
pub fn insist<T>(
    disk: &MemoryDisk,
    mut read: impl FnMut() -> Result<T, ReadError>,
) -> Result<T, String> {
    for _ in 0..100 {
        let before = disk.tally().total();
        match read() {
            Ok(value) => return Ok(value),
            Err(error) if disk.tally().total() == before => {
                return Err(format!("a read failed without a fault: {error}"));
            }
            Err(_) => {}
        }
    }
    Err("a read that never succeeds".into())
}

/// Every event of a partition.
pub fn events(
    log: &Log,
    disk: &MemoryDisk,
    partition: Partition,
) -> Result<Vec<Arc<Record>>, String> {
    let limit = ReadLimit {
        records: 7,
        bytes: 3000,
    };
    let (mut found, mut after) = (Vec::new(), Offset(0));
    loop {
        let chunk = insist(disk, || now(log.read(partition, after, limit)))?;
        if chunk.records.is_empty() {
            return Ok(found);
        }
        for record in chunk.records {
            if record.local.offset.0 != after.0 + 1 {
                let offset = record.local.offset;
                return Err(format!("partition {partition}: {offset} follows {after}"));
            }
            after = record.local.offset;
            if record.kind == Kind::Event {
                found.push(record);
            }
        }
    }
}

pub fn same(found: &Record, told: &Record) -> bool {
    found.portable == told.portable
        && found.local.stamp == told.local.stamp
        && found.local.version == told.local.version
}

impl Told {
    /// The store of areas was replaced by something else.
    pub fn without_areas(mut self) -> Self {
        (self.areas_spoiled, self.puts, self.put_unknown) = (true, 0, false);
        self
    }

    /// Compares with the log, and takes what was not known as it turned out.
    pub fn check(&mut self, log: &Log, disk: &MemoryDisk) -> Result<(), String> {
        for (partition, side) in (0..PARTITIONS).map(Partition).zip(&mut self.sides) {
            let found = events(log, disk, partition)?;
            let with = side.acknowledged.len() + side.unknown.len();
            if found.len() == with {
                side.acknowledged.append(&mut side.unknown);
            }
            side.unknown.clear();
            let told = side.acknowledged.len();
            if self.lied {
                side.acknowledged.truncate(found.len());
            }
            let counted = found.len() == side.acknowledged.len();
            let mut pairs = found.iter().zip(&side.acknowledged);
            if let Some((record, _)) = pairs.find(|(found, told)| !same(found, told)) {
                let offset = record.local.offset;
                return Err(format!("partition {partition}: offset {offset} is another"));
            }
            if !counted {
                let found = found.len();
                return Err(format!(
                    "partition {partition}: {told} events told, {found} found"
                ));
            }
            for entity in 0..3 {
                side.check_entity(log, disk, partition, &format!("e{entity}"))?;
            }
        }
        self.check_area(log, disk)
    }

    fn check_area(&mut self, log: &Log, disk: &MemoryDisk) -> Result<(), String> {
        let revision = insist(disk, || now(log.revision(&area())))?;
        let stored = insist(disk, || now(log.get(&area(), b"count")))?;
        if self.put_unknown && revision.0 == self.puts + 1 {
            self.puts += 1;
        }
        self.put_unknown = false;
        let value = self.puts.checked_sub(1).map(|last| last.to_string().into());
        if revision.0 == self.puts && stored == value {
            return Ok(());
        }
        let puts = self.puts;
        Err(format!("{puts} puts told, found {revision:?} {stored:?}"))
    }

    /// Looks at what a crash left with everything that can look, without changing it.
    pub fn examine(&mut self, disk: &MemoryDisk) -> Result<(), String> {
        // An opening that failed later may have emptied them before.
        self.areas_spoiled &= disk.contents("areas.redb").as_deref() == Some(GARBAGE);
        let disk = disk.crash(everfold_log::disk::Crash::Everything);
        disk.set_capacity(None);
        let verified = verify(&disk, &mut |_, _| {});
        let world = Still::eager();
        let opened = Log::open(Arc::new(disk.clone()), world.clone(), options());
        let log = match opened {
            Ok(log) => log,
            Err(error) if self.lied => return self.agree_on_damage(&error, verified),
            Err(error) => return Err(error.to_string()),
        };
        let (report, verified) = (log.report(), verified.map_err(|error| error.to_string()));
        match verified {
            // The first opening of a new log made it.
            Err(_) if report.records == 0 => {}
            Err(error) => return Err(format!("verify: {error}")),
            // Opening does not look at full segments: what a lie has cost there is named here.
            Ok(found) if self.lied && !found.damage.is_empty() => return Ok(()),
            Ok(found) => {
                let agree = found.damage.is_empty()
                    && found.torn == report.torn
                    && found.records == report.records;
                if !agree {
                    return Err(format!("verify found {found:?}, opening {report:?}"));
                }
            }
        }
        // A store whose making was cut short is emptied, too.
        let emptied = report.areas_discarded.is_some();
        if self.areas_spoiled != emptied && !(emptied && self.puts == 0) {
            return Err(format!("areas: {:?}", report.areas_discarded));
        }
        self.check(&log, &disk)?;
        let claim = now(log.claim(P1)).map_err(|error| error.to_string())?;
        if claim.floor <= self.sides[1].floor && !self.lied {
            return Err("the floor fell".into());
        }
        now(log.close());
        world.end();
        let again = verify(&disk, &mut |_, _| {}).map_err(|error| error.to_string())?;
        match again.damage.is_empty() && again.torn.is_none() {
            true => Ok(()),
            false => Err(format!("after closing in order: {again:?}")),
        }
    }

    fn agree_on_damage(
        &self,
        error: &OpenError,
        verified: Result<everfold_log::Verified, OpenError>,
    ) -> Result<(), String> {
        match verified {
            Ok(found) if found.damage.is_empty() => {
                Err(format!("{error}, but verify says that all is well"))
            }
            _ => Ok(()),
        }
    }
}

impl Side {
    fn check_entity(
        &self,
        log: &Log,
        disk: &MemoryDisk,
        partition: Partition,
        id: &str,
    ) -> Result<(), String> {
        let key = EntityKey::new("thing", id);
        let found = insist(disk, || now(log.read_entity(partition, &key, 0, 100_000)))?;
        let told = self.acknowledged.iter();
        let told: Vec<_> = told.filter(|told| told.portable.entity == key).collect();
        let equal = found.len() == told.len()
            && found
                .iter()
                .zip(&told)
                .all(|(found, told)| same(found, told));
        match equal {
            true => Ok(()),
            false => Err(format!("entity {id} of partition {partition} is another")),
        }
    }
}

pub fn options() -> everfold_log::Options {
    let mut options = small();
    options.partitions = Some(PARTITIONS);
    // Most reads go to the disk.
    options.tail_bytes = 6 << 10;
    // Full segments are packed early.
    options.plain_segments = 1;
    options
}
