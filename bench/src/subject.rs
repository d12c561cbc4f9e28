//! Both sides of the measurement as targets of the same clients.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use everfold::engine::engine::{Area, Revision};
use everfold::engine::uuid7;
use everfold::{Event as _, Node, Open};
use tokio::sync::{mpsc, oneshot};

use crate::bare_event::Append;
use crate::load::Target;
use crate::order::{AddLine, Order, OrderId, name, shop};

/// Where the runtime keeps the view's rows.
const VIEW_AREA: &str = "view/sums/1";

/// The application on the embedded log.
pub(crate) struct Subject {
    node: Node,
}

impl Subject {
    pub(crate) async fn open(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join("log");
        let address = format!("file:{}", path.display());
        let node = shop().open(&address).await?;
        Ok(Self { node })
    }

    pub(crate) fn durability(&self) -> String {
        self.node.engine().durability()
    }

    /// Batches appended so far, of all partitions.
    pub(crate) async fn batches(&self) -> anyhow::Result<u64> {
        let owners = self.node.owners().await?;
        Ok(owners.iter().map(|owner| owner.batches).sum())
    }

    /// Events that the view has not folded yet.
    pub(crate) async fn behind(&self) -> anyhow::Result<u64> {
        let handlers = self.node.handlers().await?;
        Ok(handlers.iter().map(|handler| handler.behind).sum())
    }

    /// Waits until the view has folded everything and has stored it: what our side has left to do
    /// must not fall into the reference's time.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        let before = self.stored().await?;
        self.node.caught_up().await?;
        let patience = Instant::now() + Duration::from_secs(6);
        while self.stored().await? == before && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The parts of the view are stored one after the other; give the last ones time.
        let mut last = self.stored().await?;
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = self.stored().await?;
            if now == last {
                return Ok(());
            }
            last = now;
        }
    }

    /// How often the view's parts were stored.
    async fn stored(&self) -> anyhow::Result<u64> {
        let engine = self.node.engine();
        let mut stored = 0;
        for partition in engine.identity().layout.all() {
            let name = VIEW_AREA.into();
            let Revision(revision) = engine.revision(&Area { name, partition }).await?;
            stored += revision;
        }
        Ok(stored)
    }

    pub(crate) async fn close(&self) {
        self.node.close().await;
    }
}

impl Target for Subject {
    async fn send(&self, order: usize, seed: u64) -> anyhow::Result<()> {
        let world = self.node.world();
        let id = uuid7(world.now(), world.random(), world.random());
        let order = self.node.entity::<Order>(OrderId::from(name(order)));
        let sent = order.send(AddLine::any(seed)).id(id).await;
        sent.map(drop).map_err(|error| anyhow!("{error:?}"))
    }
}

/// The bare log behind the channels that a straightforward client would use.
pub(crate) struct Reference {
    pub(crate) sender: mpsc::Sender<Append>,
}

impl Target for Reference {
    async fn send(&self, order: usize, seed: u64) -> anyhow::Result<()> {
        let entity = name(order);
        let event = AddLine::any(seed).into_event(entity.clone());
        let mut payload = Vec::with_capacity(crate::order::PAYLOAD);
        event.encode(&mut payload)?;
        let (done, answer) = oneshot::channel();
        let append = Append {
            entity,
            event_type: event.event_type(),
            payload,
            done,
        };
        let gone = "the bare log has ended";
        self.sender.send(append).await.ok().context(gone)?;
        answer.await.context(gone)?;
        Ok(())
    }
}
