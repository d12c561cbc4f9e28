//! Before anything is measured: a wrong expected version must be refused.

use anyhow::{Context as _, bail, ensure};

use crate::store::{Refused, Store};
use crate::stores::Checks;
use crate::workload::{ENTITIES, Event};

/// Beyond the entities that writers have.
const ENTITY: usize = ENTITIES + 1;

/// Appends two events to an entity of its own, and tries what must not be appended in between.
pub(crate) async fn refuses_conflicts(store: &dyn Store, checks: Checks) -> anyhow::Result<()> {
    store.expect_writers(1).await?;
    let first = accepted(store, 0).await.context("the first event")?;
    refused(store, 0).await.context("the first event again")?;
    if checks == Checks::Version {
        refused(store, first + 5).await.context("a version ahead")?;
    }
    let second = accepted(store, first).await.context("the second event")?;
    refused(store, first)
        .await
        .context("the second event again")?;
    ensure!(second != first, "two events have the same version");
    if let Some(found) = store.history(ENTITY).await? {
        ensure!(found.events == 2, "{found:?} after two events");
    }
    Ok(())
}

async fn accepted(store: &dyn Store, expected: u64) -> anyhow::Result<u64> {
    match store.append(Event::any(ENTITY, expected)?, expected).await {
        Ok(next) => Ok(next),
        Err(Refused::Conflict) => bail!("refused, though version {expected} is right"),
        Err(Refused::Failed(error)) => Err(error),
    }
}

async fn refused(store: &dyn Store, expected: u64) -> anyhow::Result<()> {
    // Another seed than the accepted events': stores may answer a repeated event as before.
    let event = Event::any(ENTITY, 1_000 + expected)?;
    match store.append(event, expected).await {
        Ok(_) => bail!("appended, though version {expected} is wrong"),
        Err(Refused::Conflict) => Ok(()),
        Err(Refused::Failed(error)) => Err(error),
    }
}
