//! A node over small segments, some days from now.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use everfold::engine::engine;
use everfold::engine::world::System;
use everfold::engine::{Timestamp, World};
use everfold::prelude::*;
use everfold::{Node, NodeOptions, StateOptions, StateStore};
use everfold_log::{Log, Options};

use crate::bank::*;

/// The system's world, some time later.
pub struct Later {
    inner: Arc<dyn World>,
    by: Duration,
}

impl World for Later {
    fn now(&self) -> Timestamp {
        Timestamp(self.inner.now().0 + self.by.as_micros() as i64)
    }

    fn elapsed(&self) -> Duration {
        self.inner.elapsed()
    }

    fn random(&self) -> u64 {
        self.inner.random()
    }

    fn spawn(&self, name: &'static str, task: engine::BoxFuture<'static, ()>) {
        self.inner.spawn(name, task);
    }

    fn sleep(&self, time: Duration) -> engine::BoxFuture<'static, ()> {
        self.inner.sleep(time)
    }

    fn block(&self, name: &'static str, job: Box<dyn FnOnce() + Send>) {
        self.inner.block(name, job);
    }

    fn drive(
        &self,
        name: &'static str,
        machine: Box<dyn everfold::engine::world::Machine>,
    ) -> Arc<dyn everfold::engine::world::Poke> {
        self.inner.drive(name, machine)
    }
}

pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// `days` from now, over small segments.
pub async fn open(application: Application, path: &Path, days: u32, store: StateStore) -> Node {
    let world: Arc<dyn World> = Arc::new(Later {
        inner: System::current(),
        by: DAY * days,
    });
    let mut options = Options::default();
    options.partitions = Some(2);
    options.first_segment_bytes = 16 << 10;
    options.segment_bytes = 16 << 10;
    options.tail_bytes = 16 << 10;
    let log = Log::open_directory(path, world.clone(), options).unwrap();
    let state = StateOptions {
        store,
        ..StateOptions::default()
    };
    let options = NodeOptions {
        state,
        ..NodeOptions::default()
    };
    application.open_on(log, world, options).await.unwrap()
}

pub async fn deposit(node: &Node, account: &str, times: i64) {
    for _ in 0..times {
        let id = AccountId::from(account.to_owned());
        node.entity::<Account>(id)
            .send(Deposit { amount: 1 })
            .await
            .unwrap();
    }
}

pub async fn balance(node: &Node, account: &str) -> (i64, u64) {
    let id = AccountId::from(account.to_owned());
    let entity = node.entity::<Account>(id);
    entity
        .read(|account, version| (account.balance, version))
        .await
        .unwrap()
}
