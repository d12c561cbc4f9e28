//! The store's roster of nodes as a node reaches it: over the network, like everything of the store.

use std::sync::Arc;
use std::time::Duration;

use everfold::engine::coordination::{
    Beat, CoordinationError, Coordinator, JoinError, Member, NodeId, Plan, PlanError, Roster,
};
use everfold::engine::engine::BoxFuture;

use crate::remote::{Line, SILENT};

pub(crate) struct RemoteRoster {
    line: Line,
}

impl RemoteRoster {
    pub(crate) fn new(line: Line) -> Self {
        Self { line }
    }

    /// `None` if no answer came: it may or may not have been done.
    async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(Arc<dyn Coordinator>) -> BoxFuture<'static, T> + Send + 'static,
    ) -> Option<T> {
        let asked = self
            .line
            .ask(move |engine| Box::pin(async move { Some(job(engine.coordinator()?).await) }));
        asked.await.flatten()
    }
}

impl Coordinator for RemoteRoster {
    fn join(&self, member: Member, lease: Duration) -> BoxFuture<'_, Result<Roster, JoinError>> {
        Box::pin(async move {
            let asked = self.ask(move |it| Box::pin(async move { it.join(member, lease).await }));
            let silent = || Err(JoinError::Unavailable(SILENT.into()));
            asked.await.unwrap_or_else(silent)
        })
    }

    fn beat(&self, node: NodeId, beat: Beat) -> BoxFuture<'_, Result<Roster, CoordinationError>> {
        Box::pin(async move {
            let asked = self.ask(move |it| Box::pin(async move { it.beat(node, beat).await }));
            asked.await.unwrap_or_else(silent)
        })
    }

    fn plan(&self, node: NodeId, plan: Plan) -> BoxFuture<'_, Result<(), PlanError>> {
        Box::pin(async move {
            let asked = self.ask(move |it| Box::pin(async move { it.plan(node, plan).await }));
            let silent = || Err(PlanError::Unavailable(SILENT.into()));
            asked.await.unwrap_or_else(silent)
        })
    }

    fn leave(&self, node: NodeId) -> BoxFuture<'_, Result<(), CoordinationError>> {
        Box::pin(async move {
            let asked = self.ask(move |it| Box::pin(async move { it.leave(node).await }));
            asked.await.unwrap_or_else(silent)
        })
    }

    fn look(&self) -> BoxFuture<'_, Result<Roster, CoordinationError>> {
        Box::pin(async move {
            let asked = self.ask(|it| Box::pin(async move { it.look().await }));
            asked.await.unwrap_or_else(silent)
        })
    }
}

fn silent<T>() -> Result<T, CoordinationError> {
    Err(CoordinationError::Unavailable(SILENT.into()))
}
