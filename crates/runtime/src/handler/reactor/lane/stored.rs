//! What a lane keeps in the engine: its checkpoint, what is parked, its timers.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use everfold_engine::engine::{Area, Put, PutError, ReadError, Revision};
use everfold_engine::{Bytes, Offset, Text};

use super::Lane;

const CHECKPOINT: &[u8] = b"c";
const PARKED: u8 = b'p';

impl Lane {
    fn area(&self) -> Area {
        Area {
            name: format!("reactor/{}", self.name).into(),
            partition: self.partition,
        }
    }

    pub(super) async fn load(&mut self) -> Result<(), ReadError> {
        let engine = self.ground.engine.clone();
        let area = self.area();
        self.revision = engine.revision(&area).await?;
        let mut checkpoint = None;
        let (mut parked, mut timers) = (Vec::new(), Vec::new());
        let mut last: Option<Bytes> = None;
        loop {
            let page = engine.scan(&area, last.as_deref(), 1024).await?;
            let Some((key, _)) = page.last() else { break };
            last = Some(key.clone());
            for (key, value) in page {
                let name = || std::str::from_utf8(&key[1..]).ok().map(Text::from);
                match key.first() {
                    _ if key == CHECKPOINT => checkpoint = read_checkpoint(&value),
                    Some(&PARKED) => {
                        if let (Some(name), Ok(value)) = (name(), serde_json::from_slice(&value)) {
                            parked.push((name, value));
                        }
                    }
                    _ => timers.push((key, value)),
                }
            }
        }
        // Ahead of the log: it was made from another one.
        let head = engine.safe_head(self.partition).await?;
        self.inherited = head;
        let usable = checkpoint.filter(|(reached, _, _)| *reached <= head);
        self.obsolete = usable.is_none() && self.revision > Revision(0);
        let world = self.ground.world.clone();
        if checkpoint.is_some() && usable.is_none() {
            world.reached("reactor: checkpoint of another log discarded");
        }
        // Numbers that were given before what was stored got lost must not come again: whoever knows
        // them would take a new timer for an old one.
        let unknown = world.now().0.max(1) as u64;
        let (reached, taken, next) = usable.unwrap_or((Offset(0), Offset(0), unknown));
        (self.stored, self.cursor) = (reached, reached);
        self.timers.resume(taken, next);
        self.parked().clear();
        if usable.is_some() {
            self.parked().extend(parked);
            for (key, value) in timers {
                self.timers.load(&key, &value);
            }
            if self.timers.resend() {
                world.reached("timer: was firing at the start, sent again");
            }
            let now = self.ground.timers.now(world.as_ref());
            if self.timers.next_due().is_some_and(|due| due <= now) {
                world.reached("timer: overdue at the start");
            }
        }
        self.status.reached.send_replace(self.cursor);
        self.settle();
        self.publish();
        Ok(())
    }

    /// Commands for events up to here will never be sent again: the lower of the stored checkpoint
    /// and the oldest parked event. For timers the same in numbers.
    fn settle(&self) {
        let oldest = self
            .parked()
            .values()
            .flat_map(|parked| parked.offsets.first().copied())
            .min();
        let settled = oldest.map_or(self.stored.0, |oldest| self.stored.0.min(oldest - 1));
        let status = &self.status;
        status.settled.store(settled, Ordering::Relaxed);
        status
            .settled_timers
            .store(self.timers.settled(), Ordering::Relaxed);
        // A timer reads its event again when it fires.
        let oldest = self.timers.oldest().map_or(u64::MAX, |offset| offset.0 - 1);
        status.done.store(settled.min(oldest), Ordering::Relaxed);
        let parked = self.timers.parked().cloned().collect();
        *status
            .parked_timers
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = parked;
    }

    pub(super) async fn store(&mut self) {
        let Some(epoch) = self.ground.epoch(self.partition) else {
            return;
        };
        if self.epoch != Some(epoch) {
            self.outdated = true;
            return;
        }
        let reached = *self.status.reached.borrow();
        let changed = self.parked_changed || self.timers.is_changed();
        if reached == self.stored && !changed {
            return;
        }
        let (timers, taken) = self.timers.take_changes();
        let mut changes = vec![(
            Bytes::from_static(CHECKPOINT),
            Some(write_checkpoint(reached, taken, self.timers.next_number())),
        )];
        let removed = std::mem::take(&mut self.removed);
        for key in &removed {
            changes.push((parked_key(key), None));
        }
        for (key, parked) in self.parked().iter() {
            if let Ok(value) = serde_json::to_vec(parked) {
                changes.push((parked_key(key), Some(value.into())));
            }
        }
        changes.extend(timers.clone());
        let put = Put {
            area: self.area(),
            epoch,
            incarnation: self.ground.engine.identity().incarnation,
            previous: self.revision,
            clear: self.obsolete,
            changes,
        };
        let result = self.ground.engine.put(put).await;
        self.timers.may_be_stored(taken);
        match result {
            Ok(revision) => {
                self.revision = revision;
                self.stored = reached;
                self.obsolete = false;
                self.parked_changed = false;
                self.settle();
                self.send_fired();
                return;
            }
            // Under our epoch only we can have written it: a put whose answer was lost.
            Err(PutError::Changed(revision)) => {
                self.ground
                    .world
                    .reached("reactor: put without an answer, done again");
                self.revision = revision;
            }
            // Tried again with the next tick. If somebody else owns the partition, this node's
            // progress counts no more.
            Err(_) => self.ground.world.reached("reactor: put refused or lost"),
        }
        self.removed.extend(removed);
        self.parked_changed = true;
        self.timers.put_back(timers);
        self.unstored = true;
    }
}

/// Finished up to here, timers set up to here, the first number not given.
type Checkpoint = (Offset, Offset, u64);

fn write_checkpoint(reached: Offset, taken: Offset, next: u64) -> Bytes {
    let numbers = [reached.0, taken.0, next];
    numbers.iter().flat_map(|it| it.to_le_bytes()).collect()
}

fn read_checkpoint(bytes: &[u8]) -> Option<Checkpoint> {
    let (numbers, rest) = bytes.as_chunks::<8>();
    let number = |at: usize| numbers.get(at).map(|it| u64::from_le_bytes(*it));
    let reached = Offset(number(0)?);
    // A checkpoint without timers is one of before there were any.
    rest.is_empty().then(|| {
        (
            reached,
            Offset(number(1).unwrap_or(reached.0)),
            number(2).unwrap_or(1),
        )
    })
}

fn parked_key(key: &Text) -> Bytes {
    [&[PARKED][..], key.as_bytes()].concat().into()
}
