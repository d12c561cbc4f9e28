//! Nodes that live side by side as a cluster: who is to run, and whoever is missing is started again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use everfold::engine::World;
use everfold::engine::coordination::Role;
use everfold::engine::engine::Engine;
use everfold::{Application, NodeOptions};
use everfold_cluster::{Client, Clustered, Kind, PeerName, Settings};
use everfold_sim::Random;
use tokio::sync::oneshot;

use crate::cluster::{Cluster, Ground, Member};
use crate::history::Violation;
use crate::network::Place;
use crate::road::Way;

const CLUSTER: &str = "world";
/// Whoever runs nodes looks so often whether they are there.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Before a node that did not start is started again.
const START_AGAIN: Duration = Duration::from_millis(700);
/// How long a node may take to hand everything over, and to close.
const HANDED_OVER: Duration = Duration::from_secs(4);
/// How long the nodes may take to come to an agreement once nothing goes wrong.
const AGREED_BY: Duration = Duration::from_secs(60);

/// The nodes that are to run.
#[derive(Default)]
pub(crate) struct Wanted {
    nodes: BTreeMap<String, Node>,
    starting: BTreeSet<String>,
    over: bool,
}

struct Node {
    weight: u32,
    /// So many faults keep it from running.
    held: u32,
}

impl Cluster {
    /// From now on a node runs, whatever becomes of its processes.
    pub(crate) fn want(&self, name: &str, weight: u32) {
        let node = Node { weight, held: 0 };
        self.wanted().nodes.insert(name.to_owned(), node);
    }

    /// Another node of a name that nobody has.
    pub(crate) fn want_another(&self, weight: u32) -> String {
        let name = {
            let wanted = self.wanted();
            let free = |number: &u32| !wanted.nodes.contains_key(&name(*number));
            (1..).find(free).map(name).unwrap_or_default()
        };
        self.want(&name, weight);
        name
    }

    pub(crate) fn want_no_more(&self, name: &str) {
        self.wanted().nodes.remove(name);
    }

    /// Keeps a node from being started, until it is let.
    pub(crate) fn hold(&self, name: &str) {
        if let Some(node) = self.wanted().nodes.get_mut(name) {
            node.held += 1;
        }
    }

    pub(crate) fn let_start(&self, name: &str, weight: Option<u32>) {
        if let Some(node) = self.wanted().nodes.get_mut(name) {
            node.held = node.held.saturating_sub(1);
            node.weight = weight.unwrap_or(node.weight);
        }
    }

    /// Starts whoever is missing, again and again.
    pub(crate) async fn tend(self: Arc<Self>) {
        loop {
            let missing: Vec<(String, u32)> = {
                let running = self.names();
                let mut wanted = self.wanted();
                if wanted.over {
                    return;
                }
                let Wanted {
                    nodes, starting, ..
                } = &mut *wanted;
                let missing = nodes.iter().filter(|(name, node)| {
                    node.held == 0 && !running.contains(*name) && !starting.contains(*name)
                });
                let missing: Vec<_> = missing
                    .map(|(name, it)| (name.clone(), it.weight))
                    .collect();
                starting.extend(missing.iter().map(|(name, _)| name.clone()));
                missing
            };
            for (name, weight) in missing {
                let cluster = self.clone();
                let start = async move {
                    let ground = Ground::Member {
                        name: name.clone(),
                        weight,
                    };
                    match cluster.open(ground).await {
                        Err(_) => cluster.main.sleep(START_AGAIN).await,
                        Ok(_) => cluster.leave_if_unwanted(&name).await,
                    }
                    cluster.wanted().starting.remove(&name);
                };
                self.main.spawn("start a node", Box::pin(start));
            }
            self.main.sleep(LOOK_EVERY).await;
        }
    }

    /// Who was to leave while it joined leaves now.
    async fn leave_if_unwanted(&self, name: &str) {
        let wanted = self.wanted().nodes.contains_key(name);
        if let Some(member) = self.listening(name).filter(|_| !wanted) {
            self.take_leave(&member, false).await;
        }
    }

    /// Nobody is started again.
    pub(crate) fn tend_no_more(&self) {
        self.wanted().over = true;
    }

    /// Joins in a member's process.
    pub(crate) async fn join(
        self: &Arc<Self>,
        (member, weight): (&Member, u32),
        ground: (Arc<dyn Engine>, Arc<dyn World>),
        application: Application,
        options: NodeOptions,
    ) -> Result<Arc<Clustered>, String> {
        let shape = &self.shape;
        let mut settings = Settings::new(&*member.name, CLUSTER, ([127, 0, 0, 1], 0).into());
        settings.address = member.name.as_str().into();
        settings.weight = weight;
        settings.lease = shape.lease;
        settings.beat = shape.beat;
        settings.patience = shape.patience;
        settings.placement = shape.placement;
        let road = Way {
            here: Place::Node(member.number),
            name: peer(Kind::Node, &member.name),
            world: ground.1.clone(),
            cluster: Arc::downgrade(self),
        };
        let world = ground.1.clone();
        let (tell, told) = oneshot::channel();
        let join = async move {
            let road = Arc::new(road);
            let joined = Clustered::join_by(application, ground, options, settings, road).await;
            drop(tell.send(joined));
        };
        world.spawn("join", Box::pin(join));
        match told.await {
            Ok(Ok(clustered)) => Ok(Arc::new(clustered)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the node died".into()),
        }
    }

    /// Entities of the cluster, as somebody outside of it asks them. `None` if no node answers.
    pub(crate) async fn outside(
        self: &Arc<Self>,
        number: u32,
        world: &Arc<dyn World>,
        through: Option<String>,
    ) -> Option<Client> {
        let road = Arc::new(Way {
            here: Place::Client(number),
            name: peer(Kind::Client, &format!("client-{number}")),
            world: world.clone(),
            cluster: Arc::downgrade(self),
        });
        let application = self.application();
        let opened = match through {
            Some(node) => Client::through(application, &node, road, world.clone()).await,
            None => Client::connect(application, &self.names(), road, world.clone()).await,
        };
        opened.ok()
    }

    /// Has a node hand over what it owns, or not, and leave.
    pub(crate) async fn take_leave(&self, member: &Member, hands_over: bool) {
        let world = member.process.world();
        if hands_over && let Some(clustered) = self.clustered(member.number) {
            let (tell, told) = oneshot::channel();
            let drain = async move {
                let drained = clustered.drain(HANDED_OVER).await;
                drop(clustered);
                let _ = tell.send(drained);
            };
            world.spawn("drain", Box::pin(drain));
            let mut over = self.main.sleep(HANDED_OVER);
            tokio::select! { biased;
                drained = told => {
                    if drained == Ok(true) {
                        self.counts.count("node drained");
                    }
                }
                () = &mut over => {}
            }
        }
        if let Some(clustered) = self.take(member.number).and_then(Arc::into_inner) {
            let (tell, told) = oneshot::channel();
            let close = async move {
                clustered.close().await;
                let _ = tell.send(());
            };
            world.spawn("close", Box::pin(close));
            let mut over = self.main.sleep(HANDED_OVER);
            tokio::select! { biased;
                closed = told => {
                    if closed.is_ok() {
                        self.counts.count("node left in order");
                    }
                }
                () = &mut over => {}
            }
        }
        member.process.kill();
    }

    /// Waits until all nodes that are to run do, and own what the plan says.
    pub(crate) async fn agreed(&self) -> Result<(), Violation> {
        let by = self.main.elapsed() + AGREED_BY;
        let mut disagreement = String::new();
        while self.main.elapsed() < by {
            match self.disagreement() {
                None => return Ok(()),
                Some(found) => disagreement = found,
            }
            self.main.sleep(Duration::from_millis(100)).await;
        }
        let what = format!("the nodes never agree though nothing goes wrong: {disagreement}");
        Err(Violation::new("progress", what))
    }

    fn disagreement(&self) -> Option<String> {
        let members = self.all_clustered();
        let wanted = self.wanted().nodes.len();
        if members.len() != wanted {
            return Some(format!("{} of {wanted} nodes run", members.len()));
        }
        let numbers: BTreeSet<u64> = members.iter().map(|it| it.roster().plan.number).collect();
        if numbers.len() != 1 {
            return Some(format!("they go by the plans {numbers:?}"));
        }
        for member in &members {
            let roster = member.roster();
            for (partition, place) in self.layout().all().zip(&roster.plan.places) {
                let planned = place.owner == Some(member.id());
                let held = member.node().held();
                let mut held = held.iter().filter(|it| it.partition == partition);
                let owns = held.any(|it| it.role == Role::Owner);
                if planned != owns {
                    let node = member.id();
                    return Some(format!(
                        "partition {partition}: planned for {node} {planned}, owned {owns}"
                    ));
                }
            }
            if roster.plan.places.iter().any(|place| place.owner.is_none()) {
                return Some("a partition has no owner".to_owned());
            }
        }
        None
    }
}

/// A node's name by number.
pub(crate) fn name(number: u32) -> String {
    format!("node-{number}")
}

fn peer(kind: Kind, name: &str) -> PeerName {
    PeerName {
        kind,
        name: name.into(),
        cluster: CLUSTER.into(),
    }
}

/// Somebody of a cluster at random.
pub(crate) fn anybody(names: &[String], random: &mut Random) -> Option<String> {
    match names.is_empty() {
        true => None,
        false => Some(random.pick(names).clone()),
    }
}
