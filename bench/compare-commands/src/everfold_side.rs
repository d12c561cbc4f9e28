//! Everfold: the order as an entity, its runtime, its engine on PostgreSQL.

use std::sync::Arc;

use anyhow::anyhow;
use everfold::engine::world::{System, World};
use everfold::engine::{Engine, uuid7};
use everfold::prelude::*;
use everfold::{Node, NodeOptions};
use everfold_postgres::{Options, Postgres, remove};

use crate::load::Target;
use crate::order::{Line, name};
use crate::server::Site;

#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct OrderId(String);

#[derive(Event, Clone, Debug, PartialEq)]
enum OrderEvent {
    LineAdded { line: Line },
}

#[derive(Entity, Default, Clone, Debug)]
#[entity(name = "order", id = OrderId, event = OrderEvent)]
struct Order {
    lines: u64,
    total: u64,
}

impl Evolve for Order {
    fn evolve(&mut self, event: &OrderEvent) {
        let OrderEvent::LineAdded { line } = event;
        self.lines += 1;
        self.total += u64::from(line.quantity) * u64::from(line.price);
    }
}

#[derive(Command, Clone, Debug)]
struct AddLine {
    line: Line,
}

impl Decide<AddLine> for Order {
    type Reply = u64;
    type Rejection = everfold::Never;

    fn decide(&self, command: &AddLine, _: &Context) -> Decision<Self, AddLine> {
        let line = command.line.clone();
        emit(OrderEvent::LineAdded { line }).reply(self.lines + 1)
    }
}

/// A node with the order on a log of its own.
#[derive(Clone)]
pub(crate) struct Ours {
    node: Arc<Node>,
    engine: Arc<Postgres>,
}

impl Ours {
    pub(crate) async fn open(site: &Site) -> anyhow::Result<Self> {
        let address = site.address_of_ours();
        // What an interrupted run has left.
        remove(&address).await?;
        let world: Arc<dyn World> = System::current();
        let engine = Postgres::open(&address, world.clone(), Options::default()).await?;
        let node = Application::new("bench").entity::<Order>();
        let opened = node.open_on(engine.clone(), world, NodeOptions::default());
        let node = Arc::new(opened.await?);
        Ok(Self { node, engine })
    }

    pub(crate) fn durability(&self) -> String {
        self.engine.durability()
    }

    pub(crate) async fn close(self, site: &Site) -> anyhow::Result<()> {
        self.node.close().await;
        self.engine.close().await;
        Ok(remove(&site.address_of_ours()).await?)
    }
}

impl Target for Ours {
    async fn send(&self, order: usize, seed: u64) -> anyhow::Result<()> {
        let world = self.node.world();
        let id = uuid7(world.now(), world.random(), world.random());
        let line = Line::any(order, seed);
        let order = self.node.entity::<Order>(OrderId(name(order)));
        let sent = order.send(AddLine { line }).id(id).await;
        sent.map(drop).map_err(|error| anyhow!("{error:?}"))
    }
}
