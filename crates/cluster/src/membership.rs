//! A node's life in a cluster: it joins, says again and again that it lives, learns the plan, makes
//! it if it is the assigner, and lets go of everything before it leaves.
//!
//! The store decides who lives, by its own clock. What is decided here costs time when it is wrong,
//! never events: only the epoch in an append says who owns a partition.

mod alone;
mod answers;
mod beat;
mod error;
mod messages;
mod road;
mod settings;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use everfold_engine::coordination::{Coordinator, JoinError, Member, NodeId, Plan, Role, Roster};
use everfold_engine::engine::{BoxFuture, Engine};
use everfold_engine::{Bytes, Layout, Position, Text, Timestamp, World};
use everfold_runtime::{Application, Membership, Node, NodeOptions};
use tokio::sync::{Notify, watch};

use crate::authority::{Identity, PeerName};
use crate::transport::{self, Peers};

pub use alone::Alone;
pub use error::ClusterError;
pub(crate) use messages::{HELD, Map, MapNode, Message, decode_map};
pub use road::Road;
pub(crate) use road::to_peer_error;
pub use settings::Settings;

/// A node that is a member of a cluster.
pub struct Clustered {
    node: Arc<Node>,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
}

/// What the parts of a member share.
pub(crate) struct Shared {
    id: NodeId,
    settings: Settings,
    /// Where peers reach it.
    address: OnceLock<Text>,
    coordinator: Arc<dyn Coordinator>,
    world: Arc<dyn World>,
    road: Arc<dyn Road>,
    /// What the node goes by; without what it must not believe in any more.
    plan: watch::Sender<Arc<Plan>>,
    roster: watch::Sender<Arc<Roster>>,
    weight: AtomicU32,
    /// It takes nothing while its clock is off.
    clock_is_off: AtomicBool,
    trouble: watch::Sender<Option<Text>>,
    /// The next beat is due now.
    nudge: Notify,
    node: watch::Sender<Option<Weak<Node>>>,
    log: (Position, Layout),
}

impl Clustered {
    /// Joins over the network: listens, makes sure that peers reach it, and becomes a member.
    ///
    /// # Errors
    /// [`ClusterError`]; nothing was joined.
    pub async fn join(
        application: Application,
        (engine, world): (Arc<dyn Engine>, Arc<dyn World>),
        options: NodeOptions,
        settings: Settings,
        identity: &Identity,
    ) -> Result<Self, ClusterError> {
        let (stop, stopped) = watch::channel(false);
        let road: Arc<dyn Road> = Arc::new(Peers::new(identity));
        let shared = Shared::new(&engine, &world, settings, road)?;
        let answers = Arc::new(answers::Face(shared.clone()));
        let listening =
            transport::listen(shared.settings.listen, identity, answers, stopped.clone()).await?;
        shared.check_address(listening.address).await?;
        shared
            .become_member(application, engine, options, stop)
            .await
    }

    /// Joins over a road of the caller's, who hands what comes to [`Clustered::answer`].
    ///
    /// # Errors
    /// [`ClusterError`]; nothing was joined.
    pub async fn join_by(
        application: Application,
        (engine, world): (Arc<dyn Engine>, Arc<dyn World>),
        options: NodeOptions,
        settings: Settings,
        road: Arc<dyn Road>,
    ) -> Result<Self, ClusterError> {
        let shared = Shared::new(&engine, &world, settings, road)?;
        let (stop, _) = watch::channel(false);
        shared
            .become_member(application, engine, options, stop)
            .await
    }

    /// The node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Its id in this life.
    pub fn id(&self) -> NodeId {
        self.shared.id
    }

    /// Who lives and who is to own what, as last heard.
    pub fn roster(&self) -> Arc<Roster> {
        self.shared.roster.borrow().clone()
    }

    /// What keeps the node from being of full use now, for people; it changes as that comes and goes.
    pub fn trouble(&self) -> watch::Receiver<Option<Text>> {
        self.shared.trouble.subscribe()
    }

    /// Answers a message of a peer.
    pub fn answer(&self, from: &PeerName, request: Bytes) -> BoxFuture<'static, Bytes> {
        self.shared.clone().answer(from, request)
    }

    /// Has all partitions moved to others, for at most `patience`. Says whether nothing is left.
    pub async fn drain(&self, patience: Duration) -> bool {
        let shared = &self.shared;
        shared.weight.store(0, Ordering::Relaxed);
        shared.nudge.notify_one();
        let mut plan = shared.plan.subscribe();
        let mine = |plan: &Plan| plan.places.iter().any(|it| it.owner == Some(shared.id));
        let alone = shared.roster.borrow().members.len() < 2;
        if alone {
            return !mine(&plan.borrow());
        }
        let drained = async {
            let _ = plan.wait_for(|plan| !mine(plan)).await;
            // Planned is not done: the last answers leave before the owner lets go.
            let owns = |node: &Node| node.held().iter().any(|held| held.role == Role::Owner);
            while owns(&self.node) {
                shared.world.sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! { biased;
            () = drained => true,
            () = shared.world.sleep(patience) => false,
        }
    }

    /// Leaves: what is still owned is let go of, and others take over at once.
    pub async fn close(mut self) {
        self.stop.send_replace(true);
        let _ = self.ended.wait_for(|ended| *ended).await;
        // First, for the engine goes with the node.
        let _ = self.shared.coordinator.leave(self.shared.id).await;
        self.node.close().await;
    }
}

impl Shared {
    fn new(
        engine: &Arc<dyn Engine>,
        world: &Arc<dyn World>,
        settings: Settings,
        road: Arc<dyn Road>,
    ) -> Result<Arc<Self>, ClusterError> {
        let coordinator = engine.coordinator().ok_or(ClusterError::OneNodeOnly)?;
        let identity = engine.identity();
        let layout = identity.layout;
        let nobody = Roster {
            members: Vec::new(),
            plan: Plan::unplaced(layout),
            assigner: None,
            time: world.now(),
        };
        Ok(Arc::new(Self {
            id: NodeId::draw(world.as_ref()),
            weight: AtomicU32::new(settings.weight),
            clock_is_off: AtomicBool::new(false),
            trouble: watch::Sender::new(None),
            settings,
            address: OnceLock::new(),
            coordinator,
            world: world.clone(),
            road,
            plan: watch::Sender::new(Arc::new(Plan::unplaced(layout))),
            roster: watch::Sender::new(Arc::new(nobody)),
            nudge: Notify::new(),
            node: watch::Sender::new(None),
            log: (identity.start(), layout),
        }))
    }

    fn member(&self, application: &str) -> Member {
        let settings = &self.settings;
        Member {
            node: self.id,
            name: settings.name.clone(),
            cluster: settings.cluster.clone(),
            application: application.into(),
            address: self.address.get().unwrap_or(&settings.address).clone(),
            zone: settings.zone.clone(),
            weight: self.weight_now(),
            build: settings.build.clone(),
            layout: self.log.1,
        }
    }

    fn weight_now(&self) -> u32 {
        match self.clock_is_off.load(Ordering::Relaxed) {
            true => 0,
            false => self.weight.load(Ordering::Relaxed),
        }
    }

    /// By how many microseconds this clock is ahead of the store's, or behind: `time` is what the store
    /// said between `asked` and now. Nothing while that is little.
    fn clock_off(&self, asked: Timestamp, time: Timestamp) -> Option<i64> {
        let most = i64::try_from(self.settings.clock_drift.as_micros()).unwrap_or(i64::MAX);
        let (ahead, behind) = (asked.0 - time.0, time.0 - self.world.now().0);
        match (ahead > most, behind > most) {
            (true, _) => Some(ahead),
            (_, true) => Some(-behind),
            _ => None,
        }
    }

    /// Becomes a member. A process that was killed and started again has to wait until the lease of
    /// its former life has run out.
    async fn join(&self, application: &str) -> Result<Roster, ClusterError> {
        let lease = self.settings.lease;
        let patience = self.world.elapsed() + lease + self.settings.beat * 2;
        let in_time = || self.world.elapsed() < patience;
        loop {
            // First of all: who must not join is not there for a moment either.
            let asked = self.world.now();
            if let Ok(roster) = self.coordinator.look().await
                && let Some(micros) = self.clock_off(asked, roster.time)
            {
                return Err(ClusterError::Clock { micros });
            }
            let joined = self.coordinator.join(self.member(application), lease);
            match joined.await {
                Err(JoinError::NameTaken { .. }) if in_time() => {
                    self.world.reached("node: its name is still taken");
                    self.world.sleep(self.settings.beat).await;
                }
                Err(JoinError::OtherCluster { living, .. }) if living == alone::ALONE => {
                    if !in_time() {
                        return Err(self.somebody_alone().await);
                    }
                    self.world.sleep(self.settings.beat).await;
                }
                Err(JoinError::Unavailable(reason)) if in_time() => {
                    self.trouble.send_replace(Some(reason.into()));
                    self.world.sleep(self.settings.beat).await;
                }
                joined => return Ok(joined?),
            }
        }
    }

    async fn somebody_alone(&self) -> ClusterError {
        let roster = self.coordinator.look().await;
        let members = roster.map(|roster| roster.members).unwrap_or_default();
        let address = members.first().map(|living| living.member.address.clone());
        ClusterError::Alone {
            address: address.unwrap_or_default(),
        }
    }

    async fn become_member(
        self: Arc<Self>,
        application: Application,
        engine: Arc<dyn Engine>,
        options: NodeOptions,
        stop: watch::Sender<bool>,
    ) -> Result<Clustered, ClusterError> {
        let name = application.name().to_owned();
        let membership = Membership {
            node: self.id,
            plan: self.plan.subscribe(),
            peers: Arc::new(road::Directory(self.clone())),
            patience: self.settings.patience,
            relayed: false,
        };
        let roster = self.join(&name).await?;
        let opened = application.join_on(engine, self.world.clone(), options, membership);
        let node = match opened.await {
            Ok(node) => Arc::new(node),
            Err(error) => {
                let _ = self.coordinator.leave(self.id).await;
                return Err(error.into());
            }
        };
        self.node.send_replace(Some(Arc::downgrade(&node)));
        self.learn(roster);
        let (ending, ended) = watch::channel(false);
        let beating = beat::run(self.clone(), node.clone(), name, stop.subscribe());
        let task = async move {
            beating.await;
            ending.send_replace(true);
        };
        self.world.spawn("beat", Box::pin(task));
        Ok(Clustered {
            node,
            shared: self,
            stop,
            ended,
        })
    }
}
