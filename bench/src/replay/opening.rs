//! From nothing in memory to the first append.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everfold_engine::world::{System, World};
use everfold_engine::{Engine as _, Partition};
use everfold_log::{Log, Options};

use super::files::Files;
use super::report::Opening;
use crate::log::Front;
use crate::report::median;
use crate::turns::{REPETITIONS, tenths};
use crate::unit::{Ids, Maker};

/// Opens a log that was closed in order, warm and cold by turns.
pub(super) async fn measure(
    directory: &Path,
    options: &Options,
    files: &Files,
) -> anyhow::Result<Opening> {
    let (mut warm, mut cold) = (Vec::new(), Vec::new());
    files.read(false)?;
    for _ in 0..REPETITIONS {
        warm.push(once(directory, options).await?);
        files.forget()?;
        cold.push(once(directory, options).await?);
    }
    let opened = |found: &[(Duration, Duration)]| tenths(median(found.iter().map(|at| ms(at.0))));
    let appended = |found: &[(Duration, Duration)]| tenths(median(found.iter().map(|at| ms(at.1))));
    Ok(Opening {
        open_warm_ms: opened(&warm),
        first_append_warm_ms: appended(&warm),
        open_cold_ms: opened(&cold),
        first_append_cold_ms: appended(&cold),
    })
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// When the log was open, and when its first append was durable.
async fn once(directory: &Path, options: &Options) -> anyhow::Result<(Duration, Duration)> {
    let world: Arc<dyn World> = System::current();
    let begin = Instant::now();
    let log = Log::open_directory(directory, world.clone(), options.clone())?;
    let opened = begin.elapsed();
    let partition = Partition(0);
    let mut front = Front::claim(log.clone(), world.clone(), partition, Arc::default()).await?;
    front.put(aside(&log, &*world)?, world.now());
    front.flush().await?;
    let appended = begin.elapsed();
    log.close().await;
    Ok((opened, appended))
}

/// An event of an entity that nobody else has.
pub(super) fn aside(log: &Log, world: &dyn World) -> anyhow::Result<everfold_engine::Record> {
    let maker = Maker::new(Ids::Distinct, log.identity().layout);
    let (_, mut records) = maker.unit(0, world.random(), 1, world.now())?;
    let mut record = records.remove(0);
    record.portable.entity.kind = "aside".into();
    Ok(record)
}
