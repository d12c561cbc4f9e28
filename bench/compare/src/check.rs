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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::front::Versions;
    use crate::store::{Replayed, Work};

    /// Which mistakes a store makes.
    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        None,
        TakesAnything,
        TakesVersionsAhead,
        TakesRepeats,
    }

    struct Faulty(Fault, Mutex<Versions>);

    impl Store for Faulty {
        fn append(&self, event: Event, expected: u64) -> Work<'_, Result<u64, Refused>> {
            Box::pin(async move {
                let mut versions = self.1.lock().unwrap();
                let right = versions.next(&event.entity, expected);
                match self.0 {
                    Fault::TakesAnything => Ok(expected + 1),
                    Fault::TakesVersionsAhead if expected > 2 => Ok(expected + 1),
                    Fault::TakesRepeats if expected == 0 => Ok(1),
                    _ => right,
                }
            })
        }

        fn replay(&self) -> Work<'_, anyhow::Result<Replayed>> {
            Box::pin(async { Ok(Replayed::default()) })
        }

        fn history(&self, _: usize) -> Work<'_, anyhow::Result<Option<Replayed>>> {
            Box::pin(async { Ok(None) })
        }

        fn close(&self) -> Work<'_, anyhow::Result<()>> {
            Box::pin(async { Ok(()) })
        }
    }

    fn passes(fault: Fault, checks: Checks) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let store = Faulty(fault, Mutex::new(Versions::new()));
        runtime.block_on(refuses_conflicts(&store, checks)).is_ok()
    }

    #[test]
    fn a_store_that_does_not_check_is_found_out() {
        assert!(passes(Fault::None, Checks::Version));
        assert!(!passes(Fault::TakesAnything, Checks::Version));
        assert!(!passes(Fault::TakesAnything, Checks::NothingLater));
        assert!(!passes(Fault::TakesRepeats, Checks::NothingLater));
        assert!(!passes(Fault::TakesVersionsAhead, Checks::Version));
        assert!(passes(Fault::TakesVersionsAhead, Checks::NothingLater));
    }
}
