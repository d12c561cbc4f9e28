//! Nodes of two builds in one process, and clients that count.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfold::cluster::{CallError, Client, Clustered, Kind, PeerName, Road, Settings};
use everfold::engine::engine::{BoxFuture, Engine};
use everfold::engine::{Bytes, World};
use everfold::{Node, NodeOptions};
use everfold_postgres::{Options, Postgres};
use tokio::sync::oneshot;

use super::{Row, new, old};

pub const NAMES: [&str; 3] = ["a", "b", "c"];
const COUNTERS: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Build {
    Old,
    New,
}

type Asked = Mutex<BTreeMap<String, (Arc<Node>, Build)>>;
type Members = Mutex<BTreeMap<String, (Arc<Clustered>, Build)>>;

/// The way of one end to the others.
struct Way {
    members: Arc<Members>,
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
        let from = PeerName {
            kind: self.kind,
            name: "somebody".into(),
            cluster: "house".into(),
        };
        let (members, world, address) =
            (self.members.clone(), self.world.clone(), address.to_owned());
        Box::pin(async move {
            world.sleep(Duration::from_micros(100)).await;
            let answered = {
                let members = members.lock().unwrap();
                members
                    .get(&address)
                    .map(|(member, _)| member.answer(&from, message))
            };
            let address = address.into();
            let Some(answered) = answered else {
                let reason = "nobody is there".into();
                return Err(CallError::Unreachable { address, reason });
            };
            tokio::select! { biased;
                answer = answered => Ok(answer),
                () = world.sleep(patience) => Err(CallError::Deadline { address, after: patience, sent: true }),
            }
        })
    }
}

enum Ground {
    One(Arc<dyn Engine>),
    At(String),
}

pub struct House {
    ground: Ground,
    pub world: Arc<dyn World>,
    members: Arc<Members>,
    /// Those that are asked for something: not those that are about to leave.
    asked: Arc<Asked>,
}

/// Clients that count until they are told to end.
pub struct Load {
    over: Arc<AtomicBool>,
    ended: Vec<oneshot::Receiver<Vec<u64>>>,
}

impl Load {
    /// How often each counter was counted.
    pub async fn end(self) -> Vec<u64> {
        self.over.store(true, Ordering::Relaxed);
        let mut all = vec![0; COUNTERS];
        for ended in self.ended {
            let sent = ended.await.unwrap();
            all.iter_mut()
                .zip(sent)
                .for_each(|(all, sent)| *all += sent);
        }
        all
    }
}

fn name(number: usize) -> String {
    format!("counter {number}")
}

/// Counts once at a node.
async fn count_at(node: &Node, build: Build, number: usize) {
    match build {
        Build::Old => {
            let counter = node.entity::<old::Counter>(name(number));
            counter.send(old::Count { by: 1 }).await.unwrap();
        }
        Build::New => {
            let counter = node.entity::<new::Counter>(name(number));
            counter.send(new::Count { by: 1 }).await.unwrap();
        }
    }
}

impl House {
    pub fn over_one(engine: Arc<dyn Engine>, world: Arc<dyn World>) -> Self {
        Self::on(Ground::One(engine), world)
    }

    pub fn at(address: String, world: Arc<dyn World>) -> Self {
        Self::on(Ground::At(address), world)
    }

    fn on(ground: Ground, world: Arc<dyn World>) -> Self {
        Self {
            ground,
            world,
            members: Arc::default(),
            asked: Arc::default(),
        }
    }

    fn way(&self, kind: Kind) -> Arc<Way> {
        Arc::new(Way {
            members: self.members.clone(),
            kind,
            world: self.world.clone(),
        })
    }

    pub async fn join(&mut self, name: &str, build: Build) {
        let engine = match &self.ground {
            Ground::One(engine) => engine.clone(),
            Ground::At(address) => {
                let opened = Postgres::open(address, self.world.clone(), Options::default());
                opened.await.unwrap()
            }
        };
        let mut settings = Settings::new(name, "house", ([127, 0, 0, 1], 0).into());
        settings.address = name.into();
        let application = match build {
            Build::Old => old::counters(),
            Build::New => new::counters(),
        };
        let ground = (engine, self.world.clone());
        let way = self.way(Kind::Node);
        let joined = Clustered::join_by(application, ground, NodeOptions::default(), settings, way);
        let joined = Arc::new(joined.await.unwrap());
        let node = joined.node().clone();
        let mut members = self.members.lock().unwrap();
        members.insert(name.to_owned(), (joined, build));
        self.asked
            .lock()
            .unwrap()
            .insert(name.to_owned(), (node, build));
    }

    fn nodes(&self) -> Vec<(Arc<Node>, Build)> {
        self.asked.lock().unwrap().values().cloned().collect()
    }

    /// A node drains and leaves.
    pub async fn leave(&mut self, name: &str) {
        self.asked.lock().unwrap().remove(name);
        let member = self.members.lock().unwrap()[name].0.clone();
        assert!(
            member.drain(Duration::from_secs(30)).await,
            "{name} was not drained"
        );
        drop(member);
        self.end(name).await;
    }

    /// A node leaves without draining.
    pub async fn end(&mut self, name: &str) {
        self.asked.lock().unwrap().remove(name);
        let (member, _) = self.members.lock().unwrap().remove(name).unwrap();
        Arc::into_inner(member).unwrap().close().await;
    }

    /// Waits until each partition is owned by one of the living.
    pub async fn until_owned(&self) {
        self.until_shared(1).await;
    }

    /// The same, and so many nodes own some.
    pub async fn until_shared(&self, least: usize) {
        for _ in 0..4000 {
            let nodes = self.nodes();
            let layout = nodes[0].0.engine().identity().layout;
            let owned = |partition| {
                nodes
                    .iter()
                    .filter(|(node, _)| node.owns(partition))
                    .count()
            };
            let all = layout.all().all(|partition| owned(partition) == 1);
            let owns = |node: &Node| layout.all().any(|partition| node.owns(partition));
            if all && nodes.iter().filter(|(node, _)| owns(node)).count() >= least {
                return;
            }
            self.world.sleep(Duration::from_millis(10)).await;
        }
        panic!("some partitions are nobody's");
    }

    /// Counts each counter so often.
    pub async fn count_each(&self, times: u64) -> Vec<u64> {
        let (node, build) = self.nodes()[0].clone();
        for number in 0..COUNTERS {
            for _ in 0..times {
                count_at(&node, build, number).await;
            }
        }
        vec![times; COUNTERS]
    }

    /// Clients of the old build that ask owners, and others that ask any node there is. A command that
    /// fails ends the test.
    pub async fn load(&self) -> Load {
        let over = Arc::new(AtomicBool::new(false));
        let mut ended = Vec::new();
        let nodes: Vec<String> = self.members.lock().unwrap().keys().cloned().collect();
        for half in 0..2 {
            let (way, world) = (self.way(Kind::Client), self.world.clone());
            let client = Client::connect(old::counters(), &nodes, way, world.clone()).await;
            let (client, over) = (client.unwrap(), over.clone());
            let (end, over_with) = oneshot::channel();
            ended.push(over_with);
            let asked = self.asked.clone();
            let counting = async move {
                let mut sent = vec![0; COUNTERS];
                let mut turn = half;
                while !over.load(Ordering::Relaxed) {
                    turn += 2;
                    let number = turn % COUNTERS;
                    let counter = client.entity::<old::Counter>(name(number));
                    counter.send(old::Count { by: 1 }).await.unwrap();
                    let (node, build) = {
                        let asked = asked.lock().unwrap();
                        asked.values().nth(turn % asked.len()).unwrap().clone()
                    };
                    count_at(&node, build, number).await;
                    drop(node);
                    sent[number] += 2;
                    world.sleep(Duration::from_millis(2)).await;
                }
                let _ = end.send(sent);
            };
            self.world.spawn("count", Box::pin(counting));
        }
        Load { over, ended }
    }

    pub fn nothing_is_parked(&self) {
        for (node, _) in self.nodes() {
            assert_eq!(node.parked(), []);
        }
    }

    /// How many stored events the old build cannot read.
    pub async fn newer_events(&self) -> usize {
        let (node, _) = self.nodes()[0].clone();
        let mut newer = 0;
        for number in 0..COUNTERS {
            let stream = node.stream(&format!("counter-{}", name(number)));
            let records = stream.read(0, 100_000).await.unwrap();
            let is_newer = |it: &&Arc<everfold::engine::Record>| it.portable.schema_version == 2;
            newer += records.iter().filter(is_newer).count();
        }
        newer
    }

    /// Every node, of whichever build, tells the newest state of every counter.
    pub async fn read_everywhere(&self) {
        for (node, build) in self.nodes() {
            for number in 0..COUNTERS {
                let total = match build {
                    Build::Old => {
                        let counter = node.entity::<old::Counter>(name(number));
                        counter.read(|counter, _| counter.total).await
                    }
                    Build::New => {
                        let counter = node.entity::<new::Counter>(name(number));
                        counter.read(|counter, _| counter.total).await
                    }
                };
                assert!(total.unwrap() > 0);
            }
        }
    }

    /// Everything that was counted is in entities, views and mirrors, once; asked at nodes of the new
    /// build.
    pub async fn check(&self, sent: &[u64]) {
        for (node, build) in self.nodes() {
            assert!(build == Build::New);
            for (number, sent) in sent.iter().enumerate() {
                let mirror = format!("mirror of {}", name(number));
                let mirrored = node.entity::<new::Counter>(mirror.clone());
                let wanted = *sent;
                let all = move |mirror: &new::Counter| {
                    (mirror.mirrored >= wanted).then_some(mirror.mirrored)
                };
                let mirrored = mirrored.until(Duration::from_secs(60), all).await.unwrap();
                assert_eq!(mirrored, *sent, "{mirror}");
                let counter = node.entity::<new::Counter>(name(number));
                assert_eq!(counter.read(|it, _| it.total).await.unwrap(), *sent);
                let here = node.position().await.unwrap();
                let totals = node.view(&new::totals());
                let row = totals
                    .get(&name(number))
                    .after(&here)
                    .await
                    .unwrap()
                    .unwrap();
                let wanted = Row {
                    total: *sent,
                    mirrored: 0,
                };
                assert_eq!(row, wanted);
                let row = totals.get(&mirror).after(&here).await.unwrap().unwrap();
                assert_eq!(row.mirrored, *sent);
            }
        }
        self.nothing_is_parked();
    }

    pub async fn close(mut self) {
        for name in NAMES {
            self.end(name).await;
        }
    }
}
