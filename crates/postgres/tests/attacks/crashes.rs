//! Guarantee: however often the server is killed, what was acknowledged is there, and the engines that
//! are open go on by themselves once it is back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use everfold_engine::engine::AppendError;
use everfold_engine::world::System;
use everfold_engine::{Engine, Partition, World};
use tokio::sync::watch;

use crate::owner::{Owner, names, sound};
use crate::servers::{Server, open};

/// Between two claims of a server that is away.
const PAUSE: Duration = Duration::from_millis(10);

async fn reached(told: &watch::Sender<usize>, until: usize) {
    let mut told = told.subscribe();
    told.wait_for(|told| *told >= until).await.unwrap();
}

/// Appends until told to stop, claiming anew whenever it has to; returns what was acknowledged.
async fn appending(
    engine: Arc<dyn Engine>,
    partition: u16,
    told: Arc<watch::Sender<usize>>,
    stop: Arc<AtomicBool>,
) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        // While the server is away this fails, soon or when patience ends.
        let Ok(claim) = engine.claim(Partition(partition)).await else {
            System::current().sleep(PAUSE).await;
            continue;
        };
        let Some(mut owner) = Owner::of(engine.clone(), Partition(partition), claim).await else {
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let name = format!("{partition}-{number}");
            match owner.append(&[&name, "all", &name]).await {
                Ok(_) => {
                    acknowledged.push(name);
                    told.send_modify(|told| *told += 1);
                }
                Err(AppendError::Refused(_)) => {}
                Err(_) => break,
            }
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    const PARTITIONS: u16 = 4;
    let mut server = Server::own(&[]);
    let address = server.fresh();
    let engines = [open(&address).await, open(&address).await];
    let (told, stop) = (
        Arc::new(watch::Sender::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let mut owners = Vec::new();
    for partition in 0..PARTITIONS {
        let engine = engines[usize::from(partition) % 2].clone();
        let (told, stop) = (told.clone(), stop.clone());
        owners.push(tokio::spawn(appending(engine, partition, told, stop)));
    }
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..6 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        // Every round is one more proof that appends go on by themselves.
        let until = *told.borrow() + 1 + (seed % 120) as usize;
        reached(&told, until).await;
        server = tokio::task::spawn_blocking(move || {
            server.server.kill();
            server.server.restart().unwrap();
            server
        })
        .await
        .unwrap();
    }
    let until = *told.borrow() + 50;
    reached(&told, until).await;
    stop.store(true, Ordering::Relaxed);
    for (partition, owner) in (0..PARTITIONS).zip(owners) {
        let acknowledged = owner.await.unwrap();
        assert!(!acknowledged.is_empty());
        let reader = &engines[usize::from(partition + 1) % 2];
        let records = sound(&**reader, Partition(partition)).await;
        let found = names(&records);
        let mut order = found.iter().filter(|name| **name != "all");
        for name in &acknowledged {
            assert_eq!(
                order
                    .by_ref()
                    .filter(|found| *found == name)
                    .take(2)
                    .count(),
                2
            );
        }
        // Those nobody heard of are there once, or not at all.
        let distinct: BTreeSet<_> = found.iter().filter(|name| **name != "all").collect();
        let units = found.iter().filter(|name| **name == "all").count();
        assert_eq!(distinct.len(), units);
        assert_eq!(found.len(), 3 * units);
        let head = engines[0].safe_head(Partition(partition)).await.unwrap();
        assert_eq!(head.0 as usize, found.len());
    }
}
