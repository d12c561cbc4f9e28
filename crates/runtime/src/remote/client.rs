//! An application's entities, asked from outside of its nodes.

use std::sync::Arc;

use everfold_engine::{Position, World};

use super::{Membership, Remote};
use crate::application::{Application, StartError};
use crate::entity::Entity;
use crate::entity_ref::EntityRef;
use crate::options::{NodeOptions, StateOptions};
use crate::owner::Router;
use crate::together::TogetherRef;

/// Sends the commands of an application to its nodes, and reads its entities there. It owns nothing,
/// holds nothing, and needs no way to the engine.
pub struct Client {
    router: Router,
}

impl Client {
    /// A client of the log that begins at `start` and is cut as `layout` says. Of the application
    /// only the entities count.
    ///
    /// # Errors
    /// [`StartError`]: a mistake in the application's definition.
    pub fn new(
        mut application: Application,
        (start, layout): (Position, everfold_engine::Layout),
        world: Arc<dyn World>,
        membership: Membership,
    ) -> Result<Self, StartError> {
        application.define_sagas()?;
        let remote = Remote {
            membership,
            engine: None,
            registry: Arc::new(application.registry()?),
            options: StateOptions::default(),
        };
        let allowed = NodeOptions::default().allowed();
        let router = Router::new(layout, start, Vec::new(), allowed, world, Some(remote));
        Ok(Self { router })
    }

    /// One entity.
    pub fn entity<E: Entity>(&self, id: impl Into<E::Id>) -> EntityRef<'_, E> {
        EntityRef::new(&self.router, None, &id.into())
    }

    /// Commands over several entities that share a tag.
    pub fn together(&self) -> TogetherRef<'_> {
        TogetherRef {
            router: &self.router,
        }
    }
}
