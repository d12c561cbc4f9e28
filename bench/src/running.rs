//! An application on the embedded log, with what measurements want to know of it.

use std::path::Path;
use std::time::{Duration, Instant};

use everfold::engine::engine::{Area, Revision};
use everfold::{Application, Node, Open as _};

/// A node, and where it keeps the rows of its views.
pub(crate) struct Running {
    node: Node,
    view_areas: &'static [&'static str],
}

impl Running {
    pub(crate) async fn open(
        application: Application,
        directory: &Path,
        view_areas: &'static [&'static str],
    ) -> anyhow::Result<Self> {
        let path = directory.join("log");
        let address = format!("file:{}", path.display());
        let node = application.open(&address).await?;
        Ok(Self { node, view_areas })
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    pub(crate) fn durability(&self) -> String {
        self.node.engine().durability()
    }

    /// Batches appended so far, of all partitions.
    pub(crate) async fn batches(&self) -> anyhow::Result<u64> {
        let owners = self.node.owners().await?;
        Ok(owners.iter().map(|owner| owner.batches).sum())
    }

    /// Events that the views have not folded yet, of all views together.
    pub(crate) async fn behind(&self) -> anyhow::Result<u64> {
        let handlers = self.node.handlers().await?;
        Ok(handlers.iter().map(|handler| handler.behind).sum())
    }

    /// Waits until the views have folded everything and have stored it: what our side has left to do
    /// must not fall into the reference's time.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        let before = self.stored().await?;
        self.node.caught_up().await?;
        // Views tell nobody when they store their rows: it shows in how often they have.
        let patience = Instant::now() + Duration::from_secs(6);
        while self.stored().await? == before && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The parts of a view are stored one after the other; give the last ones time.
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

    /// How often the views' parts were stored.
    async fn stored(&self) -> anyhow::Result<u64> {
        let engine = self.node.engine();
        let mut stored = 0;
        for area in self.view_areas {
            for partition in engine.identity().layout.all() {
                let name = (*area).into();
                let Revision(revision) = engine.revision(&Area { name, partition }).await?;
                stored += revision;
            }
        }
        Ok(stored)
    }

    pub(crate) async fn close(&self) {
        self.node.close().await;
    }
}
