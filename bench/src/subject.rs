//! Both sides of the measurement as targets of the same clients.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use everfold::Event as _;
use everfold::engine::uuid7;
use tokio::sync::{mpsc, oneshot};

use crate::bare_event::Append;
use crate::load::Target;
use crate::order::{AddLine, Order, OrderId, name, shop};
use crate::running::Running;

/// Where the runtime keeps the view's rows.
const VIEW_AREAS: &[&str] = &["view/sums/1"];

/// The application on the embedded log.
pub(crate) struct Subject {
    pub(crate) running: Running,
}

impl Subject {
    pub(crate) async fn open(directory: &Path) -> anyhow::Result<Self> {
        let running = Running::open(shop(), directory, VIEW_AREAS).await?;
        Ok(Self { running })
    }
}

impl Target for Subject {
    async fn send(&self, order: usize, seed: u64) -> anyhow::Result<()> {
        let node = self.running.node();
        let world = node.world();
        let id = uuid7(world.now(), world.random(), world.random());
        let order = node.entity::<Order>(OrderId::from(name(order)));
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
