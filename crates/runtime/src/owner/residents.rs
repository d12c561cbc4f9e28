//! Entities in memory.

use std::any::Any;
use std::sync::Arc;

use everfold_engine::EntityKey;
use everfold_engine::map::{Map, seeded};
use everfold_engine::record::Portable;

use crate::error::CommandError;
use crate::schema::EntityType;

/// One entity in memory, ahead of the disk by what is in flight.
pub(crate) struct Resident {
    pub(crate) kind: Arc<EntityType>,
    pub(crate) state: Box<dyn Any + Send>,
    pub(crate) version: u64,
    /// The batch that changed it last; 0 if none since it was loaded.
    pub(crate) touched: u64,
}

impl Resident {
    pub(crate) fn new(kind: Arc<EntityType>) -> Self {
        Self {
            state: (kind.make)(),
            kind,
            version: 0,
            touched: 0,
        }
    }

    /// Folds a stored event.
    pub(crate) fn fold(&mut self, portable: &Portable, version: u64) -> Result<(), CommandError> {
        let evolve = || (self.kind.evolve)(self.state.as_mut(), portable);
        crate::owner::guard(&portable.entity, evolve)?.map_err(|error| CommandError::History {
            entity: portable.entity.to_string(),
            reason: format!("version {version}: {error}"),
        })?;
        self.version = version;
        Ok(())
    }
}

/// The entities of one partition that are in memory.
pub(crate) struct Residents {
    entities: Map<EntityKey, Resident>,
}

impl Residents {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            entities: seeded(seed),
        }
    }

    pub(crate) fn contains(&self, key: &EntityKey) -> bool {
        self.entities.contains_key(key)
    }

    pub(crate) fn insert(&mut self, key: EntityKey, resident: Resident) {
        self.entities.insert(key, resident);
    }

    pub(crate) fn remove(&mut self, key: &EntityKey) {
        self.entities.remove(key);
    }

    pub(crate) fn len(&self) -> usize {
        self.entities.len()
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
