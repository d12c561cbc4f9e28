//! Entities in memory, within a budget of bytes.
//!
//! Which entity leaves is decided by a clock: a ring of names and one bit per entity. A use sets the
//! bit, the hand clears it, and takes whom it finds without. So a use costs one store.

use std::any::Any;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use everfold_engine::map::{Map, seeded};
use everfold_engine::record::Portable;
use everfold_engine::time::Stamp;
use everfold_engine::{EntityKey, Timestamp};

use crate::error::CommandError;
use crate::options::SnapshotPolicy;
use crate::schema::EntityType;

/// What an entity takes beside its name and state.
const OVERHEAD: u64 = 256;
/// A state that is thought to have grown by so much, and to have doubled, is written down to see.
const LEAST_GROWN: u64 = 1024;

/// One entity in memory, ahead of the disk by what is in flight.
pub(crate) struct Resident {
    pub(crate) kind: Arc<EntityType>,
    pub(crate) state: Box<dyn Any + Send>,
    pub(crate) version: u64,
    /// The stamp of the event that led to this version.
    pub(crate) stamp: Stamp,
    /// The batch that changed it last; 0 if none since it was loaded.
    pub(crate) touched: u64,
    /// The version of its last snapshot.
    pub(crate) stored: u64,
    /// Bytes of events since then.
    since_bytes: u64,
    /// When the first event since then was recorded, in milliseconds.
    since_millis: i64,
    /// Bytes of its state as it was last written down, and bytes of events since then.
    measured: u64,
    unmeasured: u64,
    /// What it is counted as.
    bytes: u64,
    /// Used since the hand passed.
    used: bool,
    /// Its place in the ring; another one under the same name is out of date.
    place: u64,
}

impl Resident {
    pub(crate) fn new(kind: Arc<EntityType>) -> Self {
        let state = (kind.make)();
        Self::with_state(kind, state)
    }

    fn with_state(kind: Arc<EntityType>, state: Box<dyn Any + Send>) -> Self {
        Self {
            kind,
            state,
            version: 0,
            stamp: Stamp::default(),
            touched: 0,
            stored: 0,
            since_bytes: 0,
            since_millis: 0,
            measured: 0,
            unmeasured: 0,
            bytes: 0,
            used: true,
            place: 0,
        }
    }

    /// As a snapshot of `measured` bytes has it.
    pub(crate) fn restored(
        kind: Arc<EntityType>,
        state: Box<dyn Any + Send>,
        (version, stamp): (u64, Stamp),
        measured: usize,
    ) -> Self {
        Self {
            version,
            stamp,
            stored: version,
            measured: measured as u64,
            ..Self::with_state(kind, state)
        }
    }

    /// Folds a stored event.
    pub(crate) fn fold(
        &mut self,
        portable: &Portable,
        version: u64,
        stamp: Stamp,
    ) -> Result<(), CommandError> {
        let evolve = || (self.kind.evolve)(self.state.as_mut(), portable);
        crate::owner::guard(&portable.entity, evolve)?.map_err(|error| {
            let entity = portable.entity.to_string();
            let reason = format!("version {version}: {error}");
            match error.is_newer() {
                true => CommandError::NewerBuild { entity, reason },
                false => CommandError::History { entity, reason },
            }
        })?;
        let labels = portable.labels.iter();
        let labels: usize = labels.map(|(name, value)| name.len() + value.len()).sum();
        let bytes = portable.payload.len() + portable.metadata.len() + labels;
        self.advance(version, stamp, bytes, stamp.millis());
        Ok(())
    }

    fn advance(&mut self, version: u64, stamp: Stamp, bytes: usize, millis: i64) {
        if self.version == self.stored {
            self.since_millis = millis;
        }
        self.version = version;
        self.stamp = stamp;
        self.since_bytes += bytes as u64;
        self.unmeasured += bytes as u64;
    }

    /// Events since the last snapshot.
    pub(crate) fn since(&self) -> u64 {
        self.version.saturating_sub(self.stored)
    }

    fn is_due(&self, policy: &SnapshotPolicy, now: Timestamp) -> bool {
        let age = i64::try_from(policy.age.as_millis()).unwrap_or(i64::MAX);
        self.since() >= policy.events
            || self.since_bytes >= policy.bytes
            || now.millis().saturating_sub(self.since_millis) >= age
    }

    /// Its state was written down as so many bytes.
    fn measure(&mut self, bytes: usize) {
        self.learn(bytes);
        self.measured = bytes as u64;
        self.unmeasured = 0;
    }

    /// Whether the estimate is due to be checked.
    fn is_vague(&self) -> bool {
        let grown = self.kind.growth.of(self.unmeasured);
        grown >= LEAST_GROWN.max(self.measured) && self.kind.decode_state.is_some()
    }

    /// Its state took so many bytes as it left.
    pub(crate) fn learn(&self, bytes: usize) {
        let added = (bytes as u64).saturating_sub(self.measured);
        self.kind.growth.learn(self.unmeasured, added);
    }

    /// Measures the state as it is.
    fn look(&mut self, key: &EntityKey, scratch: &mut Vec<u8>) {
        scratch.clear();
        let encode = || (self.kind.encode_state)(self.state.as_ref(), scratch);
        // Of what cannot be written down, what has come out counts.
        let _ = crate::owner::guard(key, encode);
        self.measure(scratch.len());
    }

    fn estimate(&self, key: &EntityKey) -> u64 {
        let name = key.tenant.len() + key.kind.len() + key.id.len();
        OVERHEAD + name as u64 + self.measured + self.kind.growth.of(self.unmeasured)
    }
}

/// The entities of one partition that are in memory.
pub(crate) struct Residents {
    entities: Map<EntityKey, Resident>,
    /// Whom the hand comes to next; names of entities that have left may still be here.
    ring: VecDeque<(u64, EntityKey)>,
    places: u64,
    bytes: u64,
    budget: u64,
    scratch: Vec<u8>,
    /// Those of types that are to be remembered, and whether they are others than were noted.
    remembered: BTreeSet<EntityKey>,
    to_note: bool,
}

impl Residents {
    pub(crate) fn new(seed: u64, budget: u64) -> Self {
        Self {
            entities: seeded(seed),
            ring: VecDeque::new(),
            places: 0,
            bytes: 0,
            budget,
            scratch: Vec::new(),
            remembered: BTreeSet::new(),
            to_note: false,
        }
    }

    /// Whether an entity is in memory; marks it as used.
    pub(crate) fn touch(&mut self, key: &EntityKey) -> bool {
        match self.entities.get_mut(key) {
            Some(resident) => {
                resident.used = true;
                true
            }
            None => false,
        }
    }

    pub(crate) fn insert(&mut self, key: EntityKey, mut resident: Resident) {
        self.places += 1;
        resident.place = self.places;
        if resident.kind.remembered {
            self.to_note |= self.remembered.insert(key.clone());
        }
        if resident.is_vague() {
            resident.look(&key, &mut self.scratch);
        }
        resident.bytes = resident.estimate(&key);
        self.bytes += resident.bytes;
        self.ring.push_back((self.places, key.clone()));
        if let Some(before) = self.entities.insert(key, resident) {
            self.bytes -= before.bytes;
        }
        if self.ring.len() > 2 * self.entities.len() + 64 {
            let entities = &self.entities;
            self.ring
                .retain(|(place, key)| entities.get(key).is_some_and(|r| r.place == *place));
        }
    }

    pub(crate) fn remove(&mut self, key: &EntityKey) {
        if let Some(resident) = self.entities.remove(key) {
            self.bytes -= resident.bytes;
            self.to_note |= self.remembered.remove(key);
        }
    }

    /// Those to be remembered, if they have changed since this was asked.
    pub(crate) fn remembered(&mut self) -> Option<impl Iterator<Item = &EntityKey>> {
        std::mem::take(&mut self.to_note).then(|| self.remembered.iter())
    }

    pub(crate) fn len(&self) -> usize {
        self.entities.len()
    }

    /// The estimate of all of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn is_over(&self) -> bool {
        self.bytes > self.budget
    }

    /// Notes a decided event of `bytes`; the entity's version after it, and whether a snapshot is
    /// due.
    pub(crate) fn decided(
        &mut self,
        key: &EntityKey,
        (batch, stamp): (u64, Stamp),
        bytes: usize,
        policy: &SnapshotPolicy,
        now: Timestamp,
    ) -> Option<(u64, bool)> {
        let resident = self.entities.get_mut(key)?;
        resident.advance(resident.version + 1, stamp, bytes, now.millis());
        resident.touched = batch;
        let grown = resident.kind.growth.of(bytes as u64);
        resident.bytes += grown;
        self.bytes += grown;
        if resident.is_vague() {
            resident.look(key, &mut self.scratch);
            self.bytes -= resident.bytes;
            resident.bytes = resident.estimate(key);
            self.bytes += resident.bytes;
        }
        Some((resident.version, resident.is_due(policy, now)))
    }

    /// An entity's state was written down as so many bytes, to be stored.
    pub(crate) fn measured(&mut self, key: &EntityKey, bytes: usize) {
        if let Some(resident) = self.entities.get_mut(key) {
            resident.measure(bytes);
            resident.stored = resident.version;
            resident.since_bytes = 0;
            self.bytes -= resident.bytes;
            resident.bytes = resident.estimate(key);
            self.bytes += resident.bytes;
        }
    }

    /// How many looks a round over all entities takes.
    pub(crate) fn places(&self) -> usize {
        self.ring.len()
    }

    /// Takes out the entity whose turn it is, if one is found in `looks` steps. Those that are
    /// `held` stay.
    pub(crate) fn leave(
        &mut self,
        looks: &mut usize,
        held: impl Fn(&EntityKey, &Resident) -> bool,
    ) -> Option<(EntityKey, Resident)> {
        while *looks > 0 {
            *looks -= 1;
            let (place, key) = self.ring.pop_front()?;
            let Some(resident) = self.entities.get_mut(&key).filter(|r| r.place == place) else {
                continue;
            };
            if std::mem::take(&mut resident.used) || held(&key, resident) {
                self.ring.push_back((place, key));
                continue;
            }
            let resident = self.entities.remove(&key)?;
            self.bytes -= resident.bytes;
            self.to_note |= self.remembered.remove(&key);
            return Some((key, resident));
        }
        None
    }

    pub(crate) fn get(&self, key: &EntityKey) -> Result<&Resident, CommandError> {
        self.entities.get(key).ok_or_else(|| not_loaded(key))
    }

    pub(crate) fn get_mut(&mut self, key: &EntityKey) -> Result<&mut Resident, CommandError> {
        self.entities.get_mut(key).ok_or_else(|| not_loaded(key))
    }

    /// The typed state of an entity and its version.
    pub(crate) fn state<E: 'static>(&self, key: &EntityKey) -> Result<(&E, u64), CommandError> {
        let resident = self.get(key)?;
        let state = resident
            .state
            .downcast_ref()
            .ok_or_else(|| other_type(key))?;
        Ok((state, resident.version))
    }

    /// The typed state of an entity, to be changed.
    pub(crate) fn state_mut<E: 'static>(
        &mut self,
        key: &EntityKey,
    ) -> Result<&mut E, CommandError> {
        self.get_mut(key)?
            .state
            .downcast_mut()
            .ok_or_else(|| other_type(key))
    }
}

fn not_loaded(key: &EntityKey) -> CommandError {
    CommandError::History {
        entity: key.to_string(),
        reason: "it is not in memory".into(),
    }
}

fn other_type(key: &EntityKey) -> CommandError {
    CommandError::UnknownEntity(format!("{} of the type asked for", key.kind))
}
