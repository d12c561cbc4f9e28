//! Harnesses over the reference engine.

use std::sync::Arc;

use everfold_contract::{Harness, Log, Offers, PARTITIONS};
use everfold_engine::engine::{BoxFuture, Limits};
use everfold_engine::indexed::Indexed;
use everfold_engine::memory::Memory;
use everfold_engine::{Engine, World};

/// Puts something around the store each time it is opened.
pub(crate) type Open = Arc<dyn Fn(Arc<Memory>) -> Arc<dyn Engine> + Send + Sync>;

/// Logs in memory. The store outlives its handles, so that "opened again" means something.
pub(crate) struct InMemory {
    pub(crate) world: Arc<dyn World>,
    pub(crate) offers: Offers,
    /// What one opened log is; made anew for each log.
    pub(crate) open: Box<dyn Fn() -> Open + Send + Sync>,
    pub(crate) index: bool,
    pub(crate) name: String,
}

impl InMemory {
    /// The engine itself.
    pub(crate) fn plain(world: Arc<dyn World>) -> Self {
        Self {
            world,
            offers: Offers::ALL,
            open: Box::new(|| Arc::new(|store| store)),
            index: true,
            name: "memory".into(),
        }
    }

    /// Without an entity index, like an engine over a plain message log.
    pub(crate) fn bare(world: Arc<dyn World>) -> Self {
        Self {
            offers: Offers {
                entities: false,
                ..Offers::ALL
            },
            index: false,
            name: "memory without index".into(),
            ..Self::plain(world)
        }
    }

    /// The same, served through the runtime's index.
    pub(crate) fn indexed(world: Arc<dyn World>) -> Self {
        Self {
            index: false,
            open: Box::new(|| Arc::new(|store| Indexed::over(store, 1))),
            name: "memory, indexed".into(),
            ..Self::plain(world)
        }
    }

    /// As it is used: nothing outlives the process.
    pub(crate) fn fleeting(world: Arc<dyn World>) -> Self {
        Self {
            offers: Offers {
                durable: false,
                ..Offers::ALL
            },
            name: "memory, fleeting".into(),
            ..Self::plain(world)
        }
    }
}

impl Harness for InMemory {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn world(&self) -> Arc<dyn World> {
        self.world.clone()
    }

    fn offers(&self) -> Offers {
        self.offers
    }

    fn fresh(&self) -> BoxFuture<'_, Box<dyn Log>> {
        Box::pin(async {
            // The smallest that the suite takes.
            let limits = Limits {
                event_bytes: 16 << 10,
                unit_bytes: 64 << 10,
                batch_bytes: 256 << 10,
                batch_records: 64,
            };
            let mut store = Memory::new(self.world.clone(), PARTITIONS)
                .unwrap()
                .with_limits(limits);
            if !self.index {
                store = store.without_index();
            }
            let log: Box<dyn Log> = Box::new(Store {
                store: Arc::new(store),
                open: (self.open)(),
            });
            log
        })
    }
}

struct Store {
    store: Arc<Memory>,
    open: Open,
}

impl Log for Store {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Engine>> {
        Box::pin(async { (self.open)(self.store.clone()) })
    }
}
