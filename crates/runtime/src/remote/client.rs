//! An application's entities, asked from outside of its nodes.

use std::sync::Arc;

use everfold_engine::{Position, Text, World};

use super::{Membership, Remote};
use crate::application::{Application, StartError};
use crate::entity::Entity;
use crate::entity_ref::EntityRef;
use crate::key::Key;
use crate::options::{NodeOptions, StateOptions};
use crate::owner::Router;
use crate::query::{Entities, Placed, RowsRef, Source};
use crate::together::TogetherRef;
use crate::view::{Row, View};

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

    /// The entities of a type, to be found by range and filter.
    pub fn entities<E: Entity>(&self) -> Entities<E> {
        Entities::new(self.source(), Text::from_static(E::NAME))
    }

    /// A view that the nodes run.
    pub fn view<K: Key, R: Row>(&self, view: &View<K, R>) -> RowsRef<K, R> {
        RowsRef::new(&self.router, view)
    }

    /// Who has which partition, as far as the client knows.
    pub fn placed(&self) -> Vec<Placed> {
        Placed::all(&self.router)
    }

    fn source(&self) -> Source {
        Source {
            router: self.router.clone(),
            here: None,
        }
    }

    /// Commands over several entities that share a tag.
    pub fn together(&self) -> TogetherRef<'_> {
        TogetherRef {
            router: &self.router,
        }
    }
}
