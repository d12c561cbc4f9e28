//! Looking at entities without running the application.

use std::sync::Arc;

use everfold_engine::EntityKey;
use everfold_engine::engine::Engine;

use crate::application::{Application, StartError};
use crate::error::CommandError;
use crate::options::{StateOptions, StateStore};
use crate::owner::{self, Loader};
use crate::schema::Registry;

/// Shows entities of a log that somebody else may own: nothing is claimed, nothing written.
pub struct Inspector {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) registry: Registry,
}

impl Application {
    /// Looks at the entities of an engine.
    ///
    /// # Errors
    /// [`StartError`]: a mistake in the application's definition.
    pub fn inspector(mut self, engine: Arc<dyn Engine>) -> Result<Inspector, StartError> {
        self.define_sagas()?;
        let registry = self.registry()?;
        Ok(Inspector { engine, registry })
    }
}

impl Inspector {
    /// The engine that is looked at.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// An entity's state as JSON and its version; at `version` if given, else the newest; `None` if
    /// it has no events.
    ///
    /// # Errors
    /// [`CommandError::UnknownEntity`] if the application has no such type.
    pub async fn inspect(
        &self,
        entity: &EntityKey,
        version: Option<u64>,
    ) -> Result<Option<(serde_json::Value, u64)>, CommandError> {
        let options = log_alone();
        let loader = Loader {
            engine: self.engine.as_ref(),
            options: &options,
        };
        inspect(&loader, &self.registry, entity, version).await
    }
}

/// What is stored beside the log is its owner's; the log alone says as much.
pub(crate) fn log_alone() -> StateOptions {
    StateOptions {
        store: StateStore::Memory,
        ..StateOptions::default()
    }
}

pub(crate) async fn inspect(
    loader: &Loader<'_>,
    registry: &Registry,
    entity: &EntityKey,
    version: Option<u64>,
) -> Result<Option<(serde_json::Value, u64)>, CommandError> {
    let unknown = || CommandError::UnknownEntity(entity.kind.to_string());
    let kind = registry.named(&entity.kind).ok_or_else(unknown)?.clone();
    let until = version.unwrap_or(u64::MAX);
    let encode = kind.encode_state;
    let resident = loader.load(kind, entity, until).await?.resident;
    if resident.version == 0 {
        return Ok(None);
    }
    let mut json = Vec::new();
    encode(resident.state.as_ref(), &mut json).map_err(owner::not_json)?;
    let state = serde_json::from_slice(&json).map_err(owner::not_json)?;
    Ok(Some((state, resident.version)))
}
