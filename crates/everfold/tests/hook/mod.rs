//! An engine that fails or is slow exactly when a test says so.

#![allow(dead_code, reason = "each test uses its part")]

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use everfold::engine::engine::*;
use everfold::engine::memory::Memory;
use everfold::engine::slot::Partition;
use everfold::engine::{EntityKey, Record, World};
use everfold::prelude::*;
use everfold::{Node, NodeOptions, StateOptions};
use everfold_sim::Simulation;
use tokio::sync::watch;

use crate::bank::Account;

/// What goes wrong from now on.
#[derive(Default)]
pub struct Mode {
    pub append_delay: Duration,
    /// Appends wait until it says so.
    pub released: Option<watch::Receiver<bool>>,
    /// Appends are refused because of the store.
    pub full: bool,
    /// Appends have no known outcome, and claims fail for good.
    pub stopped: bool,
    /// Entities cannot be read.
    pub unreadable: bool,
    /// So many puts into areas with this beginning fail.
    pub failing_puts: Option<(&'static str, u32)>,
    /// So many puts happen, but their answer is lost.
    pub lost_puts: u32,
    pub scan_delay: Duration,
    /// Reading an entity takes so long.
    pub read_delay: Duration,
    pub put_delay: Option<(Partition, Duration)>,
}

pub struct Hook {
    inner: Arc<dyn Engine>,
    world: Arc<dyn World>,
    mode: Mutex<Mode>,
}

impl Hook {
    pub fn new(inner: Arc<dyn Engine>, world: Arc<dyn World>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            world,
            mode: Mutex::default(),
        })
    }

    pub fn mode(&self) -> MutexGuard<'_, Mode> {
        self.mode.lock().unwrap()
    }

    async fn pause(&self, duration: Duration) {
        if duration > Duration::ZERO {
            self.world.sleep(duration).await;
        }
    }
}

/// Accounts alone.
pub fn accounts() -> Application {
    Application::new("bank").entity::<Account>()
}

pub fn memory(world: &Arc<dyn World>, partitions: u16) -> Arc<dyn Engine> {
    Arc::new(Memory::new(world.clone(), partitions).unwrap())
}

pub async fn open(
    application: Application,
    engine: Arc<dyn Engine>,
    world: &Arc<dyn World>,
) -> Node {
    let node = application.open_on(engine, world.clone(), NodeOptions::default());
    node.await.unwrap()
}

/// Opens with a state store that is set up as a test asks for.
pub async fn open_with(
    application: Application,
    engine: Arc<dyn Engine>,
    world: &Arc<dyn World>,
    state: StateOptions,
) -> Node {
    let options = NodeOptions {
        state,
        ..NodeOptions::default()
    };
    let node = application.open_on(engine, world.clone(), options);
    node.await.unwrap()
}

/// Runs a test in a simulated world on an engine that does what the test asks for.
pub fn hooked(partitions: u16, test: impl AsyncFnOnce(Arc<Hook>, Arc<dyn World>)) -> Simulation {
    let simulation = Simulation::new(7);
    let world = simulation.world();
    let hook = Hook::new(memory(&world, partitions), world.clone());
    simulation.run(test(hook, world));
    simulation
}

/// An id of this partition that begins with `name`.
pub fn id_in(partition: u16, name: &str, engine: &dyn Engine) -> String {
    let layout = engine.identity().layout;
    let mut names = (0..).map(|number| format!("{name} {number}"));
    names
        .find(|id| layout.partition(id) == Partition(partition))
        .unwrap()
}

impl Engine for Hook {
    fn append(
        &self,
        partition: Partition,
        epoch: Epoch,
        batch: Batch,
    ) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async move {
            let delay = self.mode().append_delay;
            self.pause(delay).await;
            let released = self.mode().released.clone();
            if let Some(mut released) = released {
                let _ = released.wait_for(|released| *released).await;
            }
            let (full, stopped) = {
                let mode = self.mode();
                (mode.full, mode.stopped)
            };
            if full {
                return Err(Refusal::Full("no space".into()).into());
            }
            if stopped {
                return Err(AppendError::Unknown("the disk died".into()));
            }
            self.inner.append(partition, epoch, batch).await
        })
    }

    fn claim(&self, partition: Partition) -> BoxFuture<'_, Result<Claim, OwnerError>> {
        Box::pin(async move {
            if self.mode().stopped {
                return Err(OwnerError::Stopped("the disk died".into()));
            }
            self.inner.claim(partition).await
        })
    }

    fn read_entity<'a>(
        &'a self,
        partition: Partition,
        entity: &'a EntityKey,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Arc<Record>>, ReadError>> {
        if self.mode().unreadable {
            return Box::pin(async { Err(ReadError::Unavailable("for now".into())) });
        }
        Box::pin(async move {
            let delay = self.mode().read_delay;
            self.pause(delay).await;
            self.inner
                .read_entity(partition, entity, after, limit)
                .await
        })
    }

    fn put(&self, put: Put) -> BoxFuture<'_, Result<Revision, PutError>> {
        Box::pin(async move {
            let delay = self.mode().put_delay;
            if let Some((partition, delay)) = delay
                && partition == put.area.partition
            {
                self.pause(delay).await;
            }
            let (failing, lost) = {
                let mut mode = self.mode();
                let failing = mode.failing_puts.as_mut().is_some_and(|(name, left)| {
                    let hit = put.area.name.starts_with(*name) && *left > 0;
                    *left -= u32::from(hit);
                    hit
                });
                let lost = !failing && mode.lost_puts > 0;
                mode.lost_puts -= u32::from(lost);
                (failing, lost)
            };
            if failing {
                return Err(PutError::Unavailable("for now".into()));
            }
            let revision = self.inner.put(put).await;
            if lost {
                return Err(PutError::Unavailable("the answer is lost".into()));
            }
            revision
        })
    }

    fn scan<'a>(
        &'a self,
        area: &'a Area,
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Entries, ReadError>> {
        Box::pin(async move {
            let delay = self.mode().scan_delay;
            self.pause(delay).await;
            self.inner.scan(area, after, limit).await
        })
    }

    everfold::engine::forward! {
        identity limits coordinator renew release confirm read safe_head wait indexes_entities revision get doctor durability close
    }
}
