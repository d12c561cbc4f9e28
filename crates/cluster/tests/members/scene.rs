//! Nodes of a simulated world that share an engine in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfold::cluster::{CallError, Client, Clustered, Kind, PeerName, Road, Settings};
use everfold::engine::coordination::Role;
use everfold::engine::engine::{BoxFuture, Engine};
use everfold::engine::memory::Memory;
use everfold::engine::{Bytes, World};
use everfold::prelude::*;
use everfold::{Application, NodeOptions};
use serde::{Deserialize, Serialize};

use everfold_sim::{Process, Simulation};

#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CounterId(String);

#[derive(Event, Clone, Debug, PartialEq)]
pub enum CounterEvent {
    Counted { by: u64 },
}

#[derive(Entity, Default, Clone, Debug, PartialEq)]
#[entity(name = "counter", id = CounterId, event = CounterEvent, commands(Count))]
pub struct Counter {
    pub total: u64,
}

impl Evolve for Counter {
    fn evolve(&mut self, event: &CounterEvent) {
        let CounterEvent::Counted { by } = event;
        self.total += by;
    }
}

#[derive(Command, Clone, Debug)]
pub struct Count {
    pub by: u64,
}

impl Decide<Count> for Counter {
    type Reply = u64;
    type Rejection = Never;

    fn decide(&self, command: &Count, _: &Context) -> Decision<Self, Count> {
        emit(CounterEvent::Counted { by: command.by }).reply(self.total + command.by)
    }
}

pub fn counters() -> Application {
    Application::new("counters")
        .entity::<Counter>()
        .view(totals())
}

#[derive(Default, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Total {
    pub total: u64,
}

pub fn totals() -> View<String, Total> {
    View::named("totals").on(
        |_: &CounterEvent, at| at.entity_id::<String>(),
        |row: &mut Total, CounterEvent::Counted { by }, _| row.total += by,
    )
}

#[derive(Default)]
struct Network {
    members: Mutex<BTreeMap<String, Arc<Clustered>>>,
    down: Mutex<BTreeSet<String>>,
}

/// One end's way into the network.
struct Way {
    network: Arc<Network>,
    name: String,
    kind: Kind,
    world: Arc<dyn World>,
}

impl Road for Way {
    fn call(
        &self,
        address: &str,
        message: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let (network, world) = (self.network.clone(), self.world.clone());
        let (address, me) = (address.to_owned(), self.name.clone());
        let from = PeerName {
            kind: self.kind,
            name: me.clone().into(),
            cluster: "scene".into(),
        };
        Box::pin(async move {
            world.sleep(Duration::from_micros(100)).await;
            let cut = |name: &str| network.down.lock().unwrap().contains(name);
            let member = network.members.lock().unwrap().get(&address).cloned();
            let member = member.filter(|_| !cut(&address) && !cut(&me));
            let Some(member) = member else {
                return Err(CallError::Unreachable {
                    address: address.into(),
                    reason: "the scene says so".into(),
                });
            };
            let answered = member.answer(&from, message);
            tokio::select! { biased;
                answer = answered => Ok(answer),
                () = world.sleep(patience) => Err(CallError::Deadline { address: address.into(), after: patience, sent: true }),
            }
        })
    }
}

pub struct Scene {
    network: Arc<Network>,
    pub engine: Arc<dyn Engine>,
    pub world: Arc<dyn World>,
    processes: BTreeMap<String, Process>,
}

impl Scene {
    pub fn settings(name: &str) -> Settings {
        let mut settings = Settings::new(name, "scene", ([127, 0, 0, 1], 0).into());
        settings.address = name.into();
        settings
    }

    /// Starts a node in a process of its own.
    pub async fn join(
        &mut self,
        settings: Settings,
    ) -> Result<(), everfold::cluster::ClusterError> {
        let name = settings.name.to_string();
        let world = self.processes[&name].world();
        let road = Way {
            network: self.network.clone(),
            name: name.clone(),
            kind: Kind::Node,
            world: world.clone(),
        };
        let ground = (self.engine.clone(), world);
        let options = NodeOptions::default();
        let joined = Clustered::join_by(counters(), ground, options, settings, Arc::new(road));
        let joined = Arc::new(joined.await?);
        self.network.members.lock().unwrap().insert(name, joined);
        Ok(())
    }

    pub fn member(&self, name: &str) -> Arc<Clustered> {
        self.network.members.lock().unwrap()[name].clone()
    }

    /// A node ends without a word.
    pub fn kill(&self, name: &str) {
        self.processes[name].kill();
        self.cut(name);
    }

    pub fn process(&self, name: &str) -> &Process {
        &self.processes[name]
    }

    /// Nobody reaches a node, and it reaches nobody but the store.
    pub fn cut(&self, name: &str) {
        self.network.down.lock().unwrap().insert(name.to_owned());
    }

    pub async fn client(&self, node: Option<&str>) -> Client {
        let road = Arc::new(Way {
            network: self.network.clone(),
            name: "a client".to_owned(),
            kind: Kind::Client,
            world: self.world.clone(),
        });
        let world = self.world.clone();
        let opened = match node {
            Some(node) => Client::through(counters(), node, road, world).await,
            None => {
                let nodes: Vec<_> = self
                    .network
                    .members
                    .lock()
                    .unwrap()
                    .keys()
                    .cloned()
                    .collect();
                Client::connect(counters(), &nodes, road, world).await
            }
        };
        opened.unwrap()
    }

    /// How many partitions each of these nodes owns.
    pub fn owned(&self, names: &[&str]) -> Vec<usize> {
        let count = |name: &&str| {
            let held = self.member(name).node().held();
            held.iter().filter(|held| held.role == Role::Owner).count()
        };
        names.iter().map(count).collect()
    }

    /// Waits until these nodes own that many partitions.
    pub async fn until_owned(&self, names: &[&str], wanted: &[usize]) {
        let mut tries = 0;
        while self.owned(names) != wanted {
            tries += 1;
            assert!(tries < 4000, "{:?} own {:?}", names, self.owned(names));
            self.world.sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Plays a scene; gives back how often each seldom place was reached.
pub fn scene<F: Future<Output = ()>>(
    partitions: u16,
    play: impl FnOnce(Scene) -> F,
) -> BTreeMap<&'static str, u64> {
    let simulation = Simulation::new(11);
    let world = simulation.world();
    let engine: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), partitions).unwrap());
    let names = ["a", "b", "c", "d"];
    let processes = names.map(|name| (name.to_owned(), simulation.process(name)));
    simulation.run(play(Scene {
        network: Arc::default(),
        engine,
        world,
        processes: processes.into(),
    }));
    simulation.reached()
}
