//! An application: its entities, views and reactors.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::Arc;

use everfold_engine::engine::{Engine, OwnerError};
use everfold_engine::{Text, World};

use crate::entity::Evolve;
use crate::key::Key;
use crate::node::Node;
use crate::options::NodeOptions;
use crate::reactor::Reactor;
use crate::remote::{AcceptTogether, Membership};
use crate::saga::{
    Begins, Definition, Definitions, Saga, SagaData, SagaEvent, dispatcher, live_sagas,
};
use crate::schema::{EntityType, Registry};
use crate::together::DecideTogether;
use crate::view::{Row, View, ViewTask};

/// What an application consists of; opened on an engine it becomes a [`Node`].
#[must_use = "an application runs only when it is opened"]
pub struct Application {
    name: String,
    pub(crate) kinds: Vec<EntityType>,
    pub(crate) views: Vec<Box<dyn ViewTask>>,
    pub(crate) reactors: Vec<Reactor>,
    sagas: Vec<SagaVersion>,
    together: Vec<(Text, AcceptTogether)>,
}

/// All sagas of an application.
pub(crate) type Sagas = BTreeMap<&'static str, Arc<Definitions>>;

/// One version of a saga.
struct SagaVersion {
    definition: Arc<dyn Definition>,
    begins: Vec<Begins>,
}

impl Application {
    /// An application without entities.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kinds: Vec::new(),
            views: Vec::new(),
            reactors: Vec::new(),
            sagas: Vec::new(),
            together: Vec::new(),
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

    /// Lets nodes send each other a command over several entities; needed on many nodes only.
    pub fn together<C: DecideTogether>(mut self) -> Self {
        let accept: AcceptTogether = crate::together::accept::<C>;
        self.together.push((Text::from_static(C::NAME), accept));
        self
    }

    /// Adds a reactor.
    pub fn reactor(mut self, reactor: Reactor) -> Self {
        self.reactors.push(reactor);
        self
    }

    /// Adds a saga, or a further version of one: instances keep to the version that they have begun
    /// with, so earlier ones stay until none of their instances is left. Everything about them is in
    /// the view `sagas`.
    pub fn saga<D: SagaData>(mut self, saga: Saga<D>) -> Self {
        let begins = saga.begins.clone();
        self.sagas.push(SagaVersion {
            definition: Arc::new(saga),
            begins,
        });
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
        mut self,
        engine: Arc<dyn Engine>,
        world: Arc<dyn World>,
        options: NodeOptions,
    ) -> Result<Node, StartError> {
        let sagas = self.define_sagas()?;
        let registry = self.registry()?;
        Node::start(self, registry, sagas, engine, world, options, None).await
    }

    /// Runs as one of many nodes on an engine: owns what the plan of the cluster says, and sends what
    /// belongs to others to them. Returns before anything is owned.
    ///
    /// # Errors
    /// [`StartError`]: a mistake in the application's definition, or an engine that does not answer.
    pub async fn join_on(
        mut self,
        engine: Arc<dyn Engine>,
        world: Arc<dyn World>,
        options: NodeOptions,
        membership: Membership,
    ) -> Result<Node, StartError> {
        let sagas = self.define_sagas()?;
        let registry = self.registry()?;
        let membership = Some(membership);
        Node::start(self, registry, sagas, engine, world, options, membership).await
    }

    /// Turns sagas into what they consist of: entities, handlers, and a view of them all.
    pub(crate) fn define_sagas(&mut self) -> Result<Sagas, StartError> {
        let mut by_name: BTreeMap<&'static str, (Definitions, Vec<Begins>)> = BTreeMap::new();
        for saga in std::mem::take(&mut self.sagas) {
            let (name, version) = (saga.definition.name(), saga.definition.version());
            check_saga(saga.definition.as_ref(), &self.kinds)?;
            let (versions, begins) = by_name.entry(name).or_default();
            if versions.insert(version, saga.definition).is_some() {
                return Err(StartError::TwoSagas(name.to_owned(), version));
            }
            if versions.keys().next_back() == Some(&version) {
                *begins = saga.begins;
            }
        }
        let mut sagas = Sagas::new();
        for (name, (versions, begins)) in by_name {
            let definitions = Arc::new(versions);
            self.kinds.push(EntityType::saga(name));
            self.reactors.push(dispatcher(name, &definitions, begins));
            sagas.insert(name, definitions);
        }
        if !sagas.is_empty() {
            self.views.push(Box::new(live_sagas()));
        }
        Ok(sagas)
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
                let shared = kind.events.is_some() && kind.events == other.events;
                if shared && kind.events != Some(TypeId::of::<SagaEvent>()) {
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
        let names: Vec<&str> = names
            .chain(self.reactors.iter().map(|r| &r.name[..]))
            .collect();
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
            (&reactor.name[..], events.collect())
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
        let kinds = self.kinds.iter().cloned();
        Ok(Registry::new(kinds, self.together.clone()))
    }
}

/// Finds mistakes in a saga before it runs.
fn check_saga(saga: &dyn Definition, kinds: &[EntityType]) -> Result<(), StartError> {
    let groups = saga.groups();
    let steps: Vec<_> = groups.iter().flatten().collect();
    let name = saga.name().to_owned();
    if steps.is_empty() {
        return Err(StartError::NoSteps(name));
    }
    for (index, step) in steps.iter().enumerate() {
        let step_name = step.name.to_owned();
        if steps[..index].iter().any(|other| other.name == step.name) {
            return Err(StartError::TwoSteps(name, step_name));
        }
        for kind in step.kinds.into_iter().flatten() {
            if kinds.iter().all(|known| known.name != kind) {
                return Err(StartError::NobodyAsked {
                    saga: name,
                    step: step_name,
                    entity: kind.to_owned(),
                });
            }
        }
    }
    Ok(())
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
    /// Two sagas of one name and version.
    #[error(
        "two sagas are named {0:?} and have version {1}: rename one, or give it `.version({next})`",
        next = .1 + 1
    )]
    TwoSagas(String, u32),
    /// A saga that does nothing.
    #[error("saga {0:?} has no steps: add `.step(...)`")]
    NoSteps(String),
    /// Two steps of one name in one saga.
    #[error("saga {0:?} has two steps named {1:?}: rename one")]
    TwoSteps(String, String),
    /// A step of a saga asks an entity that the application does not have.
    #[error(
        "step {step:?} of saga {saga:?} asks entities of the type {entity:?}, which the application does not have: add `.entity::<...>()`"
    )]
    NobodyAsked {
        /// The saga.
        saga: String,
        /// The step.
        step: String,
        /// The type of entity.
        entity: String,
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
