//! Opening the log of a demonstration, which in a database might be somebody else's.

use std::sync::Arc;

use anyhow::Context;
use everfold::engine::{Engine, Offset, World};

use super::{Directory, Settings, write};
use crate::failure::refused;
use crate::place::Reached;

impl<S: Settings> Directory<S> {
    /// Opens the log; empties it first if that is due. A log in a database is noted when it is first
    /// opened, and has to be the same from then on.
    ///
    /// # Errors
    /// The log holds what this demonstration did not put there, or it does not open.
    pub async fn open(
        &mut self,
        reached: &Reached,
        world: Arc<dyn World>,
    ) -> anyhow::Result<Arc<dyn Engine>> {
        let Some(address) = reached.database() else {
            return reached.open(world).await;
        };
        if self.marker.head.emptying {
            let log = reached.open(world.clone()).await?;
            let ours = self.is_ours(&*log).await;
            log.close().await;
            self.refuse_strange(ours?)?;
            everfold_postgres::remove(address).await?;
            self.marker.head.log = None;
            self.marker.head.emptying = false;
            write(&self.path, &self.marker)?;
        }
        let log = reached.open(world).await?;
        let checked = self.check(&*log).await;
        if let Err(error) = checked {
            log.close().await;
            return Err(error);
        }
        Ok(log)
    }

    async fn check(&mut self, log: &dyn Engine) -> anyhow::Result<()> {
        let ours = self.is_ours(log).await?;
        self.refuse_strange(ours)?;
        let incarnation = log.identity().incarnation.to_string();
        if self.marker.head.log.as_ref() == Some(&incarnation) {
            return Ok(());
        }
        // Nothing is in it: whatever was noted is gone, and so must be that it was loaded.
        self.marker.head.log = Some(incarnation);
        self.marker.complete = false;
        write(&self.path, &self.marker)
    }

    /// Whether a log is the one that was noted, or is empty.
    async fn is_ours(&self, log: &dyn Engine) -> anyhow::Result<bool> {
        let identity = log.identity();
        if self.marker.head.log.as_deref() == Some(&*identity.incarnation.to_string()) {
            return Ok(true);
        }
        for partition in identity.layout.all() {
            let head = log.safe_head(partition).await;
            if head.context("the log cannot be read")? > Offset(0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn refuse_strange(&self, ours: bool) -> anyhow::Result<()> {
        if ours {
            return Ok(());
        }
        let engine = self.marker.head.engine.as_deref().unwrap_or_default();
        Err(refused(format!(
            "the log in {engine} was not begun by the demonstration of {}, and was left alone; give \
             that directory with --data, or name another schema: ?schema=NAME",
            self.path.display()
        )))
    }
}
