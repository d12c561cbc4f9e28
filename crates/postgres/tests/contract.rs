//! The engine contract over a real server, which is killed where a crash is asked for.

#![allow(clippy::unwrap_used, reason = "what supports a test fails with it")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use everfold_contract::{Ending, Harness, Log, Offers, PARTITIONS, run};
use everfold_engine::engine::{BoxFuture, Limits};
use everfold_engine::world::System;
use everfold_engine::{Engine, World};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_contract_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let server = PrivateServer::start(&directory.path().join("server"), &[]).unwrap();
    server.create_database("everfold").unwrap();
    let harness = Schemas {
        server: Arc::new(Mutex::new(server)),
        made: AtomicU64::new(0),
    };
    run(&harness).await.assert(NOT_APPLICABLE);
}
