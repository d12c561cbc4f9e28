//! What waits on a node for the owner of one partition: how much that may be, and for how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::serve::MOST_UNITS;

/// Work below this number is taken without a look at its size: to measure it costs as much as to
/// write it down.
const FEW: usize = 64;
/// The bounds of what is said to who is refused.
const HINT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(5));

/// Requests of one partition that are on their way to another node at a time: several partitions share the
/// connection, and one whose owner is held up must leave room for the others.
const CARRIED: usize = 512;
/// How much of the work that waits for a new owner asks for it at a time: when it comes, it is not to
/// find everything at its door at once.
const REPEATS: usize = 64;

/// How much may wait per partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    pub(crate) commands: usize,
    pub(crate) bytes: usize,
    pub(crate) time: Duration,
}

/// Counts what a partition's owner, here or on another node, has yet to answer to this one.
#[derive(Debug)]
pub(crate) struct Backlog {
    allowed: Allowed,
    waiting: AtomicUsize,
    bytes: AtomicUsize,
    watching: AtomicUsize,
    /// What one batch takes lately, in nanoseconds; 0 while nothing is known.
    batch: AtomicU64,
    /// How many commands a batch holds when more wait than fit.
    units: AtomicUsize,
    /// When the batch on its way has left, plus one; 0 for none.
    left: AtomicU64,
    /// What another node's answer takes lately, in nanoseconds.
    carried: AtomicU64,
    /// Who has been turned away by a node and asks again.
    repeats: Semaphore,
    on_the_way: Semaphore,
}

impl Backlog {
    pub(crate) fn new(allowed: Allowed) -> Self {
        Self {
            allowed,
            waiting: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            watching: AtomicUsize::new(0),
            batch: AtomicU64::new(0),
            units: AtomicUsize::new(MOST_UNITS),
            left: AtomicU64::new(0),
            carried: AtomicU64::new(0),
            repeats: Semaphore::new(REPEATS),
            on_the_way: Semaphore::new(CARRIED),
        }
    }

    /// A place for one more piece of work, or how long to stay away. `bytes` is asked only where many
    /// wait; `now` is the time since the world began.
    pub(crate) fn admit(
        self: &Arc<Self>,
        bytes: impl FnOnce() -> usize,
        now: impl Fn() -> Duration,
    ) -> Result<Place, Duration> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut place = Place(Some(Held {
            backlog: self.clone(),
            bytes: 0,
            watches: false,
        }));
        if before < FEW {
            return Ok(place);
        }
        let Allowed {
            commands,
            bytes: most,
            time,
        } = self.allowed;
        // Fewer than go into one batch wait for one batch only, however long that one takes.
        let late = || before > MOST_UNITS && self.wait(now()) > time;
        if before >= commands || late() {
            return Err(self.hint(now()));
        }
        let bytes = bytes();
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > most {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(self.hint(now()));
        }
        if let Some(held) = &mut place.0 {
            held.bytes = bytes;
        }
        Ok(place)
    }

    /// How long it takes until what waits now is done.
    fn wait(&self, now: Duration) -> Duration {
        let read = |figure: &AtomicU64| Duration::from_nanos(figure.load(Ordering::Relaxed));
        let left = self.left.load(Ordering::Relaxed);
        let under_way = match left {
            0 => Duration::ZERO,
            left => now.saturating_sub(Duration::from_nanos(left - 1)),
        };
        let batch = read(&self.batch).max(under_way);
        let (turn, units) = match batch.is_zero() {
            true => (read(&self.carried), CARRIED),
            false => (batch, self.units.load(Ordering::Relaxed)),
        };
        let turns = self.waiting.load(Ordering::Relaxed) / units + 1;
        turn.saturating_mul(u32::try_from(turns).unwrap_or(u32::MAX))
    }

    /// When to come back: half of what waits is done by then, so there is room, and still work.
    pub(crate) fn hint(&self, now: Duration) -> Duration {
        (self.wait(now) / 2).clamp(HINT.0, HINT.1)
    }

    /// A batch of so many commands has left; `full`: more wait than fitted.
    pub(crate) fn left(&self, now: Duration, units: usize, full: bool) {
        if full {
            self.units.store(units.max(1), Ordering::Relaxed);
        }
        self.left.store(nanos(now) + 1, Ordering::Relaxed);
    }

    /// The batch on its way has landed.
    pub(crate) fn landed(&self, now: Duration) {
        let left = self.left.swap(0, Ordering::Relaxed);
        if left > 0 {
            learn(&self.batch, nanos(now).saturating_sub(left - 1));
        }
    }

    /// The partition is not this node's any more: what a batch takes is another one's to say.
    pub(crate) fn rest(&self) {
        self.left.store(0, Ordering::Relaxed);
        self.batch.store(0, Ordering::Relaxed);
    }

    /// Leave to ask another node, when not too many others do; to ask again, when few do.
    pub(crate) async fn may_ask(&self, again: bool) -> Option<SemaphorePermit<'_>> {
        let places = if again {
            &self.repeats
        } else {
            &self.on_the_way
        };
        places.acquire().await.ok()
    }

    /// Another node has answered after so long.
    pub(crate) fn answered(&self, took: Duration) {
        learn(&self.carried, nanos(took));
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX - 1)
}

/// Recent values count most; a lost lesson does no harm.
fn learn(figure: &AtomicU64, seen: u64) {
    let known = figure.load(Ordering::Relaxed);
    let next = match known {
        0 => seen,
        known => known / 4 * 3 + seen / 4,
    };
    figure.store(next.max(1), Ordering::Relaxed);
}

/// A place among what waits, free again when this is dropped. A copy of an envelope has none.
#[derive(Debug, Default)]
pub(crate) struct Place(Option<Held>);

#[derive(Debug)]
struct Held {
    backlog: Arc<Backlog>,
    bytes: usize,
    watches: bool,
}

impl Place {
    /// Goes on waiting without being counted among the commands: nothing has to be done for it
    /// before its entity changes. Says when to come back if too many wait so.
    pub(crate) fn watch(&mut self, now: impl Fn() -> Duration) -> Result<(), Duration> {
        let Some(held) = self.0.as_mut().filter(|held| !held.watches) else {
            return Ok(());
        };
        let backlog = &held.backlog;
        let before = backlog.watching.fetch_add(1, Ordering::Relaxed);
        if before >= backlog.allowed.commands {
            backlog.watching.fetch_sub(1, Ordering::Relaxed);
            return Err(backlog.hint(now()));
        }
        backlog.waiting.fetch_sub(1, Ordering::Relaxed);
        held.watches = true;
        Ok(())
    }
}

impl Clone for Place {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let counted = match self.watches {
            true => &self.backlog.watching,
            false => &self.backlog.waiting,
        };
        counted.fetch_sub(1, Ordering::Relaxed);
        self.backlog.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
