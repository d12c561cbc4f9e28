//! The nodes of a measurement.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use everfold::cluster::{Authority, Client, Clustered, Identity, Kind, Peers, Settings};
use everfold::engine::coordination::{Role, Roster};
use everfold::engine::world::System;
use everfold::engine::{Engine, World};
use everfold::{Node, NodeOptions};
use everfold_postgres::{Options, Postgres};

use super::orders;
use crate::engine::Site;

/// What a client outside needs.
pub(super) struct Outside {
    pub(super) client: Client,
    pub(super) world: Arc<dyn World>,
}

pub(super) struct Nodes {
    /// A cluster of one, with a log of its own.
    lone: Clustered,
    many: Mutex<Vec<Arc<Clustered>>>,
    address: String,
    folder: std::path::PathBuf,
    world: Arc<dyn World>,
}

impl Nodes {
    pub(super) async fn start(site: &Site, folder: &Path) -> anyhow::Result<Self> {
        let world: Arc<dyn World> = System::current();
        let authority = Authority::create(folder, "bench")?;
        for name in ["lone", "node-1", "node-2", "node-3", "client"] {
            let kind = match name {
                "client" => Kind::Client,
                _ => Kind::Node,
            };
            authority
                .issue(name, &[], kind)?
                .write(&folder.join(name))?;
        }
        let nodes = Self {
            lone: member("lone", &site.other_address(), folder, &world).await?,
            many: Mutex::default(),
            address: site.address().to_owned(),
            folder: folder.to_owned(),
            world,
        };
        for name in ["node-1", "node-2", "node-3"] {
            nodes.join(name).await?;
        }
        nodes.balanced(3).await?;
        Ok(nodes)
    }

    /// Starts a node.
    pub(super) async fn join(&self, name: &str) -> anyhow::Result<()> {
        let joined = member(name, &self.address, &self.folder, &self.world).await?;
        self.many().push(Arc::new(joined));
        Ok(())
    }

    /// The cluster of one, asked within its process.
    pub(super) fn alone(&self) -> &Arc<Node> {
        self.lone.node()
    }

    fn many(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Clustered>>> {
        self.many.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn world_sleep(&self, time: Duration) {
        self.world.sleep(time).await;
    }

    /// By partition: which node owns it, counted from those that live.
    pub(super) fn owners(&self) -> Vec<usize> {
        let roster = self.many()[0].roster();
        let places = roster.plan.places.iter();
        let of = |owner| {
            roster
                .members
                .iter()
                .position(|it| Some(it.member.node) == owner)
        };
        places
            .map(|place| of(place.owner).unwrap_or(usize::MAX))
            .collect()
    }

    pub(super) fn all(&self) -> Vec<Arc<Node>> {
        self.many()
            .iter()
            .map(|member| member.node().clone())
            .collect()
    }

    /// Waits until so many nodes own about as much each, and are the owners of all.
    pub(super) async fn balanced(&self, nodes: usize) -> anyhow::Result<()> {
        let partitions = usize::from(self.alone().engine().identity().layout.partitions);
        for _ in 0..6000 {
            let owned = |node: &Arc<Node>| {
                let held = node.held();
                held.iter().filter(|held| held.role == Role::Owner).count()
            };
            let owned: Vec<usize> = self.all().iter().map(owned).collect();
            let fair = owned
                .iter()
                .all(|owned| owned.abs_diff(partitions / nodes) <= 1);
            if fair && owned.iter().sum::<usize>() == partitions {
                return Ok(());
            }
            self.world.sleep(Duration::from_millis(10)).await;
        }
        Err(anyhow!("the partitions did not spread over {nodes} nodes"))
    }

    pub(super) async fn client(&self) -> anyhow::Result<Arc<Outside>> {
        let roster = self.many()[0].roster();
        self.client_of(&roster).await
    }

    /// A client of the cluster of one.
    pub(super) async fn client_of_one(&self) -> anyhow::Result<Arc<Outside>> {
        self.client_of(&self.lone.roster()).await
    }

    async fn client_of(&self, roster: &Roster) -> anyhow::Result<Arc<Outside>> {
        let identity = Identity::from_folder(&self.folder.join("client"))?;
        let addresses: Vec<String> = roster
            .members
            .iter()
            .map(|living| living.member.address.to_string())
            .collect();
        let road = Arc::new(Peers::new(&identity));
        let client = Client::connect(orders(), &addresses, road, self.world.clone()).await?;
        Ok(Arc::new(Outside {
            client,
            world: self.world.clone(),
        }))
    }

    /// Takes a node out after everything it owns has moved away.
    pub(super) async fn retire(&self, name: &str) -> anyhow::Result<()> {
        let member = {
            let mut many = self.many();
            let place = many.iter().position(|member| {
                let roster = member.roster();
                let me = roster
                    .members
                    .iter()
                    .find(|it| it.member.node == member.id());
                me.is_some_and(|me| &me.member.name[..] == name)
            });
            many.remove(place.ok_or_else(|| anyhow!("no node is named {name}"))?)
        };
        if !member.drain(Duration::from_secs(30)).await {
            return Err(anyhow!("{name} was not drained"));
        }
        match Arc::try_unwrap(member) {
            Ok(member) => member.close().await,
            Err(_) => return Err(anyhow!("{name} is in use")),
        }
        Ok(())
    }

    pub(super) async fn close(self) {
        let many = std::mem::take(&mut *self.many());
        for member in many {
            if let Ok(member) = Arc::try_unwrap(member) {
                member.close().await;
            }
        }
        self.lone.close().await;
    }
}

async fn member(
    name: &str,
    address: &str,
    folder: &Path,
    world: &Arc<dyn World>,
) -> anyhow::Result<Clustered> {
    let identity = Identity::from_folder(&folder.join(name))?;
    let cluster = identity.cluster().clone();
    let settings = Settings::new(name, cluster, ([127, 0, 0, 1], 0).into());
    let engine = Postgres::open(address, world.clone(), Options::default()).await?;
    let ground: (Arc<dyn Engine>, _) = (engine, world.clone());
    let options = NodeOptions::default();
    Ok(Clustered::join(orders(), ground, options, settings, &identity).await?)
}

/// Whether a node owns what belongs to an id.
pub(super) fn owns(node: &Node, id: &str) -> bool {
    let partition = node.engine().identity().layout.partition(id);
    node.owns(partition)
}
