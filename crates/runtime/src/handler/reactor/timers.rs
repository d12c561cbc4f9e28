//! The timers of one lane: what is pending, in the order in which it is due, and what is firing.
//!
//! Timers fire under numbers of their own, so that a timer years away holds up nobody's forgetting:
//! a number is stored before its command is sent, and what is settled counts in numbers.

use std::collections::{BTreeMap, VecDeque};

use everfold_engine::map::{Map, seeded};
use everfold_engine::{Bytes, Offset, Text, Timestamp};
use serde::{Deserialize, Serialize};

/// A timer's place: when it is due, and which of an event's timers it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Due {
    #[serde(with = "micros")]
    pub(super) at: Timestamp,
    #[serde(with = "offset")]
    pub(super) offset: Offset,
    pub(super) index: u32,
}

/// The entity whose event has set a timer, and the timer's name.
type Name = (Text, Text);

/// A timer whose time has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Firing {
    pub(super) due: Due,
    pub(super) entity: String,
    pub(super) name: String,
    /// Why it is set aside for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parked: Option<String>,
}

impl Firing {
    /// How a person refers to it.
    pub(super) fn key(&self) -> Text {
        format!("{} timer {}", self.entity, self.name).into()
    }
}

type Changes = BTreeMap<Bytes, Option<Bytes>>;

const PENDING: u8 = b't';
const FIRING: u8 = b'f';

pub(super) struct Timers {
    pending: BTreeMap<Due, Name>,
    names: BTreeMap<Name, Due>,
    firing: BTreeMap<u64, Firing>,
    /// The numbers that fire one after the other, by entity; the first of each is under way.
    queues: Map<Text, VecDeque<u64>>,
    queued: usize,
    /// Numbers that may be sent once they are stored.
    unsent: Vec<u64>,
    next: u64,
    /// How many timers each event has that have not done their work.
    events: BTreeMap<Offset, u32>,
    /// The timers of all events up to here are set.
    taken: Offset,
    /// Timers of events up to here may be stored.
    stored: Offset,
    changes: Changes,
}

impl Timers {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            pending: BTreeMap::new(),
            names: BTreeMap::new(),
            firing: BTreeMap::new(),
            queues: seeded(seed),
            queued: 0,
            unsent: Vec::new(),
            next: 1,
            events: BTreeMap::new(),
            taken: Offset(0),
            stored: Offset(0),
            changes: Changes::new(),
        }
    }

    /// Goes on from what was stored; `next` is the first number never given.
    pub(super) fn resume(&mut self, taken: Offset, next: u64) {
        (self.taken, self.stored, self.next) = (taken, taken, next);
    }

    /// Takes an entry of the area in; says whether it is one of timers.
    pub(super) fn load(&mut self, key: &[u8], value: &[u8]) -> bool {
        match key.split_first() {
            Some((&PENDING, rest)) => {
                if let (Some(due), Ok(name)) = (read_due(rest), serde_json::from_slice(value)) {
                    let (entity, name): (String, String) = name;
                    let name: Name = (entity.into(), name.into());
                    self.insert(due, name);
                }
                true
            }
            Some((&FIRING, number)) => {
                let number = number.try_into().map(u64::from_be_bytes);
                if let (Ok(number), Ok(firing)) = (number, serde_json::from_slice::<Firing>(value))
                {
                    *self.events.entry(firing.due.offset).or_default() += 1;
                    self.firing.insert(number, firing);
                }
                true
            }
            _ => false,
        }
    }

    /// What was firing when the lane ended goes on; says whether there is anything.
    pub(super) fn resend(&mut self) -> bool {
        let open = self.firing.iter().filter(|(_, it)| it.parked.is_none());
        self.unsent.extend(open.map(|(number, _)| *number));
        !self.unsent.is_empty()
    }

    /// The timers of events up to here are set, and not set again.
    pub(super) fn taken(&self) -> Offset {
        self.taken
    }

    pub(super) fn take(&mut self, offset: Offset) {
        self.taken = self.taken.max(offset);
    }

    pub(super) fn set(&mut self, entity: &Text, name: &str, due: Due) {
        // Copies: what is shared with a record would keep all of its chunk in memory.
        let name: Name = (Text::from(&entity[..]), name.into());
        self.forget(&name);
        if let Ok(value) = serde_json::to_vec(&(&name.0[..], &name.1[..])) {
            self.changes.insert(pending_key(due), Some(value.into()));
        }
        self.insert(due, name);
    }

    fn insert(&mut self, due: Due, name: Name) {
        *self.events.entry(due.offset).or_default() += 1;
        self.pending.insert(due, name.clone());
        self.names.insert(name, due);
    }

    /// An event has one timer less.
    fn uncount(&mut self, offset: Offset) {
        if let Some(count) = self.events.get_mut(&offset) {
            *count -= 1;
            if *count == 0 {
                self.events.remove(&offset);
            }
        }
    }

    /// Says whether it stood.
    pub(super) fn cancel(&mut self, entity: &Text, name: &Text) -> bool {
        let name = (entity.clone(), name.clone());
        let stood = self.names.contains_key(&name);
        self.forget(&name);
        stood
    }

    /// Also of what is parked.
    pub(super) fn cancel_all(&mut self, entity: &Text) {
        let first = (entity.clone(), Text::new());
        let of_entity = self.names.range(first..).map(|(name, _)| name);
        let all: Vec<Name> = of_entity
            .take_while(|(of, _)| of == entity)
            .cloned()
            .collect();
        all.iter().for_each(|name| self.forget(name));
        let of_entity = |firing: &Firing| firing.parked.is_some() && firing.entity == entity[..];
        let parked: Vec<(u64, Offset)> = self
            .firing
            .iter()
            .filter(|(_, firing)| of_entity(firing))
            .map(|(number, firing)| (*number, firing.due.offset))
            .collect();
        for (number, offset) in parked {
            self.firing.remove(&number);
            self.uncount(offset);
            self.changes.insert(firing_key(number), None);
        }
    }

    fn forget(&mut self, name: &Name) {
        if let Some(due) = self.names.remove(name) {
            self.pending.remove(&due);
            self.uncount(due.offset);
            self.erase(due);
        }
    }

    fn erase(&mut self, due: Due) {
        let key = pending_key(due);
        if due.offset <= self.stored {
            self.changes.insert(key, None);
        } else {
            self.changes.remove(&key);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.pending.first_key_value().map(|(due, _)| due.at)
    }

    /// The event of the oldest timer that has not done its work.
    pub(super) fn oldest(&self) -> Option<Offset> {
        self.events.first_key_value().map(|(offset, _)| *offset)
    }

    /// Timers that are due now begin to fire, those due first first; at most so many at once. Says
    /// whether there are any.
    pub(super) fn fire(&mut self, now: Timestamp, most: usize) -> bool {
        let mut any = false;
        while self.under_way() < most
            && let Some(entry) = self.pending.first_entry()
            && entry.key().at <= now
        {
            let (due, name) = entry.remove_entry();
            self.names.remove(&name);
            self.erase(due);
            let firing = Firing {
                due,
                entity: name.0.to_string(),
                name: name.1.to_string(),
                parked: None,
            };
            let number = self.next;
            self.next += 1;
            self.write(number, &firing);
            self.firing.insert(number, firing);
            self.unsent.push(number);
            any = true;
        }
        any
    }

    /// How many fire that nobody has to look at.
    pub(super) fn under_way(&self) -> usize {
        self.unsent.len() + self.queued
    }

    fn write(&mut self, number: u64, firing: &Firing) {
        if let Ok(value) = serde_json::to_vec(firing) {
            self.changes.insert(firing_key(number), Some(value.into()));
        }
    }

    /// Everything is stored: what may be sent now, one per entity.
    pub(super) fn release(&mut self) -> Vec<(u64, Firing)> {
        let mut first = Vec::new();
        for number in std::mem::take(&mut self.unsent) {
            let Some(firing) = self.firing.get(&number) else {
                continue;
            };
            let queue = self
                .queues
                .entry(firing.entity.as_str().into())
                .or_default();
            queue.push_back(number);
            self.queued += 1;
            if queue.len() == 1 {
                first.push((number, firing.clone()));
            }
        }
        first
    }

    /// A number is done with, or set aside for a reason; what of the same entity may be sent now.
    pub(super) fn finish(
        &mut self,
        number: u64,
        result: Result<(), String>,
    ) -> Option<(u64, Firing)> {
        let firing = self.firing.get_mut(&number)?;
        let entity = Text::from(firing.entity.as_str());
        match result {
            Ok(()) => {
                let offset = firing.due.offset;
                self.firing.remove(&number);
                self.uncount(offset);
                self.changes.insert(firing_key(number), None);
            }
            Err(reason) => {
                firing.parked = Some(reason);
                let firing = firing.clone();
                self.write(number, &firing);
            }
        }
        let queue = self.queues.get_mut(&entity)?;
        self.queued -= usize::from(queue.pop_front().is_some());
        let Some(next) = queue.front().copied() else {
            self.queues.remove(&entity);
            return None;
        };
        self.firing.get(&next).map(|firing| (next, firing.clone()))
    }

    /// What is set aside for a person.
    pub(super) fn parked(&self) -> impl Iterator<Item = &Firing> {
        let firing = self.firing.values();
        firing.filter(|firing| firing.parked.is_some())
    }

    /// Tries what is set aside under a key again; says whether there is anything.
    pub(super) fn retry(&mut self, key: &str) -> bool {
        let parked = |(_, it): &(&u64, &mut Firing)| it.parked.is_some() && it.key() == key;
        let Some((number, firing)) = self.firing.iter_mut().find(parked) else {
            return false;
        };
        firing.parked = None;
        let (number, firing) = (*number, firing.clone());
        self.write(number, &firing);
        self.unsent.push(number);
        true
    }

    /// Numbers up to here are never sent again, once all that is changed is stored.
    pub(super) fn settled(&self) -> u64 {
        let first = self.firing.keys().next();
        first.copied().unwrap_or(self.next) - 1
    }

    pub(super) fn next_number(&self) -> u64 {
        self.next
    }

    pub(super) fn is_changed(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Takes what has to be stored, and up to where the timers of events are set with it.
    pub(super) fn take_changes(&mut self) -> (Changes, Offset) {
        (std::mem::take(&mut self.changes), self.taken)
    }

    /// Timers of events up to here may be stored now.
    pub(super) fn may_be_stored(&mut self, taken: Offset) {
        self.stored = taken;
    }

    /// What may not be stored, and has to be with the next attempt.
    pub(super) fn put_back(&mut self, changes: Changes) {
        for (key, value) in changes {
            self.changes.entry(key).or_insert(value);
        }
    }
}

fn pending_key(due: Due) -> Bytes {
    let mut key = vec![PENDING];
    // Negative times come first.
    key.extend_from_slice(&((due.at.0 as u64) ^ (1 << 63)).to_be_bytes());
    key.extend_from_slice(&due.offset.0.to_be_bytes());
    key.extend_from_slice(&due.index.to_be_bytes());
    key.into()
}

fn read_due(key: &[u8]) -> Option<Due> {
    let (at, rest) = key.split_first_chunk::<8>()?;
    let (offset, index) = rest.split_first_chunk::<8>()?;
    Some(Due {
        at: Timestamp((u64::from_be_bytes(*at) ^ (1 << 63)) as i64),
        offset: Offset(u64::from_be_bytes(*offset)),
        index: u32::from_be_bytes(index.try_into().ok()?),
    })
}

fn firing_key(number: u64) -> Bytes {
    [&[FIRING][..], &number.to_be_bytes()].concat().into()
}

mod micros {
    use everfold_engine::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        at.0.serialize(to)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(from).map(Timestamp)
    }
}

mod offset {
    use everfold_engine::Offset;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(offset: &Offset, to: S) -> Result<S::Ok, S::Error> {
        offset.0.serialize(to)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Offset, D::Error> {
        u64::deserialize(from).map(Offset)
    }
}
