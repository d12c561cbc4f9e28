//! The entity types of an application, with their types erased.

use std::any::{Any, TypeId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use everfold_engine::map::{Map, seeded};
use everfold_engine::record::Portable;
use everfold_engine::{EntityKey, Text};
use xxhash_rust::xxh3::xxh3_64;

use crate::boundary::BoundaryIndex;
use crate::entity::{Entity, Evolve};
use crate::event::{DecodeError, Event, EventSchema};
use crate::remote::{Accept, AcceptTogether, Accepting};
use crate::saga::{self, Instance, SagaEvent};

/// The state of an entity of any type.
pub(crate) type AnyState = dyn Any + Send;

type DecodeState = fn(&[u8]) -> Result<Box<AnyState>, serde_json::Error>;

/// What the owner needs to know of a type of entity.
#[derive(Clone)]
pub(crate) struct EntityType {
    pub(crate) name: Text,
    /// The type of its events; none for streams without code.
    pub(crate) events: Option<TypeId>,
    pub(crate) schemas: &'static [EventSchema],
    /// Changes with the shape of the state or its events: older snapshots are discarded.
    pub(crate) shape: u64,
    pub(crate) make: fn() -> Box<AnyState>,
    /// Whether an event can be read.
    pub(crate) check: fn(&Portable) -> Result<(), DecodeError>,
    pub(crate) evolve: fn(&mut AnyState, &Portable) -> Result<(), DecodeError>,
    pub(crate) encode_state: fn(&AnyState, &mut Vec<u8>) -> Result<(), serde_json::Error>,
    pub(crate) decode_state: Option<DecodeState>,
    pub(crate) growth: Growth,
    /// Comes back into memory before it is asked for.
    pub(crate) remembered: bool,
    /// Commands that other nodes may send.
    pub(crate) accepts: Vec<(Text, Accept)>,
}

/// How many bytes a state grows by per 1,000 bytes of events; learned as states are written down,
/// so that memory can be counted in between.
#[derive(Clone, Debug)]
pub(crate) struct Growth(Arc<AtomicU32>);

impl Default for Growth {
    /// All of an event's bytes, until something is known.
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(1000)))
    }
}

impl Growth {
    /// How much events of so many bytes are thought to have added.
    pub(crate) fn of(&self, events: u64) -> u64 {
        events * u64::from(self.0.load(Ordering::Relaxed)) / 1000
    }

    /// Events of so many bytes have added so much.
    pub(crate) fn learn(&self, events: u64, added: u64) {
        if let Some(seen) = added.saturating_mul(1000).checked_div(events) {
            let known = u64::from(self.0.load(Ordering::Relaxed));
            // Owners of other partitions learn here too; a lost lesson does no harm.
            let next = (known * 7 + seen.min(8000)) / 8;
            self.0.store(next as u32, Ordering::Relaxed);
        }
    }
}

impl EntityType {
    /// A type with code.
    pub(crate) fn of<E: Evolve>() -> Self {
        Self {
            name: Text::from_static(E::NAME),
            events: Some(TypeId::of::<E::Event>()),
            schemas: E::Event::SCHEMAS,
            shape: shape_of::<E>(),
            make: || Box::new(E::default()),
            check: |portable| {
                let (name, version) = (&portable.event_type, portable.schema_version);
                E::Event::decode(name, version, &portable.payload).map(drop)
            },
            evolve: |state, portable| {
                let (name, version) = (&portable.event_type, portable.schema_version);
                let event = E::Event::decode(name, version, &portable.payload)?;
                if let Some(state) = state.downcast_mut::<E>() {
                    state.evolve(&event);
                }
                Ok(())
            },
            encode_state: |state, out| match state.downcast_ref::<E>() {
                Some(state) => state.encode_state(out),
                None => Ok(()),
            },
            decode_state: Some(|bytes| Ok(Box::new(E::decode_state(bytes)?))),
            growth: Growth::default(),
            remembered: E::REMEMBERED,
            accepts: {
                let mut accepting = Accepting::nothing();
                E::accepts(&mut accepting);
                accepting.known
            },
        }
    }

    /// Whether a stored event is likely to be of a later build.
    pub(crate) fn is_newer(&self, portable: &Portable) -> bool {
        let (name, version) = (&portable.event_type, portable.schema_version);
        let knows = |schema: &EventSchema| schema.name == &name[..] && version <= schema.version;
        // Reading it is the last resort: an event of another name may have been renamed.
        !self.schemas.is_empty()
            && !self.schemas.iter().any(knows)
            && (self.check)(portable).is_err_and(|error| error.is_newer())
    }

    /// A declared consistency scope.
    pub(crate) fn boundary(name: &'static str) -> Self {
        Self {
            name: Text::from_static(name),
            make: || Box::new(BoundaryIndex::default()),
            evolve: |state, portable| {
                if let Some(index) = state.downcast_mut::<BoundaryIndex>() {
                    index.add(&portable.event_type, &portable.labels);
                }
                Ok(())
            },
            decode_state: None,
            ..Self::untyped()
        }
    }

    /// The instances of a saga.
    pub(crate) fn saga(name: &'static str) -> Self {
        fn decode(portable: &Portable) -> Result<SagaEvent, DecodeError> {
            let (name, version) = (&portable.event_type, portable.schema_version);
            SagaEvent::decode(name, version, &portable.payload)
        }
        Self {
            name: Text::from_static(name),
            events: Some(TypeId::of::<SagaEvent>()),
            schemas: SagaEvent::SCHEMAS,
            shape: xxh3_64(saga::SHAPE.as_bytes()),
            make: || Box::new(Instance::default()),
            check: |portable| decode(portable).map(drop),
            evolve: |state, portable| {
                let event = decode(portable)?;
                if let Some(state) = state.downcast_mut::<Instance>() {
                    state.evolve(&event);
                }
                Ok(())
            },
            encode_state: |state, out| match state.downcast_ref::<Instance>() {
                Some(state) => serde_json::to_writer(out, state),
                None => Ok(()),
            },
            decode_state: Some(|bytes| {
                let state: Instance = serde_json::from_slice(bytes)?;
                Ok(Box::new(state))
            }),
            growth: Growth::default(),
            remembered: false,
            accepts: Vec::new(),
        }
    }

    /// Streams without code: only their version is known.
    pub(crate) fn untyped() -> Self {
        Self {
            name: Text::new(),
            events: None,
            schemas: &[],
            shape: 0,
            make: || Box::new(()),
            check: |_| Ok(()),
            evolve: |_, _| Ok(()),
            encode_state: |_, out| {
                out.extend_from_slice(b"null");
                Ok(())
            },
            // A long stream comes back by its version alone.
            decode_state: Some(|_| Ok(Box::new(()))),
            growth: Growth::default(),
            remembered: false,
            accepts: Vec::new(),
        }
    }
}

fn shape_of<E: Entity>() -> u64 {
    let mut shape = E::SHAPE.to_owned();
    for schema in E::Event::SCHEMAS {
        shape.push_str(&format!(
            "|{}/{}:{}",
            schema.name, schema.version, schema.shape
        ));
    }
    xxh3_64(shape.as_bytes())
}

/// All entity types of an application by name.
pub(crate) struct Registry {
    types: Map<Text, Arc<EntityType>>,
    untyped: Arc<EntityType>,
    /// Commands over several entities that other nodes may send.
    pub(crate) together: Vec<(Text, AcceptTogether)>,
}

impl Registry {
    pub(crate) fn new(
        types: impl IntoIterator<Item = EntityType>,
        together: Vec<(Text, AcceptTogether)>,
    ) -> Self {
        let mut by_name = seeded(0);
        for kind in types {
            by_name.insert(kind.name.clone(), Arc::new(kind));
        }
        Self {
            types: by_name,
            untyped: Arc::new(EntityType::untyped()),
            together,
        }
    }

    /// The type of an entity; streams of unknown types are kept without code.
    pub(crate) fn of(&self, key: &EntityKey) -> Arc<EntityType> {
        self.types.get(&key.kind).unwrap_or(&self.untyped).clone()
    }

    /// Whether entities of any type are to be remembered.
    pub(crate) fn remembers(&self) -> bool {
        self.types.values().any(|kind| kind.remembered)
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Arc<EntityType>> {
        self.types.get(name)
    }

    /// The entity types that have events of a Rust type: one, but for sagas.
    pub(crate) fn owners_of(&self, event: TypeId) -> Vec<Text> {
        let has = |kind: &&Arc<EntityType>| kind.events == Some(event);
        let owners = self.types.values().filter(has);
        owners.map(|kind| kind.name.clone()).collect()
    }

    pub(crate) fn all(&self) -> Vec<&Arc<EntityType>> {
        let mut all: Vec<_> = self.types.values().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}
