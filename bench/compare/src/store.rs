//! What every store is asked for.

use std::pin::Pin;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::workload::Event;

/// A future that may be held by a trait object and sent to another thread.
pub(crate) type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why an append did not happen.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The entity is not where the writer believed it to be.
    Conflict,
    /// Anything else.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Everything that a replay handed over.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Replayed {
    pub(crate) events: usize,
    /// Of payloads. Adding them up touches what was handed over.
    pub(crate) bytes: usize,
}

impl Replayed {
    pub(crate) fn add(&mut self, payload: usize) {
        self.events += 1;
        self.bytes += payload;
    }
}

/// Where a subscriber says when it held an event.
pub(crate) type Held = mpsc::UnboundedSender<Instant>;

/// A store that is open.
pub(crate) trait Store: Send + Sync {
    /// Appends one event if its entity is where `expected` says, and completes when the event is
    /// durable. Answers with what the entity's next append has to expect; 0 is an entity without
    /// events.
    fn append(&self, event: Event, expected: u64) -> Work<'_, Result<u64, Refused>>;

    /// When an append is acknowledged on this machine, where the store finds out by itself.
    fn durability(&self) -> Option<String> {
        None
    }

    /// So many writers will append from now on: time to have connections for them.
    fn expect_writers(&self, _writers: usize) -> Work<'_, anyhow::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    /// The whole log, in the store's order.
    fn replay(&self) -> Work<'_, anyhow::Result<Replayed>>;

    /// The events of one entity, in order; `None` if the store has no way to find them as it is set
    /// up here.
    fn history(&self, entity: usize) -> Work<'_, anyhow::Result<Option<Replayed>>>;

    /// Has a subscriber say when it holds each event that is appended from now on; false if the store
    /// has none, as it is set up here. It ends when nobody listens or the store is closed.
    fn follow(&self, _held: Held) -> Work<'_, anyhow::Result<bool>> {
        Box::pin(async { Ok(false) })
    }

    /// Finishes what is in flight and lets go of the files; ends the server, if there is one.
    fn close(&self) -> Work<'_, anyhow::Result<()>>;
}
