//! Mistakes of a newcomer are errors at the start, with the remedy in the text.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test a fault is a panic"
)]

mod bank;

use std::sync::Arc;

use bank::*;
use everfold::engine::World;
use everfold::engine::engine::Engine;
use everfold::engine::memory::Memory;
use everfold::prelude::*;
use everfold::{Node, NodeOptions, Open, StartError};
use everfold_sim::Simulation;

fn start(application: Application) -> Result<Node, StartError> {
    let simulation = Simulation::new(1);
    let world = simulation.world();
    let engine: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 2).unwrap());
    simulation.run(application.open_on(engine, world, NodeOptions::default()))
}

fn refused(application: Application) -> StartError {
    start(application).map(drop).unwrap_err()
}

#[derive(Entity, Default)]
#[entity(name = "account", id = AccountId, event = OtherEvent)]
struct SameName {}

#[derive(Event, Clone, Debug, PartialEq)]
enum OtherEvent {
    Happened { what: String },
}

impl Evolve for SameName {
    fn evolve(&mut self, _: &OtherEvent) {}
}

#[derive(Entity, Default)]
#[entity(name = "other", id = AccountId, event = AccountEvent)]
struct SameEvents {}

impl Evolve for SameEvents {
    fn evolve(&mut self, _: &AccountEvent) {}
}

#[test]
fn two_entities_of_one_name_or_of_one_event_type_are_refused() {
    let one = || Application::new("bank").entity::<Account>();
    assert_eq!(
        refused(one().entity::<SameName>()),
        StartError::TwoEntities("account".into())
    );
    let shared = refused(one().entity::<SameEvents>());
    assert!(
        matches!(shared, StartError::SharedEvents { .. }),
        "{shared}"
    );
}

#[test]
fn handlers_need_a_name_of_their_own_events_and_an_owner_of_these() {
    let bank = || Application::new("bank").entity::<Account>();
    let twice = bank()
        .view(turnover())
        .reactor(Reactor::named("turnover").on(|_: &AccountEvent, _| nothing()));
    assert_eq!(refused(twice), StartError::TwoHandlers("turnover".into()));
    let deaf = refused(bank().reactor(Reactor::named("deaf")));
    assert_eq!(deaf, StartError::NoSubscription("deaf".into()));
    let unowned = refused(Application::new("bank").view(turnover()));
    assert!(unowned.to_string().contains(".entity::<"), "{unowned}");
}

mod earlier {
    use super::*;

    #[derive(Event, Clone, Debug, PartialEq)]
    pub enum ThingEvent {
        Made { size: u32 },
    }

    #[derive(Entity, Default)]
    #[entity(name = "thing", id = AccountId, event = ThingEvent)]
    pub struct Thing {
        pub size: u32,
    }

    impl Evolve for Thing {
        fn evolve(&mut self, event: &ThingEvent) {
            let ThingEvent::Made { size } = event;
            self.size += size;
        }
    }

    #[derive(Command)]
    pub struct Make {
        pub size: u32,
    }

    impl Decide<Make> for Thing {
        type Reply = ();
        type Rejection = Never;

        fn decide(&self, command: &Make, _: &Context) -> Decision<Self, Make> {
            emit(ThingEvent::Made { size: command.size }).reply(())
        }
    }
}

/// The same events, but the state has learned to count.
mod later {
    use super::*;

    #[derive(Event, Clone, Debug, PartialEq)]
    pub enum ThingEvent {
        Made { size: u32 },
    }

    #[derive(Entity, Default)]
    #[entity(name = "thing", id = AccountId, event = ThingEvent)]
    pub struct Thing {
        pub size: u32,
        #[serde(default)]
        pub count: u64,
    }

    impl Evolve for Thing {
        fn evolve(&mut self, event: &ThingEvent) {
            let ThingEvent::Made { size } = event;
            self.size += size;
            self.count += 1;
        }
    }
}

mod changed {
    use super::*;

    #[derive(Event, Clone, Debug, PartialEq)]
    pub enum ThingEvent {
        Made { size: u32, colour: String },
    }

    #[derive(Entity, Default)]
    #[entity(name = "thing", id = AccountId, event = ThingEvent)]
    pub struct Thing {}

    impl Evolve for Thing {
        fn evolve(&mut self, _: &ThingEvent) {}
    }
}

#[test]
fn an_event_that_changed_without_a_new_version_is_refused_with_both_shapes() {
    let simulation = Simulation::new(1);
    let world = simulation.world();
    let engine: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 2).unwrap());
    let open = |application: Application| {
        simulation.run(application.open_on(engine.clone(), world.clone(), NodeOptions::default()))
    };
    let node = open(Application::new("things").entity::<earlier::Thing>()).unwrap();
    simulation.run(node.close());
    let error = open(Application::new("things").entity::<changed::Thing>()).unwrap_err();
    assert!(matches!(
        error,
        StartError::SchemaChanged { version: 1, .. }
    ));
    let text = error.to_string();
    assert!(
        text.contains("colour") && text.contains("version = 2"),
        "{text}"
    );
}

/// Attacks: start-up bounded by history, and a snapshot of another shape taken for the state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_histories_are_read_from_a_snapshot_unless_the_state_has_another_shape() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let path = path.to_str().unwrap();
    let node = Application::new("things")
        .entity::<earlier::Thing>()
        .open(path)
        .await
        .unwrap();
    for _ in 0..600 {
        node.entity::<earlier::Thing>("t")
            .send(earlier::Make { size: 2 })
            .await
            .unwrap();
    }
    node.close().await;
    let layout = node.engine().identity().layout;
    drop(node);

    let node = Application::new("things")
        .entity::<earlier::Thing>()
        .open(path)
        .await
        .unwrap();
    let area = everfold::engine::engine::Area {
        name: "entities".into(),
        partition: layout.partition("t"),
    };
    let snapshots = node.engine().scan(&area, None, 10).await.unwrap();
    assert_eq!(snapshots.len(), 1, "no snapshot was stored");
    let read = node
        .entity::<earlier::Thing>("t")
        .read(|thing, version| (thing.size, version));
    assert_eq!(read.await, Ok((1200, 600)));
    node.close().await;
    drop(node);

    let node = Application::new("things")
        .entity::<later::Thing>()
        .open(path)
        .await
        .unwrap();
    let read = node
        .entity::<later::Thing>("t")
        .read(|thing, version| (thing.count, version));
    assert_eq!(
        read.await,
        Ok((600, 600)),
        "the old snapshot knows no count"
    );
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_without_an_engine_is_refused_with_the_remedy() {
    let error = bank().open("oracle://ann:secret@somewhere").await;
    let error = error.map(drop).unwrap_err();
    assert!(error.to_string().contains("give a directory"), "{error}");
    assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    let error = bank().open("postgres://ann:secret@localhost:1/db").await;
    let error = error.map(drop).unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    let world: Arc<dyn World> = everfold::engine::world::System::current();
    assert!(everfold::engine_at("memory:", world).await.is_ok());
}
