//! Fills a log: all entities in turn, so that the events of one lie far apart.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use everfold_engine::world::{System, World};
use everfold_engine::{Engine as _, EntityKey};
use everfold_log::{Log, Options};

use super::files::at_rest;
use crate::load::mix;
use crate::log::Front;
use crate::order::name;
use crate::unit::{Ids, Maker};

/// What a log is filled with.
pub(super) struct Load {
    pub(super) entities: usize,
    /// Events of each.
    pub(super) rounds: usize,
    /// Events of a batch.
    pub(super) batch: usize,
    pub(super) ids: Ids,
}

/// The entity with a number.
pub(super) fn entity(number: usize) -> EntityKey {
    EntityKey::new("order", name(number))
}

/// Fills a new log and closes it when it has come to rest; events per second.
pub(super) async fn load(directory: &Path, options: &Options, load: &Load) -> anyhow::Result<f64> {
    let world: Arc<dyn World> = System::current();
    let log = Log::open_directory(directory, world.clone(), options.clone())?;
    let layout = log.identity().layout;
    let maker = Arc::new(Maker::new(load.ids, layout));
    let begin = Instant::now();
    let mut tasks = Vec::new();
    for partition in layout.all() {
        let mut front = Front::claim(log.clone(), world.clone(), partition, Arc::default()).await?;
        let (maker, world) = (maker.clone(), world.clone());
        let (rounds, batch) = (load.rounds, load.batch);
        let own: Vec<usize> = (0..load.entities)
            .filter(|number| layout.partition_of(entity(*number).slot()) == partition)
            .collect();
        tasks.push(tokio::spawn(async move {
            for round in 0..rounds {
                for number in &own {
                    let seed = mix((round as u64) << 32 | *number as u64);
                    let now = world.now();
                    let (_, records) = maker.unit(*number, seed, 1, now)?;
                    records
                        .into_iter()
                        .for_each(|record| front.put(record, now));
                    if front.gathered() >= batch {
                        front.flush().await?;
                    }
                }
            }
            if front.gathered() > 0 {
                front.flush().await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let taken = begin.elapsed();
    at_rest(directory).await?;
    log.close().await;
    Ok((load.entities * load.rounds) as f64 / taken.as_secs_f64())
}
