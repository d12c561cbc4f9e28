//! Several nodes of one application over one engine in one process, and a plan that a test writes.

#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfold::engine::coordination::{NodeId, Place, Plan};
use everfold::engine::engine::{BoxFuture, Engine};
use everfold::engine::memory::Memory;
use everfold::engine::{Bytes, Timestamp, Uuid, World};
use everfold::prelude::*;
use everfold::{Membership, Node, NodeOptions, PeerError, Peers};
use everfold_sim::Simulation;
use tokio::sync::watch;

/// What happens to messages.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Weather {
    #[default]
    Fair,
    /// So many answers are lost on the way back.
    LosesAnswers(u32),
    /// One answer is lost on the way back, and then nothing more is taken.
    LosesAnswerAndCloses,
    Closed,
}

#[derive(Default)]
struct Roads {
    nodes: Mutex<BTreeMap<NodeId, Arc<Node>>>,
    weather: Mutex<Weather>,
    asked: Mutex<u64>,
}

impl Roads {
    fn loses_answer(&self) -> bool {
        let mut weather = self.weather.lock().unwrap();
        match *weather {
            Weather::LosesAnswers(left) if left > 0 => {
                *weather = Weather::LosesAnswers(left - 1);
                true
            }
            Weather::LosesAnswerAndCloses => {
                *weather = Weather::Closed;
                true
            }
            _ => false,
        }
    }
}

struct Peered(Arc<Roads>);

impl Peers for Peered {
    fn ask(
        &self,
        node: NodeId,
        request: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let roads = self.0.clone();
        let node = roads.nodes.lock().unwrap().get(&node).cloned();
        Box::pin(async move {
            let node = node.ok_or_else(|| PeerError::Unreachable("it is gone".into()))?;
            if *roads.weather.lock().unwrap() == Weather::Closed {
                let retry_after = Duration::from_millis(700);
                return Err(PeerError::Overloaded { retry_after });
            }
            *roads.asked.lock().unwrap() += 1;
            let answer = node.answer(&request).await;
            match roads.loses_answer() {
                true => Err(PeerError::Lost("on its way back".into())),
                false => Ok(answer),
            }
        })
    }
}

pub struct Cluster {
    roads: Arc<Roads>,
    plan: watch::Sender<Arc<Plan>>,
    /// What nodes have to take for the plan that have not heard of a newer one.
    old: BTreeMap<NodeId, watch::Sender<Arc<Plan>>>,
    engine: Arc<dyn Engine>,
    pub world: Arc<dyn World>,
    application: fn() -> Application,
    options: NodeOptions,
}

pub fn id(number: u128) -> NodeId {
    NodeId(Uuid::from_u128(number))
}

impl Cluster {
    /// All partitions are the first node's.
    pub async fn of(
        application: fn() -> Application,
        partitions: u16,
        nodes: u128,
        world: Arc<dyn World>,
    ) -> Self {
        let engine = Arc::new(Memory::new(world.clone(), partitions).unwrap());
        Self::over(engine, application, nodes, world, NodeOptions::default()).await
    }

    /// The same over an engine of the test's.
    pub async fn over(
        engine: Arc<dyn Engine>,
        application: fn() -> Application,
        nodes: u128,
        world: Arc<dyn World>,
        options: NodeOptions,
    ) -> Self {
        let partitions = engine.identity().layout.partitions;
        let place = Place {
            owner: Some(id(1)),
            standbys: Vec::new(),
            since: Timestamp(0),
            reason: "as the test says".into(),
        };
        let plan = Plan {
            number: 1,
            places: vec![place; usize::from(partitions)],
        };
        let mut cluster = Self {
            roads: Arc::default(),
            plan: watch::Sender::new(Arc::new(plan)),
            old: BTreeMap::new(),
            engine,
            world,
            application,
            options,
        };
        for number in 1..=nodes {
            cluster.join(number).await;
        }
        cluster
    }

    pub async fn join(&mut self, number: u128) {
        let plan = watch::Sender::new(self.plan.borrow().clone());
        let membership = Membership {
            node: id(number),
            plan: plan.subscribe(),
            peers: Arc::new(Peered(self.roads.clone())),
            patience: Duration::from_secs(10),
            relayed: false,
        };
        let joined = (self.application)().join_on(
            self.engine.clone(),
            self.world.clone(),
            self.options.clone(),
            membership,
        );
        let node = Arc::new(joined.await.unwrap());
        self.roads.nodes.lock().unwrap().insert(id(number), node);
        self.old.insert(id(number), plan);
    }

    pub fn node(&self, number: u128) -> Arc<Node> {
        self.roads.nodes.lock().unwrap()[&id(number)].clone()
    }

    pub fn weather(&self, weather: Weather) {
        *self.roads.weather.lock().unwrap() = weather;
    }

    /// How many requests have reached another node.
    pub fn asked(&self) -> u64 {
        *self.roads.asked.lock().unwrap()
    }

    /// Changes who is to own a partition and who stands by, and tells these nodes.
    pub fn plan(&self, partition: usize, owner: u128, standbys: &[u128], told: &[u128]) {
        let mut plan = (**self.plan.borrow()).clone();
        plan.number += 1;
        plan.places[partition].owner = Some(id(owner));
        plan.places[partition].standbys = standbys.iter().copied().map(id).collect();
        let plan = Arc::new(plan);
        self.plan.send_replace(plan.clone());
        for number in told {
            self.old[&id(*number)].send_replace(plan.clone());
        }
    }

    /// Nobody reaches it any more.
    pub fn cut_off(&self, number: u128) -> Arc<Node> {
        self.roads
            .nodes
            .lock()
            .unwrap()
            .remove(&id(number))
            .unwrap()
    }
}

/// Runs a test in a world of its own; gives back how often each seldom place was reached.
pub fn in_a_world<F: Future<Output = ()>>(
    test: impl FnOnce(Arc<dyn World>) -> F,
) -> BTreeMap<&'static str, u64> {
    let simulation = Simulation::new(7);
    simulation.run(test(simulation.world()));
    simulation.reached()
}
