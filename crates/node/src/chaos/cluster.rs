//! A cluster of its own: a private server, an authority, and nodes, each a process of this program.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use everfold::engine::coordination::{Role, Roster};
use everfold::engine::engine::Engine;
use everfold::engine::{Coordinator, Layout, Partition, World};
use everfold_cluster::{Authority, Identity, Kind};
use everfold_postgres::server::{self, PrivateServer};
use everfold_postgres::{Options, Postgres};
use tokio::runtime::Handle;

use super::net::{self, Network};
use super::plan::{Cut, Fault};
use super::processes::Process;
use super::relay::Relay;

/// How long a cluster may take until every partition is served.
const STARTING: Duration = Duration::from_secs(60);
/// How long nodes may take to end.
const ENDING: Duration = Duration::from_secs(10);
/// Between two looks at the members.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a look at them may take.
const LOOKING: Duration = Duration::from_secs(1);
/// A node that cannot live has ended so often.
const GIVEN_UP: u32 = 200;
/// The port of every node in a network of its own.
const PORT: u16 = 4700;
const DATABASE: &str = "chaos";
/// The name of the cluster, and of the client that tests it.
const CLUSTER: &str = "chaos";
const CLIENT: &str = "clients";

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Shape {
    /// This program.
    pub program: PathBuf,
    /// Where everything of the run lies; it has to exist.
    pub folder: PathBuf,
    /// How many nodes.
    pub nodes: usize,
    /// Partitions of the log.
    pub partitions: u16,
    /// The name of the application that they serve.
    pub application: &'static str,
    /// Whether each has a network of its own.
    pub namespaces: bool,
    /// Whether the ways to the store can become slow.
    pub relays: bool,
}

/// Everything that runs. Dropped from the top: nodes, server, network.
pub struct Cluster {
    nodes: Vec<Process>,
    addresses: Vec<String>,
    view: View,
    /// For each node, if there are any.
    relays: Vec<Relay>,
    server: PrivateServer,
    network: Option<Network>,
    folder: PathBuf,
    restarts: u32,
}

/// A way to look at the members, also for others than the owner of the cluster.
#[derive(Clone)]
pub struct View {
    engine: Arc<dyn Engine>,
    coordinator: Arc<dyn Coordinator>,
    runtime: Handle,
}

impl Cluster {
    /// Starts all of it, and waits until every partition is served. Blocks.
    ///
    /// # Errors
    /// Something does not start; the end of what it said is part of the message.
    pub fn start(shape: &Shape, runtime: &Handle, world: Arc<dyn World>) -> anyhow::Result<Self> {
        let folder = &shape.folder;
        let identities = folder.join("identity");
        identify(&identities, shape.nodes)?;
        let network = match shape.namespaces {
            true => Some(Network::make(shape.nodes)?),
            false => None,
        };
        let server = serve(&folder.join("postgres"), network.as_ref())?;
        let suffix = format!("?partitions={}", shape.partitions);
        let address = format!("{}{suffix}", server.address(DATABASE));
        let opened = runtime.block_on(Postgres::open(&address, world, Options::default()));
        let engine: Arc<dyn Engine> = opened?;
        let coordinator = engine.coordinator();
        let coordinator =
            coordinator.context("this engine does not know the nodes of a cluster")?;
        let view = View {
            engine,
            coordinator,
            runtime: runtime.clone(),
        };
        let addresses = addresses(shape.nodes, network.as_ref())?;
        let mut cluster = Self {
            nodes: Vec::new(),
            addresses,
            view,
            relays: Vec::new(),
            server,
            network,
            folder: folder.clone(),
            restarts: 0,
        };
        for node in 0..shape.nodes {
            let engine = cluster.way_to_the_store(shape.relays, runtime)?;
            let engine = format!("{engine}{suffix}");
            let command = cluster.command(shape, node, &engine, &identities);
            let words = folder.join(format!("{}.log", name(node)));
            cluster.nodes.push(Process::start(command, words, folder)?);
        }
        cluster.become_whole(STARTING)?;
        Ok(cluster)
    }

    /// Where the next node finds the store.
    fn way_to_the_store(&mut self, relayed: bool, runtime: &Handle) -> anyhow::Result<String> {
        let server = &self.server;
        if !relayed {
            return Ok(server.address_in_network(DATABASE));
        }
        let at = self.network.as_ref().map(Network::engine);
        let at = at.unwrap_or(Ipv4Addr::LOCALHOST);
        let relay = Relay::start(at, server.socket(), runtime);
        let relay = relay.with_context(|| format!("a relay cannot listen at {at}"))?;
        let engine = server.address_through(relay.address(), DATABASE);
        self.relays.push(relay);
        Ok(engine)
    }

    fn command(&self, shape: &Shape, node: usize, engine: &str, identities: &Path) -> Vec<String> {
        let identity = identities.join(name(node));
        let mut command = Vec::new();
        if let Some(network) = &self.network {
            let space = network.namespace(node);
            command.extend(["ip", "netns", "exec", &space].map(str::to_owned));
        }
        let (program, identity) = (shape.program.to_string_lossy(), identity.to_string_lossy());
        let arguments = [
            &*program,
            "serve",
            "--engine",
            engine,
            "--application",
            shape.application,
            "--identity",
            &*identity,
            "--peers",
            &self.addresses[node],
            "--listen",
            "127.0.0.1:0",
        ];
        command.extend(arguments.map(str::to_owned));
        command
    }

    /// Where nodes are reached, `host:port`.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Who the clients are to the nodes.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn client(&self) -> anyhow::Result<Identity> {
        Ok(Identity::from_folder(
            &self.folder.join("identity").join(CLIENT),
        )?)
    }

    /// A way to look at the members.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Waits until all nodes are members and every partition is served. Blocks.
    ///
    /// # Errors
    /// They are not in time.
    pub fn become_whole(&mut self, patience: Duration) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            let missing = match self.view.look() {
                Some(roster) => missing(&roster, self.nodes.len()),
                None => Some("the store does not answer".to_owned()),
            };
            let Some(missing) = missing else {
                return Ok(());
            };
            if begin.elapsed() > patience {
                let words = self.last_words();
                bail!("the cluster is not whole after {patience:?}: {missing}\n{words}");
            }
            if self.supervise()? >= GIVEN_UP {
                bail!(
                    "nodes end by themselves again and again\n{}",
                    self.last_words()
                );
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Starts nodes again that have ended by themselves, as whoever runs them would: one that does not
    /// reach the store when it starts gives up. Says how many times in all. Blocks.
    ///
    /// # Errors
    /// They cannot be run.
    pub fn supervise(&mut self) -> anyhow::Result<u32> {
        for node in &mut self.nodes {
            if node.has_ended().is_some() && node.rests() {
                node.again()?;
                self.restarts += 1;
            }
        }
        Ok(self.restarts)
    }

    /// What all nodes have said last.
    fn last_words(&self) -> String {
        let words = self.nodes.iter().enumerate();
        let words = words.map(|(node, it)| format!("{} said:\n{}", name(node), it.last_words()));
        words.collect::<Vec<_>>().join("\n")
    }

    /// Makes something go wrong. Blocks.
    ///
    /// # Errors
    /// It cannot be done.
    pub fn begin(&mut self, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Kill { node } => self.nodes[node].kill(),
            Fault::Freeze { node } => self.nodes[node].freeze(),
            Fault::Partition { node, from } => self.cut(node, from, Network::cut)?,
            Fault::Slow { node, late } => self.hold_back(node, late)?,
            Fault::RestartEngine => self.server.kill(),
        }
        Ok(())
    }

    /// Ends it. Blocks.
    ///
    /// # Errors
    /// It cannot be done.
    pub fn end(&mut self, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Kill { node } => self.nodes[node].again(),
            Fault::Freeze { node } => {
                self.nodes[node].thaw();
                Ok(())
            }
            Fault::Partition { node, from } => self.cut(node, from, Network::heal),
            Fault::Slow { node, .. } => self.hold_back(node, Duration::ZERO),
            Fault::RestartEngine => Ok(self.server.restart()?),
        }
    }

    fn hold_back(&self, node: usize, late: Duration) -> anyhow::Result<()> {
        let relay = self.relays.get(node);
        let relay = relay.context("there is no relay that could be slow")?;
        relay.hold_back(late);
        Ok(())
    }

    fn cut(
        &self,
        node: usize,
        from: Cut,
        change: fn(&Network, usize, Cut) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let network = self.network.as_ref();
        change(
            network.context("there is no network to be cut")?,
            node,
            from,
        )
    }

    /// Stops the nodes; the store and its log stay. Blocks.
    pub fn stop_nodes(&mut self) {
        Process::stop_all(&mut self.nodes, ENDING);
    }
}

impl View {
    /// The log.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// How the log is cut into partitions.
    pub fn layout(&self) -> Layout {
        self.engine.identity().layout
    }

    /// The members and the plan; nothing if the store does not answer. Blocks.
    pub fn look(&self) -> Option<Roster> {
        self.runtime.block_on(async {
            let looked = tokio::time::timeout(LOOKING, self.coordinator.look());
            looked.await.ok()?.ok()
        })
    }

    /// The partitions that a node serves, as it last said. Blocks.
    pub fn owned_by(&self, node: usize) -> Vec<Partition> {
        let roster = self.look();
        let members = roster.iter().flat_map(|roster| &roster.members);
        let of = members.filter(|living| *living.member.name == name(node));
        let held = of.flat_map(|living| &living.held);
        held.filter(|held| held.role == Role::Owner)
            .map(|held| held.partition)
            .collect()
    }
}

/// What a node is called.
pub fn name(node: usize) -> String {
    format!("node-{}", node + 1)
}

/// What keeps a cluster from being whole.
fn missing(roster: &Roster, nodes: usize) -> Option<String> {
    let there = roster.members.len();
    if there < nodes {
        return Some(format!("{there} of {nodes} nodes are members"));
    }
    let unserved = roster.plan.places.iter().enumerate().filter(|(at, place)| {
        let owner = roster
            .members
            .iter()
            .find(|living| Some(living.member.node) == place.owner);
        let serves = owner.is_some_and(|owner| {
            owner
                .held
                .iter()
                .any(|held| held.partition.index() == *at && held.role == Role::Owner)
        });
        !serves
    });
    let (unserved, all) = (unserved.count(), roster.plan.places.len());
    match (unserved, all) {
        (0, 1..) => None,
        (0, 0) => Some("there is no plan".to_owned()),
        (unserved, all) => Some(format!("{unserved} of {all} partitions have no owner")),
    }
}

/// An authority, and a folder with an identity for each node and the clients.
fn identify(folder: &Path, nodes: usize) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let authority = Authority::create(folder, CLUSTER)?;
    for node in 0..nodes {
        let name = name(node);
        authority
            .issue(&name, &[], Kind::Node)?
            .write(&folder.join(&name))?;
    }
    authority
        .issue(CLIENT, &[], Kind::Client)?
        .write(&folder.join(CLIENT))?;
    Ok(())
}

fn serve(folder: &Path, network: Option<&Network>) -> anyhow::Result<PrivateServer> {
    // Durable as ever: what a crash of the server may lose is for others to find out.
    let server = match network {
        None => PrivateServer::start(folder, &[])?,
        Some(network) => {
            let network = server::Network {
                address: network.engine(),
                bits: net::BITS,
            };
            PrivateServer::start_in(folder, &[], network)?
        }
    };
    server.create_database(DATABASE)?;
    Ok(server)
}

fn addresses(nodes: usize, network: Option<&Network>) -> anyhow::Result<Vec<String>> {
    let Some(network) = network else {
        // All at once, so that no port is found twice.
        let bound = (0..nodes).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let bound: Vec<TcpListener> = bound.collect::<Result<_, _>>()?;
        let addresses = bound.iter().map(|it| Ok(it.local_addr()?.to_string()));
        return addresses.collect();
    };
    let addresses = (0..nodes).map(|node| format!("{}:{PORT}", network.node(node)));
    Ok(addresses.collect())
}
