//! A small domain for the tests of sagas: parts that note what they did. How a part fails is each
//! test's.

use std::sync::Arc;
use std::time::Duration;

use everfold::engine::engine::Engine;
use everfold::engine::memory::Memory;
use everfold::prelude::*;
use everfold::{Node, NodeOptions, SagaData};
use everfold_sim::Simulation;

#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartId(String);

#[derive(Event, Clone, Debug, PartialEq)]
pub(crate) enum PartEvent {
    Acted { what: String },
}

#[derive(Entity, Default)]
#[entity(name = "part", id = PartId, event = PartEvent)]
pub(crate) struct Part {
    pub(crate) done: Vec<String>,
}

impl Evolve for Part {
    fn evolve(&mut self, event: &PartEvent) {
        let PartEvent::Acted { what } = event;
        self.done.push(what.clone());
    }
}

#[derive(Command, Clone, Debug)]
pub(crate) struct Act {
    pub(crate) what: String,
}

/// A simulated world and the log of its parts, which outlives their nodes.
pub(crate) struct Works {
    pub(crate) simulation: Simulation,
    pub(crate) engine: Arc<dyn Engine>,
}

impl Works {
    pub(crate) fn new(seed: u64) -> Self {
        let simulation = Simulation::new(seed);
        let engine = Arc::new(Memory::new(simulation.world(), 3).unwrap());
        Self { simulation, engine }
    }

    pub(crate) fn run<T>(&self, application: Application, code: impl AsyncFnOnce(&Node) -> T) -> T {
        let world = self.simulation.world();
        self.simulation.run(async {
            let opened = application.open_on(self.engine.clone(), world, NodeOptions::default());
            let node = opened.await.unwrap();
            let result = code(&node).await;
            node.close().await;
            result
        })
    }
}

pub(crate) async fn acted(node: &Node, part: &str) -> Vec<String> {
    let part = node.entity::<Part>(part);
    part.read(|part, _| part.done.clone()).await.unwrap()
}

pub(crate) async fn state<T: SagaData>(node: &Node, saga: &Saga<T>, id: &str) -> String {
    let status = node.saga(saga).status(id).await.unwrap();
    status.unwrap().state
}

/// Waits until an instance asks for help.
pub(crate) async fn helpless<T: SagaData>(node: &Node, saga: &Saga<T>, id: &str) {
    while state(node, saga, id).await != "needs_help" {
        node.world().sleep(Duration::from_secs(1)).await;
    }
}
