//! An application: its entities, views and reactors.

use std::any::TypeId;
use std::sync::Arc;

use everfold_engine::World;
use everfold_engine::engine::{Engine, OwnerError};

use crate::entity::Evolve;
use crate::key::Key;
use crate::node::Node;
use crate::options::NodeOptions;
use crate::reactor::Reactor;
use crate::schema::{EntityType, Registry};
use crate::view::{Row, View, ViewTask};

/// What an application consists of; opened on an engine it becomes a [`Node`].
#[must_use = "an application runs only when it is opened"]
pub struct Application {
    name: String,
    pub(crate) kinds: Vec<EntityType>,
    pub(crate) views: Vec<Box<dyn ViewTask>>,
    pub(crate) reactors: Vec<Reactor>,
}

impl Application {
    /// An application without entities.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kinds: Vec::new(),
            views: Vec::new(),
            reactors: Vec::new(),
        }
    }

    /// The application's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a kind of entity.
    pub fn entity<E: Evolve>(mut self) -> Self {
        self.kinds.push(EntityType::of::<E>());
        self
    }

    /// Declares a consistency scope whose appends may carry conditions.
    pub fn boundary(mut self, name: &'static str) -> Self {
        self.kinds.push(EntityType::boundary(name));
        self
    }

    /// Adds a reactor.
    pub fn reactor(mut self, reactor: Reactor) -> Self {
        self.reactors.push(reactor);
        self
    }

    /// Adds a view.
    pub fn view<K: Key, R: Row>(mut self, view: View<K, R>) -> Self {
        self.views.push(Box::new(view));
        self
    }

    /// Claims all partitions of an engine and runs on it.
    ///
    /// # Errors
    /// [`StartError`]: a mistake in the application's definition, or an engine that cannot be
    /// claimed.
    pub async fn open_on(
        self,
        engine: Arc<dyn Engine>,
        world: Arc<dyn World>,
        options: NodeOptions,
    ) -> Result<Node, StartError> {
        let registry = self.registry()?;
        Node::start(self, registry, engine, world, options).await
    }

    pub(crate) fn registry(&self) -> Result<Registry, StartError> {
        for (index, kind) in self.kinds.iter().enumerate() {
            if kind.name.is_empty() || kind.name.contains('-') {
                return Err(StartError::BadEntityName(kind.name.to_string()));
            }
            for other in &self.kinds[..index] {
                if other.name == kind.name {
                    return Err(StartError::TwoEntities(kind.name.to_string()));
                }
                if kind.events.is_some() && kind.events == other.events {
                    let (first, second) = (other.name.to_string(), kind.name.to_string());
                    return Err(StartError::SharedEvents { first, second });
                }
            }
            for (place, schema) in kind.schemas.iter().enumerate() {
                if kind.schemas[..place]
                    .iter()
                    .any(|other| other.name == schema.name)
                {
                    let (entity, event) = (kind.name.to_string(), schema.name);
                    return Err(StartError::TwoEvents { entity, event });
                }
            }
        }
        let names = self.views.iter().map(|view| view.name());
        let names: Vec<&str> = names.chain(self.reactors.iter().map(|r| r.name)).collect();
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                return Err(StartError::TwoHandlers((*name).to_owned()));
            }
        }
        let owned = |event: TypeId| self.kinds.iter().any(|kind| kind.events == Some(event));
        let of_views = self.views.iter().map(|view| (view.name(), view.events()));
        let of_reactors = self.reactors.iter().map(|reactor| {
            let events = reactor
                .subscriptions
                .iter()
                .map(|sub| (sub.event, sub.event_name));
            (reactor.name, events.collect())
        });
        for (handler, events) in of_views.chain(of_reactors) {
            if events.is_empty() {
                return Err(StartError::NoSubscription(handler.to_owned()));
            }
            for (event, name) in events {
                if !owned(event) {
                    let handler = handler.to_owned();
                    return Err(StartError::UnownedEvent {
                        handler,
                        event: name,
                    });
                }
            }
        }
        Ok(Registry::new(self.kinds.iter().cloned()))
    }
}

/// An application that cannot run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An entity name that cannot be part of a stream name.
    #[error(
        "entity name {0:?}: a name is not empty and holds no '-'; change `#[entity(name = ...)]`"
    )]
    BadEntityName(String),
    /// Two entities of one name.
    #[error("two entities are named {0:?}: rename one, or remove the second `.entity::<...>()`")]
    TwoEntities(String),
    /// Two entities of one event type.
    #[error("entities {first:?} and {second:?} have the same event type: give each its own enum")]
    SharedEvents {
        /// One entity.
        first: String,
        /// The other.
        second: String,
    },
    /// Two event types of one name in one entity.
    #[error(
        "entity {entity:?} has two event types named {event:?}: rename one with `#[event(name = ...)]`"
    )]
    TwoEvents {
        /// The entity.
        entity: String,
        /// The name.
        event: &'static str,
    },
    /// Two handlers of one name.
    #[error("two handlers are named {0:?}: their progress would be mixed up; rename one")]
    TwoHandlers(String),
    /// A handler that listens to nothing.
    #[error("handler {0:?} listens to no events: add `.on(...)`")]
    NoSubscription(String),
    /// A handler of events that nobody emits.
    #[error(
        "handler {handler:?} listens to {event}, but no entity of the application has these events: add `.entity::<...>()`"
    )]
    UnownedEvent {
        /// The handler.
        handler: String,
        /// The Rust type of the events.
        event: &'static str,
    },
    /// An event's fields differ from what this version had before.
    #[error("event {event:?} of {entity:?} has changed without a new schema version: version {version} was {noted:?}, now it is {now:?}; set `#[event(version = {})]`", version + 1)]
    SchemaChanged {
        /// The entity.
        entity: String,
        /// The event type.
        event: &'static str,
        /// The version that both claim to be.
        version: u32,
        /// The fields as first run.
        noted: String,
        /// The fields in this build.
        now: &'static str,
    },
    /// A partition could not be claimed.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The engine did not answer.
    #[error("the engine did not answer: {0}")]
    Unavailable(String),
}
