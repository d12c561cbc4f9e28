//! The engine contract over a real server, which is killed where a crash is asked for.

#![allow(clippy::unwrap_used, reason = "what supports a test fails with it")]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfold_contract::{
    Coordination, Ending, Harness, Log, Offers, PARTITIONS, SharedLog, run, run_coordination,
};
use everfold_engine::engine::{BoxFuture, Limits};
use everfold_engine::world::{Machine, Poke, System};
use everfold_engine::{Coordinator, Engine, Layout, Timestamp, World};
use everfold_postgres::server::PrivateServer;
use everfold_postgres::{Options, Postgres};

const NOT_APPLICABLE: &[&str] = &["an_engine_without_an_index_says_so"];

type Server = Arc<Mutex<PrivateServer>>;

struct Schemas {
    server: Server,
    made: AtomicU64,
}

impl Harness for Schemas {
    fn name(&self) -> String {
        "PostgreSQL".into()
    }

    fn world(&self) -> Arc<dyn World> {
        System::current()
    }

    fn offers(&self) -> Offers {
        Offers::ALL
    }

    fn fresh(&self) -> BoxFuture<'_, Box<dyn Log>> {
        Box::pin(async {
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            let server = self.server.clone();
            Box::new(Schema { server, number }) as Box<dyn Log>
        })
    }
}

struct Schema {
    server: Server,
    number: u64,
}

impl Log for Schema {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Engine>> {
        Box::pin(async {
            let base = self.server.lock().unwrap().address("everfold");
            let address = format!("{base}?schema=log_{}", self.number);
            let options = Options {
                partitions: Some(PARTITIONS),
                limits: Limits {
                    event_bytes: 16 << 10,
                    unit_bytes: 64 << 10,
                    batch_bytes: 256 << 10,
                    batch_records: 64,
                },
                ..Options::default()
            };
            let log = Postgres::open(&address, System::current(), options).await;
            log.unwrap() as Arc<dyn Engine>
        })
    }

    fn reopen(&self, engine: Arc<dyn Engine>, ending: Ending) -> BoxFuture<'_, Arc<dyn Engine>> {
        Box::pin(async move {
            match ending {
                Ending::Closed => engine.close().await,
                Ending::Crashed => {
                    let mut server = self.server.lock().unwrap();
                    server.kill();
                    server.restart().unwrap();
                }
            }
            drop(engine);
            self.open().await
        })
    }
}

impl Coordination for Schemas {
    fn name(&self) -> String {
        "PostgreSQL".into()
    }

    fn world(&self) -> Arc<dyn World> {
        System::current()
    }

    fn lease(&self) -> Duration {
        Duration::from_millis(300)
    }

    fn fresh(&self) -> BoxFuture<'_, Box<dyn SharedLog>> {
        Box::pin(async {
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            let server = self.server.lock().unwrap();
            let address = format!("{}?schema=log_{number}", server.address("everfold"));
            let opened = Mutex::default();
            Box::new(Shared { address, opened }) as Box<dyn SharedLog>
        })
    }
}

/// A log that each node opens by itself.
struct Shared {
    address: String,
    /// Coordinators end with the logs that they are of.
    opened: Mutex<Vec<Arc<Postgres>>>,
}

impl SharedLog for Shared {
    fn layout(&self) -> Layout {
        Layout::first(PARTITIONS).unwrap()
    }

    fn coordinator(&self, hours: i64) -> BoxFuture<'_, Arc<dyn Coordinator>> {
        Box::pin(async move {
            let options = Options {
                partitions: Some(PARTITIONS),
                ..Options::default()
            };
            let world = System::current();
            let world = Arc::new(Ahead { world, hours });
            let log = Postgres::open(&self.address, world, options).await.unwrap();
            self.opened.lock().unwrap().push(log.clone());
            log.coordinator().unwrap()
        })
    }
}

/// The world of a machine whose clock is wrong by so many hours.
struct Ahead {
    world: Arc<System>,
    hours: i64,
}

impl World for Ahead {
    fn now(&self) -> Timestamp {
        Timestamp(self.world.now().0 + self.hours * 3_600_000_000)
    }

    fn elapsed(&self) -> Duration {
        self.world.elapsed()
    }

    fn random(&self) -> u64 {
        self.world.random()
    }

    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        self.world.spawn(name, task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.world.sleep(duration)
    }

    fn block(&self, name: &'static str, job: Box<dyn FnOnce() + Send>) {
        self.world.block(name, job);
    }

    fn drive(&self, name: &'static str, machine: Box<dyn Machine>) -> Arc<dyn Poke> {
        self.world.drive(name, machine)
    }
}

fn schemas(directory: &Path) -> Schemas {
    let settings = [("max_connections", "200")];
    let server = PrivateServer::start(&directory.join("server"), &settings).unwrap();
    server.create_database("everfold").unwrap();
    Schemas {
        server: Arc::new(Mutex::new(server)),
        made: AtomicU64::new(0),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_contract_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let harness = schemas(directory.path());
    run(&harness).await.assert(NOT_APPLICABLE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_coordination_contract_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let harness = schemas(directory.path());
    run_coordination(&harness).await.assert(&[]);
}
