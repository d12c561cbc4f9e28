//! One life of a process over a disk that goes wrong: mixed work until the log stops or the steps
//! are done.

use std::sync::Arc;

use everfold_engine::engine::{AppendError, Engine, OwnerError, Put, ReadLimit, Refusal, Revision};
use everfold_engine::record::Record;
use everfold_engine::{Offset, Partition, Stamp};
use everfold_log::disk::Fault;
use everfold_log::{Log, MemoryDisk};

use crate::random::Random;
use crate::support::*;
use crate::told::{PARTITIONS, Told, area, events, insist, options, same};

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The log did not open.
    NotOpened,
    /// The log stopped for good.
    Stopped,
    /// The work is done, the log is open.
    Left,
    /// The log was closed in order.
    Closed,
}

/// Everything that a life needs.
pub struct Life<'a> {
    pub world: Arc<Still>,
    pub disk: &'a MemoryDisk,
    pub told: &'a mut Told,
    pub random: &'a mut Random,
    pub steps: u64,
    pub flush_bytes: usize,
    /// Called between opening and work.
    pub opened: &'a dyn Fn(&MemoryDisk),
}

struct Working<'a> {
    log: Arc<Log>,
    world: Arc<Still>,
    disk: &'a MemoryDisk,
    told: &'a mut Told,
    random: &'a mut Random,
    owners: Vec<Owner>,
    before: u64,
    stopped: bool,
}

type Checked<T = ()> = Result<T, String>;

/// The answer of a call that needs the driver.
fn answer<T>(world: &Still, call: &mut everfold_engine::engine::BoxFuture<'_, T>) -> Checked<T> {
    if let Some(at_once) = poll(call) {
        return Ok(at_once);
    }
    world.run();
    poll(call).ok_or_else(|| "a call that never ends".into())
}

impl Life<'_> {
    /// # Errors
    /// What a correct log does not do.
    pub fn live(self) -> Checked<Ending> {
        let before = self.disk.tally().total();
        let world = self.world;
        let mut asked = options();
        asked.flush_bytes = self.flush_bytes;
        let log = match Log::open(Arc::new(self.disk.clone()), world.clone(), asked) {
            Ok(log) => log,
            Err(error) if self.disk.tally().total() == before && !self.told.lied => {
                return Err(format!("not opened, without a fault: {error}"));
            }
            Err(_) => return Ok(Ending::NotOpened),
        };
        if log.report().areas_discarded.is_some() {
            if !std::mem::take(&mut self.told.areas_spoiled) && self.told.puts > 0 {
                let why = &log.report().areas_discarded;
                return Err(format!("areas were emptied without a cause: {why:?}"));
            }
            (self.told.puts, self.told.put_unknown) = (0, false);
        }
        self.told.check(&log, self.disk)?;
        (self.opened)(self.disk);
        let mut working = Working {
            log,
            world,
            disk: self.disk,
            told: self.told,
            random: self.random,
            owners: Vec::new(),
            before,
            stopped: false,
        };
        working.work(self.steps)
    }
}

impl Working<'_> {
    fn work(&mut self, steps: u64) -> Checked<Ending> {
        for partition in (0..PARTITIONS).map(Partition) {
            while !self.stopped && !self.claim(partition)? {}
        }
        for _ in 0..steps {
            if self.stopped {
                break;
            }
            match self.random.below(14) {
                0..7 => self.append()?,
                7 => self.put()?,
                8 => self.renew()?,
                9 => {
                    let partition = self.partition();
                    self.claim(partition)?;
                }
                10..12 => self.read()?,
                12 => self.spoil_a_bit()?,
                _ => self.squeeze()?,
            }
        }
        if self.stopped {
            self.stays_stopped()?;
            return Ok(Ending::Stopped);
        }
        if self.random.once_in(2) {
            return Ok(Ending::Left);
        }
        answer(&self.world, &mut self.log.close())?;
        Ok(Ending::Closed)
    }

    fn partition(&mut self) -> Partition {
        Partition(self.random.below(u64::from(PARTITIONS)) as u16)
    }

    /// Whether a fault explains an error of this life.
    fn explained(&self, error: &dyn std::fmt::Display) -> Checked {
        match self.disk.tally().total() > self.before {
            true => Ok(()),
            false => Err(format!("an error without a fault: {error}")),
        }
    }

    /// Whether the claim succeeded; it did not if there is no room.
    fn claim(&mut self, partition: Partition) -> Checked<bool> {
        match answer(&self.world, &mut self.log.claim(partition))? {
            Ok(claim) => {
                let side = &self.told.sides[partition.index()];
                if claim.floor <= side.floor && !self.told.lied {
                    return Err(format!("partition {partition}: the floor fell"));
                }
                let owner = Owner::after(claim, partition);
                self.owners.retain(|owner| owner.partition != partition);
                self.owners.push(owner);
                return Ok(true);
            }
            Err(OwnerError::Unavailable(why)) => self.explained(&why)?,
            Err(OwnerError::Stopped(why)) => {
                self.explained(&why)?;
                self.stopped = true;
            }
            Err(error) => return Err(error.to_string()),
        }
        Ok(false)
    }

    /// Batches of some partitions at once.
    fn append(&mut self) -> Checked {
        let which = self.random.below((1 << PARTITIONS) - 1) + 1;
        let hold = self.random.once_in(3);
        if hold {
            self.world.hold_jobs();
        }
        let mut appends = Vec::new();
        for owner in &mut self.owners {
            if which & 1 << owner.partition.0 == 0 {
                continue;
            }
            let side = &mut self.told.sides[owner.partition.index()];
            let size = self.random.pick(&[0, 30, 300, 2500]);
            let mut records: Vec<Record> = Vec::new();
            for _ in 0..=self.random.below(3) {
                let entity = format!("e{}", self.random.below(3));
                let of = |record: &&Record| record.portable.entity.id == *entity;
                let version = side.version(&entity) + records.iter().filter(of).count() as u64;
                let payload = vec![self.random.next() as u8; size];
                records.push(event(&entity, version, payload));
            }
            let batch = owner.batch(records);
            side.unknown = batch.records.clone();
            let append = self.log.append(owner.partition, owner.epoch, batch);
            appends.push((owner.partition, append));
        }
        let at_once: Vec<_> = appends.iter_mut().map(|(_, append)| poll(append)).collect();
        self.world.run();
        let mut answers = Vec::new();
        for ((partition, append), at_once) in appends.iter_mut().zip(at_once) {
            answers.push((*partition, at_once.or_else(|| poll(append))));
        }
        drop(appends);
        if hold {
            self.world.release_jobs();
        }
        for (partition, answer) in answers {
            let side = &mut self.told.sides[partition.index()];
            match answer {
                Some(Ok(_)) => {
                    let last = side.unknown.last().map(|record| record.local.stamp);
                    side.floor = side.floor.max(last.unwrap_or_default());
                    side.acknowledged.append(&mut side.unknown);
                }
                Some(Err(AppendError::Refused(Refusal::Full(why)))) => {
                    side.unknown.clear();
                    if self.disk.tally().fired(Fault::Full) == 0 {
                        return Err(format!("full without a cause: {why}"));
                    }
                }
                Some(Err(error @ AppendError::Unknown(_))) => {
                    self.stopped = true;
                    self.explained(&error)?;
                }
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("an append that never ends".into()),
            }
        }
        Ok(())
    }

    /// A log that has stopped takes nothing, and still shows what it acknowledged.
    fn stays_stopped(&mut self) -> Checked {
        let mut owners = std::mem::take(&mut self.owners);
        for owner in &mut owners {
            for _ in 0..2 {
                let batch = owner.batch(vec![event("late", 1, "x")]);
                let mut append = self.log.append(owner.partition, owner.epoch, batch);
                match answer(&self.world, &mut append)? {
                    Err(AppendError::Unknown(_)) => {}
                    other => return Err(format!("a stopped log answered {other:?}")),
                }
            }
            match answer(&self.world, &mut self.log.claim(owner.partition))? {
                Err(OwnerError::Stopped(_)) => {}
                other => return Err(format!("a stopped log answered {other:?}")),
            }
        }
        for partition in (0..PARTITIONS).map(Partition) {
            let found = events(&self.log, self.disk, partition)?;
            let told = &self.told.sides[partition.index()].acknowledged;
            let equal = found.len() == told.len()
                && found
                    .iter()
                    .zip(told)
                    .all(|(found, told)| same(found, told));
            if !equal {
                return Err(format!(
                    "stopped: partition {partition} shows something else"
                ));
            }
        }
        Ok(())
    }

    fn put(&mut self) -> Checked {
        let Some(owner) = self.owners.iter().find(|owner| owner.partition == P0) else {
            return Ok(());
        };
        if self.told.put_unknown {
            match now(self.log.revision(&area())) {
                Ok(revision) => {
                    self.told.puts = revision.0.clamp(self.told.puts, self.told.puts + 1);
                }
                // The store writes when it is opened after a failure.
                Err(error) => return self.explained(&error),
            }
        }
        let put = Put {
            area: area(),
            epoch: owner.epoch,
            incarnation: self.log.identity().incarnation,
            previous: Revision(self.told.puts),
            clear: false,
            changes: vec![("count".into(), Some(self.told.puts.to_string().into()))],
        };
        self.told.put_unknown = true;
        match now(self.log.put(put)) {
            Ok(_) => (self.told.puts, self.told.put_unknown) = (self.told.puts + 1, false),
            Err(error) => self.explained(&error)?,
        }
        Ok(())
    }

    fn renew(&mut self) -> Checked {
        let which = self.random.below(self.owners.len() as u64) as usize;
        let Some(owner) = self.owners.get_mut(which) else {
            return Ok(());
        };
        let floor = Stamp(owner.floor.0 + (1 << 30));
        let mut renew = self.log.renew(owner.partition, owner.epoch, floor);
        match answer(&self.world, &mut renew)? {
            Ok(()) => {
                owner.floor = floor;
                self.told.sides[owner.partition.index()].floor = floor;
                Ok(())
            }
            Err(error) => {
                self.stopped |= matches!(error, OwnerError::Stopped(_));
                self.explained(&error)
            }
        }
    }

    /// Part of a partition, from anywhere.
    fn read(&mut self) -> Checked {
        let partition = self.partition();
        let head = now(self.log.safe_head(partition)).map_err(|error| error.to_string())?;
        let after = Offset(self.random.below(head.0 + 1));
        let limit = ReadLimit {
            records: self.random.below(20) as usize,
            bytes: self.random.below(4000) as usize,
        };
        let chunk = insist(self.disk, || now(self.log.read(partition, after, limit)))?;
        let told = &self.told.sides[partition.index()].acknowledged;
        for record in &chunk.records {
            let known = told
                .iter()
                .find(|told| told.local.stamp == record.local.stamp);
            let is_event = record.kind == everfold_engine::record::Kind::Event;
            if is_event && !known.is_some_and(|known| same(record, known)) {
                let offset = record.local.offset;
                return Err(format!("partition {partition}: offset {offset} is another"));
            }
        }
        Ok(())
    }

    /// A wrong bit where the log lies: reported by name, or not met; and gone when it is gone.
    fn spoil_a_bit(&mut self) -> Checked {
        let name = format!("{:010}.log", 1 + self.random.below(4));
        let Some(bytes) = self.disk.contents(&name) else {
            return Ok(());
        };
        let (at, bit) = (
            self.random.below(bytes.len() as u64),
            self.random.next() as u8,
        );
        self.disk.flip(&name, at, bit);
        let faults = self.disk.tally().total();
        for partition in (0..PARTITIONS).map(Partition) {
            let found = all_or_damage(&self.log, partition);
            match found {
                Err(why) if why.contains(&name) => {}
                Err(why) if self.disk.tally().total() == faults => return Err(why),
                Err(_) => {}
                Ok(found) => {
                    let told = &self.told.sides[partition.index()].acknowledged;
                    let mut pairs = found.iter().zip(told);
                    if found.len() != told.len() || !pairs.all(|(found, told)| same(found, told)) {
                        return Err(format!("byte {at} of {name}: a wrong bit was served"));
                    }
                }
            }
        }
        self.disk.flip(&name, at, bit);
        let partition = self.partition();
        events(&self.log, self.disk, partition).map(drop)
    }

    /// No more room for a while.
    fn squeeze(&mut self) -> Checked {
        self.disk.set_capacity(Some(0));
        for _ in 0..self.random.below(6) {
            if !self.stopped {
                self.append()?;
            }
        }
        if !self.stopped {
            self.put()?;
        }
        self.disk.set_capacity(None);
        Ok(())
    }
}

fn all_or_damage(log: &Log, partition: Partition) -> Result<Vec<Arc<Record>>, String> {
    let (mut found, mut after) = (Vec::new(), Offset(0));
    loop {
        let chunk = now(log.read(partition, after, ReadLimit::default()));
        let chunk = chunk.map_err(|error| error.to_string())?;
        if chunk.records.is_empty() {
            return Ok(found);
        }
        after = chunk.next;
        let events = chunk.records.into_iter();
        found.extend(events.filter(|record| record.kind == everfold_engine::record::Kind::Event));
    }
}
