//! Entities of a cluster, asked from outside.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everfold_engine::coordination::{NodeId, Place, Plan};
use everfold_engine::engine::BoxFuture;
use everfold_engine::map::{Map as ByNode, seeded};
use everfold_engine::{Bytes, Layout, Position, Text, Uuid, World};
use everfold_runtime::{Application, Membership, PeerError, Peers};
use tokio::sync::watch;

use crate::membership::{ClusterError, HELD, Map, Message, Road, decode_map, to_peer_error};

/// How long a node may take to say where everything is, besides what it may hold the question back for.
const ASKING: Duration = Duration::from_millis(500);
/// Before it asks again after an answer that came at once and said nothing new, or none.
const PAUSE: Duration = Duration::from_millis(250);

/// Sends commands to the nodes that own their entities, and knows by itself who that is.
pub struct Client {
    inner: everfold_runtime::Client,
    _stop: watch::Sender<bool>,
}

impl std::ops::Deref for Client {
    type Target = everfold_runtime::Client;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

struct Places {
    road: Arc<dyn Road>,
    /// Where to ask, besides the nodes that are known.
    named: Vec<String>,
    addresses: Mutex<ByNode<NodeId, String>>,
    plan: watch::Sender<Arc<Plan>>,
}

impl Client {
    /// A client that asks owners directly. `nodes` are addresses of some nodes, `host:port`; one of
    /// them has to be up.
    ///
    /// # Errors
    /// [`ClusterError::NobodyAnswers`]; [`ClusterError::Start`] for a mistake in the application.
    pub async fn connect(
        application: Application,
        nodes: &[String],
        road: Arc<dyn Road>,
        world: Arc<dyn World>,
    ) -> Result<Self, ClusterError> {
        Self::open(application, nodes, road, world, false).await
    }

    /// A client that asks one node for everything, which passes on what is not its own.
    ///
    /// # Errors
    /// As for [`Client::connect`].
    pub async fn through(
        application: Application,
        node: &str,
        road: Arc<dyn Road>,
        world: Arc<dyn World>,
    ) -> Result<Self, ClusterError> {
        Self::open(application, &[node.to_owned()], road, world, true).await
    }

    async fn open(
        application: Application,
        nodes: &[String],
        road: Arc<dyn Road>,
        world: Arc<dyn World>,
        through: bool,
    ) -> Result<Self, ClusterError> {
        let places = Arc::new(Places {
            road,
            named: nodes.to_vec(),
            addresses: Mutex::new(seeded(0)),
            plan: watch::Sender::new(Arc::new(Plan {
                number: 0,
                places: Vec::new(),
            })),
        });
        let (answers, map) = (places.ask(None, None).await).map_err(ClusterError::NobodyAnswers)?;
        let start = map.start.parse::<Position>();
        let start = start.map_err(|error| ClusterError::NobodyAnswers(error.to_string()))?;
        let layout = Layout {
            number: map.layout,
            partitions: map.partitions,
        };
        let (stop, stopped) = watch::channel(false);
        if through {
            let address = nodes.first().cloned().unwrap_or_default();
            places.take_all_to(address, map.partitions);
        } else {
            places.take(&map);
            let (asking, world_of) = (places.clone(), world.clone());
            let task = async move { asking.keep_asking(world_of, answers, stopped).await };
            world.spawn("ask where everything is", Box::pin(task));
        }
        let membership = Membership {
            node: NodeId::draw(world.as_ref()),
            plan: places.plan.subscribe(),
            peers: places,
            patience: Duration::from_secs(10),
            relayed: true,
        };
        let inner = everfold_runtime::Client::new(application, (start, layout), world, membership)?;
        Ok(Self { inner, _stop: stop })
    }
}

impl Places {
    fn addresses(&self) -> std::sync::MutexGuard<'_, ByNode<NodeId, String>> {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The first map that comes and from where, or why none does. `first` is asked before others.
    async fn ask(
        &self,
        first: Option<&String>,
        plan: Option<u64>,
    ) -> Result<(String, Map), String> {
        let mut known: Vec<String> = self.addresses().values().cloned().collect();
        known.sort();
        known.extend(self.named.iter().cloned());
        if let Some(first) = first {
            known.retain(|address| address != first);
            known.insert(0, first.clone());
        }
        let mut reason = "no node was named".to_owned();
        for address in known {
            let message = Message::WhereIsWhat(plan).encode();
            let patience = plan.map_or(ASKING, |_| HELD + ASKING);
            match self.road.call(&address, message, patience).await {
                Ok(answer) => match decode_map(&answer) {
                    Some(map) => return Ok((address, map)),
                    None => reason = format!("{address} gives an answer that cannot be read"),
                },
                Err(error) => reason = format!("{address}: {error}"),
            }
        }
        Err(reason)
    }

    /// Hears of every new plan as soon as the node does that answers: a node that is asked for what it
    /// does not own passes it on, but one that has left does not.
    async fn keep_asking(
        &self,
        world: Arc<dyn World>,
        mut answers: String,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            let known = self.plan.borrow().number;
            let begun = world.elapsed();
            let asked = self.ask(Some(&answers), Some(known));
            let heard = tokio::select! { biased;
                // The client is gone with its sender.
                _ = stop.changed() => return,
                heard = asked => heard,
            };
            let mut is_new = false;
            if let Ok((address, map)) = heard {
                is_new = map.plan != known;
                self.take(&map);
                answers = address;
            }
            if is_new || world.elapsed() - begun >= HELD {
                continue;
            }
            tokio::select! { biased;
                _ = stop.changed() => return,
                () = world.sleep(PAUSE) => {}
            }
        }
    }

    fn take(&self, map: &Map) {
        let id = |place: u16| {
            let node = map.nodes.get(usize::from(place));
            node.map(|node| NodeId(Uuid::from_u128(node.id)))
        };
        {
            let mut addresses = self.addresses();
            addresses.clear();
            for node in &map.nodes {
                addresses.insert(NodeId(Uuid::from_u128(node.id)), node.address.clone());
            }
        }
        let owners = map.owners.iter();
        self.set(map.plan, owners.map(|owner| owner.and_then(id)));
    }

    fn take_all_to(&self, address: String, partitions: u16) {
        let node = NodeId(Uuid::max());
        self.addresses().insert(node, address);
        self.set(1, (0..partitions).map(|_| Some(node)));
    }

    fn set(&self, number: u64, owners: impl Iterator<Item = Option<NodeId>>) {
        let place = |owner| Place {
            owner,
            standbys: Vec::new(),
            since: Default::default(),
            reason: Text::new(),
        };
        let places = owners.map(place).collect();
        let plan = Plan { number, places };
        self.plan.send_if_modified(|known| {
            let changed = **known != plan;
            if changed {
                *known = Arc::new(plan);
            }
            changed
        });
    }
}

impl Peers for Places {
    fn ask(
        &self,
        node: NodeId,
        request: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let Some(address) = self.addresses().get(&node).cloned() else {
            let gone = "it is no member any more".to_owned();
            return Box::pin(async { Err(PeerError::Unreachable(gone)) });
        };
        let message = Message::Work(request).encode();
        let call = self.road.call(&address, message, patience);
        Box::pin(async move { call.await.map_err(to_peer_error) })
    }
}
