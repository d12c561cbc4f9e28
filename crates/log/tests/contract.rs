//! The engine contract, in simulated worlds over a disk that loses what was not flushed, and in the
//! real one over files.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use everfold_contract::{Ending, Harness, Log as Opened, Offers, PARTITIONS, run};
use everfold_engine::engine::{BoxFuture, Limits};
use everfold_engine::world::System;
use everfold_engine::{Engine, World};
use everfold_log::disk::Crash;
use everfold_log::{Log, MemoryDisk, Options};
use everfold_sim::Simulation;

const NOT_APPLICABLE: &[&str] = &["an_engine_without_an_index_says_so"];

/// Segments of two sizes: so small that most of a log is packed and its indexes are merged, or so
/// large that little is.
fn options(small: bool) -> Options {
    let mut options = Options::default();
    options.partitions = Some(PARTITIONS);
    if small {
        (options.first_segment_bytes, options.segment_bytes) = (16 << 10, 16 << 10);
        (options.tail_bytes, options.plain_segments) = (0, 1);
        options.read_cache_bytes = 64 << 10;
    } else {
        (options.first_segment_bytes, options.segment_bytes) = (64 << 10, 128 << 10);
        options.tail_bytes = 64 << 10;
    }
    options.limits = Limits {
        event_bytes: 16 << 10,
        unit_bytes: 64 << 10,
        batch_bytes: 256 << 10,
        batch_records: 64,
    };
    options
}

/// Where the next log lies: in memory, or in a directory of its own below this one.
struct Logs {
    world: Arc<dyn World>,
    small: bool,
    directory: Option<PathBuf>,
    made: AtomicU64,
}

impl Harness for Logs {
    fn name(&self) -> String {
        "embedded log".into()
    }

    fn world(&self) -> Arc<dyn World> {
        Arc::clone(&self.world)
    }

    fn offers(&self) -> Offers {
        Offers::ALL
    }

    fn fresh(&self) -> BoxFuture<'_, Box<dyn Opened>> {
        Box::pin(async {
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            let world = Arc::clone(&self.world);
            let log: Box<dyn Opened> = match &self.directory {
                Some(directory) => Box::new(OnFiles {
                    world,
                    small: self.small,
                    path: directory.join(number.to_string()),
                }),
                None => Box::new(InMemory {
                    world,
                    small: self.small,
                    disk: Mutex::default(),
                }),
            };
            log
        })
    }
}

struct InMemory {
    world: Arc<dyn World>,
    small: bool,
    disk: Mutex<MemoryDisk>,
}

impl Opened for InMemory {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Engine>> {
        Box::pin(async {
            let disk = self.disk.lock().unwrap().clone();
            let log = Log::open(Arc::new(disk), Arc::clone(&self.world), options(self.small));
            log.unwrap() as Arc<dyn Engine>
        })
    }

    fn reopen(&self, engine: Arc<dyn Engine>, ending: Ending) -> BoxFuture<'_, Arc<dyn Engine>> {
        Box::pin(async move {
            if ending == Ending::Closed {
                engine.close().await;
            }
            // Power fails in either case; the old machine goes on for nobody.
            let kind = Crash::Sectors(self.world.random());
            let after = self.disk.lock().unwrap().crash(kind);
            *self.disk.lock().unwrap() = after;
            drop(engine);
            self.open().await
        })
    }
}

struct OnFiles {
    world: Arc<dyn World>,
    small: bool,
    path: PathBuf,
}

impl Opened for OnFiles {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Engine>> {
        Box::pin(async {
            let log = Log::open_directory(&self.path, Arc::clone(&self.world), options(self.small));
            log.unwrap() as Arc<dyn Engine>
        })
    }

    fn reopen(&self, engine: Arc<dyn Engine>, _: Ending) -> BoxFuture<'_, Arc<dyn Engine>> {
        Box::pin(async move {
            // One process cannot vanish from itself: the lock has to be given back first.
            engine.close().await;
            drop(engine);
            self.open().await
        })
    }
}

#[test]
fn in_simulated_worlds() {
    for seed in 0..4 {
        let simulation = Simulation::new(seed);
        let harness = Logs {
            world: simulation.world(),
            small: seed % 2 == 1,
            directory: None,
            made: AtomicU64::new(0),
        };
        simulation.run(run(&harness)).assert(NOT_APPLICABLE);
    }
}

#[test]
fn a_seed_runs_the_suite_twice_in_the_same_way() {
    let trace = || {
        let simulation = Simulation::new(7);
        let harness = Logs {
            world: simulation.world(),
            small: true,
            directory: None,
            made: AtomicU64::new(0),
        };
        simulation.run(run(&harness)).assert(NOT_APPLICABLE);
        simulation.trace_hash()
    };
    assert_eq!(trace(), trace());
}

#[tokio::test(flavor = "multi_thread")]
async fn on_files() {
    for small in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let harness = Logs {
            world: System::current(),
            small,
            directory: Some(directory.path().to_owned()),
            made: AtomicU64::new(0),
        };
        run(&harness).await.assert(NOT_APPLICABLE);
    }
}
