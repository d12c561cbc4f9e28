//! The nodes of a run: opened, taken over, killed, frozen, left behind as zombies.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everfold::engine::coordination::Coordinator;
use everfold::engine::{Engine, Layout, Position, World};
use everfold::{Application, Node, NodeOptions};
use everfold_cluster::Clustered;
use everfold_sim::{Process, Random};
use tokio::sync::oneshot;

use crate::coverage::Counts;
use crate::members::Wanted;
use crate::network::Network;
use crate::remote::{Line, Remote};
use crate::roster::RemoteRoster;
use crate::scenario::{Setup, Shape};
use crate::store::Store;
use crate::watched::WithoutAreas;

/// So many tries of clients in a row that came to nothing call for another node.
const COMPLAINTS: u32 = 12;
/// Nodes beside the newest one; older ones are killed.
const ZOMBIES: usize = 2;
/// A node that has not opened by then never will.
const OPENED_BY: Duration = Duration::from_secs(20);

/// A node's process.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) number: u32,
    /// Of one among several; empty for one that is alone.
    pub(crate) name: String,
    pub(crate) process: Process,
}

struct Slot {
    member: Member,
    open: Option<Open>,
}

#[derive(Clone)]
enum Open {
    Alone(Arc<Node>),
    Member(Arc<Clustered>),
}

impl Open {
    fn node(&self) -> &Arc<Node> {
        match self {
            Self::Alone(node) => node,
            Self::Member(clustered) => clustered.node(),
        }
    }
}

/// What a node is opened on.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Ground {
    /// As an application would, alone.
    Usual,
    /// Alone, with nothing but the log.
    WithoutAreas,
    /// As one of several.
    Member {
        /// Its name.
        name: String,
        /// Its share.
        weight: u32,
    },
}

pub(crate) struct Cluster {
    pub(crate) shape: Shape,
    wanted: Mutex<Wanted>,
    application: Box<dyn Fn() -> Application + Send + Sync>,
    options: NodeOptions,
    pub(crate) main: Arc<dyn World>,
    pub(crate) network: Arc<Network>,
    pub(crate) store: Arc<Store>,
    pub(crate) counts: Arc<Counts>,
    state: Mutex<State>,
    complaints: AtomicU32,
    over: AtomicBool,
    /// One node is opened at a time.
    opening: tokio::sync::Mutex<()>,
}

struct State {
    spare: Vec<Process>,
    slots: Vec<Slot>,
    numbers: u32,
    /// Of the first node's engine.
    start: Option<(Position, Layout)>,
}

impl Cluster {
    pub(crate) fn new(
        application: Box<dyn Fn() -> Application + Send + Sync>,
        (options, shape): (NodeOptions, Shape),
        main: Arc<dyn World>,
        (network, store, counts): (Arc<Network>, Arc<Store>, Arc<Counts>),
        mut spare: Vec<Process>,
    ) -> Arc<Self> {
        spare.reverse();
        Arc::new(Self {
            shape,
            wanted: Mutex::default(),
            application,
            options,
            main,
            network,
            store,
            counts,
            state: Mutex::new(State {
                spare,
                slots: Vec::new(),
                numbers: 0,
                start: None,
            }),
            complaints: AtomicU32::new(0),
            over: AtomicBool::new(false),
            opening: tokio::sync::Mutex::const_new(()),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn application(&self) -> Application {
        (self.application)()
    }

    /// How the log is cut.
    pub(crate) fn layout(&self) -> Layout {
        let state = self.state();
        let known = state.start.as_ref().map(|(_, layout)| *layout);
        known.unwrap_or(Layout {
            number: 1,
            partitions: 1,
        })
    }

    /// The log's beginning.
    pub(crate) fn start_position(&self) -> Position {
        let state = self.state();
        let known = state.start.as_ref().map(|(start, _)| start.clone());
        known.unwrap_or_else(|| Position::new("", Default::default(), 0))
    }

    /// A node to ask: any of several, or mostly the newest and sometimes any that is still there.
    pub(crate) fn choose(&self, random: &mut Random) -> Option<Member> {
        let state = self.state();
        let open: Vec<&Slot> = state.slots.iter().filter(|s| s.open.is_some()).collect();
        let newest = open.last()?;
        let any = self.store.setup.is_cluster()
            || random.one_in(4)
            || self.complaints.load(Ordering::Relaxed) > 2;
        let slot = if any { *random.pick(&open) } else { newest };
        Some(slot.member.clone())
    }

    /// The newest node's process, open or still opening.
    pub(crate) fn newest(&self) -> Option<Member> {
        self.state().slots.last().map(|slot| slot.member.clone())
    }

    /// The node in a process, if it is open.
    pub(crate) fn node(&self, number: u32) -> Option<Arc<Node>> {
        let state = self.state();
        let slot = state.slots.iter().find(|slot| slot.member.number == number);
        slot?.open.as_ref().map(|open| open.node().clone())
    }

    /// Whom a fault strikes.
    pub(crate) fn victim(&self, detail: u32) -> Option<Member> {
        if !self.store.setup.is_cluster() {
            return self.newest();
        }
        let state = self.state();
        let place = (detail / 8) as usize % state.slots.len().max(1);
        state.slots.get(place).map(|slot| slot.member.clone())
    }

    /// The names of the nodes that run or are about to.
    pub(crate) fn names(&self) -> Vec<String> {
        let state = self.state();
        state
            .slots
            .iter()
            .map(|it| it.member.name.clone())
            .collect()
    }

    /// The nodes that are open.
    pub(crate) fn running(&self) -> Vec<Member> {
        let state = self.state();
        let open = state.slots.iter().filter(|slot| slot.open.is_some());
        open.map(|slot| slot.member.clone()).collect()
    }

    /// Who listens at an address.
    pub(crate) fn listening(&self, address: &str) -> Option<Member> {
        let state = self.state();
        let open = |slot: &&Slot| slot.member.name == address && slot.open.is_some();
        state
            .slots
            .iter()
            .find(open)
            .map(|slot| slot.member.clone())
    }

    /// One of several nodes by its process.
    pub(crate) fn clustered(&self, number: u32) -> Option<Arc<Clustered>> {
        let state = self.state();
        let slot = state.slots.iter().find(|slot| slot.member.number == number);
        match slot?.open.clone()? {
            Open::Member(clustered) => Some(clustered),
            Open::Alone(_) => None,
        }
    }

    /// All members of the cluster that run.
    pub(crate) fn all_clustered(&self) -> Vec<Arc<Clustered>> {
        let numbers: Vec<u32> = {
            let state = self.state();
            state.slots.iter().map(|slot| slot.member.number).collect()
        };
        let clustered = numbers.into_iter().map(|number| self.clustered(number));
        clustered.flatten().collect()
    }

    /// Takes a node out of the world's hands; its process runs on.
    pub(crate) fn take(&self, number: u32) -> Option<Arc<Clustered>> {
        let slot = {
            let mut state = self.state();
            let slots = &mut state.slots;
            let place = slots.iter().position(|s| s.member.number == number)?;
            slots.remove(place)
        };
        match slot.open? {
            Open::Member(clustered) => Some(clustered),
            Open::Alone(_) => None,
        }
    }

    pub(crate) fn kill(&self, number: u32) {
        let removed: Vec<Slot> = {
            let mut state = self.state();
            let (gone, left) = std::mem::take(&mut state.slots)
                .into_iter()
                .partition(|slot| slot.member.number == number);
            state.slots = left;
            gone
        };
        for slot in removed {
            slot.member.process.kill();
        }
        if self.store.setup == Setup::Embedded {
            self.store.lose_power();
        }
    }

    pub(crate) fn kill_all(&self) {
        while let Some(member) = self.newest() {
            self.kill(member.number);
        }
    }

    /// Everybody but the newest.
    pub(crate) fn kill_zombies(&self) {
        let numbers: Vec<u32> = {
            let state = self.state();
            let all = state.slots.iter().map(|slot| slot.member.number);
            all.take(state.slots.len().saturating_sub(1)).collect()
        };
        numbers.into_iter().for_each(|number| self.kill(number));
    }

    pub(crate) fn thaw_all(&self) {
        let state = self.state();
        state.slots.iter().for_each(|s| s.member.process.thaw());
    }

    /// A try of a client came to nothing.
    pub(crate) fn complain(&self) {
        self.complaints.fetch_add(1, Ordering::Relaxed);
    }

    /// A client was answered.
    pub(crate) fn content(&self) {
        self.complaints.store(0, Ordering::Relaxed);
    }

    /// Opens another node whenever clients have asked in vain for too long.
    pub(crate) async fn supervise(self: Arc<Self>) {
        loop {
            self.main.sleep(Duration::from_millis(200)).await;
            if self.complaints.load(Ordering::Relaxed) >= COMPLAINTS {
                let _one = self.opening.lock().await;
                if self.over.load(Ordering::Relaxed) {
                    return;
                }
                self.content();
                self.counts
                    .count("node replaced because clients complained");
                let _ = self.replace_now().await;
            }
        }
    }

    /// No client asks any more: what they have complained about must not replace the last node.
    pub(crate) fn clients_are_gone(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Opens another node; an embedded one only once its predecessor is dead.
    pub(crate) async fn replace(self: &Arc<Self>) -> Result<Arc<Node>, String> {
        let _one = self.opening.lock().await;
        self.replace_now().await
    }

    async fn replace_now(self: &Arc<Self>) -> Result<Arc<Node>, String> {
        if self.store.setup == Setup::Embedded {
            self.kill_all();
        } else {
            self.revive_store();
        }
        let node = self.open(Ground::Usual).await;
        let old: Vec<u32> = {
            let state = self.state();
            let spare = state.slots.len().saturating_sub(ZOMBIES + 1);
            let old = state.slots.iter().take(spare);
            old.map(|slot| slot.member.number).collect()
        };
        old.into_iter().for_each(|number| self.kill(number));
        node
    }

    /// Closes an embedded node in order and opens it again.
    pub(crate) async fn restart_in_order(self: &Arc<Self>) -> Result<Arc<Node>, String> {
        let _one = self.opening.lock().await;
        if let Some(member) = self.newest()
            && let Some(node) = self.node(member.number)
        {
            let (tell, told) = oneshot::channel();
            let close = async move {
                node.close().await;
                let _ = tell.send(());
            };
            member.process.world().spawn("close", Box::pin(close));
            let mut over = self.main.sleep(OPENED_BY);
            tokio::select! { biased;
                _ = told => self.counts.count("node closed in order"),
                () = &mut over => {}
            }
        }
        self.kill_all();
        self.open(Ground::Usual).await
    }

    /// A shared store whose process ended by itself, or whose log has stopped, is started again.
    fn revive_store(&self) {
        if self.store.setup == Setup::SharedDisk {
            self.store.stop();
            let _ = self.store.start();
        }
    }

    /// Opens a node in a process of its own. It claims all partitions, and so fences the others.
    pub(crate) async fn open(self: &Arc<Self>, ground: Ground) -> Result<Arc<Node>, String> {
        let name = match &ground {
            Ground::Member { name, .. } => name.clone(),
            Ground::Usual | Ground::WithoutAreas => String::new(),
        };
        let member = {
            let mut state = self.state();
            let process = state.spare.pop().ok_or("too many nodes were opened")?;
            state.numbers += 1;
            let member = Member {
                number: state.numbers,
                name,
                process,
            };
            state.slots.push(Slot {
                member: member.clone(),
                open: None,
            });
            member
        };
        let opened = self.open_in(&member, ground).await;
        match opened {
            Ok(open) => {
                let node = open.node().clone();
                let identity = node.engine().identity();
                let start = (identity.start(), identity.layout);
                let mut state = self.state();
                state.start.get_or_insert(start);
                for slot in &mut state.slots {
                    if slot.member.number == member.number {
                        slot.open = Some(open.clone());
                    }
                }
                drop(state);
                self.counts.count("node opened");
                Ok(node)
            }
            Err(error) => {
                self.counts.count("node did not open");
                let dead = {
                    let mut state = self.state();
                    let slots = &mut state.slots;
                    let place = slots.iter().position(|s| s.member.number == member.number);
                    place.map(|place| slots.remove(place))
                };
                if dead.is_some() {
                    member.process.kill();
                    if self.store.setup == Setup::Embedded {
                        self.store.lose_power();
                    }
                }
                Err(error)
            }
        }
    }

    async fn open_in(self: &Arc<Self>, member: &Member, ground: Ground) -> Result<Open, String> {
        let world = member.process.world();
        let engine: Arc<dyn Engine> = match self.store.setup {
            Setup::Embedded => {
                let log = self.store.open_log(world.clone())?;
                self.store.watched(member.number, log)
            }
            Setup::Shared | Setup::SharedDisk | Setup::Cluster => {
                let (identity, limits, indexed) =
                    self.store.about().ok_or("the store is not there")?;
                let line = Line {
                    node: member.number,
                    world: world.clone(),
                    store: self.store.clone(),
                    network: self.network.clone(),
                };
                let roster: Arc<dyn Coordinator> = Arc::new(RemoteRoster::new(line.clone()));
                Arc::new(Remote {
                    identity,
                    limits,
                    indexed,
                    line,
                    coordinator: self.store.setup.is_cluster().then_some(roster),
                })
            }
        };
        let mut over = self.main.sleep(OPENED_BY);
        let application = self.application();
        let engine = match ground {
            Ground::Usual => engine,
            Ground::WithoutAreas => Arc::new(WithoutAreas { inner: engine }),
            Ground::Member { weight, .. } => {
                let options = self.options.clone();
                let joined = self.join((member, weight), (engine, world), application, options);
                return tokio::select! { biased;
                    joined = joined => joined.map(Open::Member),
                    () = &mut over => Err("the node did not join in time".into()),
                };
            }
        };
        let (tell, told) = oneshot::channel();
        let (options, inner) = (self.options.clone(), world.clone());
        let open = async move {
            let opened = application.open_on(engine, inner, options).await;
            drop(tell.send(opened));
        };
        world.spawn("open", Box::pin(open));
        tokio::select! { biased;
            told = told => match told {
                Ok(Ok(node)) => Ok(Open::Alone(Arc::new(node))),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("the node died".into()),
            },
            () = &mut over => Err("the node did not open in time".into()),
        }
    }
}
