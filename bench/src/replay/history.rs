//! One entity's events.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use everfold_engine::Engine as _;
use everfold_engine::world::System;
use everfold_log::{Log, Options};

use super::files::Files;
use super::load::{Load, entity};
use super::report::History;
use crate::load::mix;
use crate::turns::tenths;

/// Reads the histories of entities at random, and as many blocks at random places by turns.
pub(super) async fn measure(
    directory: &Path,
    options: &Options,
    files: &Files,
    load: &Load,
    count: usize,
) -> anyhow::Result<History> {
    let log = Log::open_directory(directory, System::current(), options.clone())?;
    let (mut warm, mut bare_warm) = (Vec::new(), Vec::new());
    let (mut cold, mut bare_cold) = (Vec::new(), Vec::new());
    files.read(false)?;
    for round in 0..count as u64 {
        let number = mix(round) as usize % load.entities;
        // Once before it counts.
        one(&log, number, load.rounds).await?;
        warm.push(one(&log, number, load.rounds).await?);
        bare_warm.push(blocks(files, load.rounds, round)?);
    }
    log.close().await;
    // Another one: what a log keeps of what it has read is gone too.
    let log = Log::open_directory(directory, System::current(), options.clone())?;
    for round in 0..count as u64 {
        let number = mix(round) as usize % load.entities;
        files.forget()?;
        cold.push(one(&log, number, load.rounds).await?);
        files.forget()?;
        bare_cold.push(blocks(files, load.rounds, round)?);
    }
    log.close().await;
    Ok(History {
        events_per_entity: load.rounds,
        warm_p50_us: quantile(&mut warm, 0.5),
        warm_p99_us: quantile(&mut warm, 0.99),
        bare_warm_p50_us: quantile(&mut bare_warm, 0.5),
        cold_p50_us: quantile(&mut cold, 0.5),
        cold_p99_us: quantile(&mut cold, 0.99),
        bare_cold_p50_us: quantile(&mut bare_cold, 0.5),
    })
}

async fn one(log: &Log, number: usize, events: usize) -> anyhow::Result<Duration> {
    let key = entity(number);
    let partition = log.identity().layout.partition_of(key.slot());
    let begin = Instant::now();
    let found = log.read_entity(partition, &key, 0, events + 1).await?;
    let taken = begin.elapsed();
    ensure!(
        found.len() == events,
        "{key} has {} of {events} events",
        found.len()
    );
    Ok(taken)
}

fn blocks(files: &Files, count: usize, seed: u64) -> std::io::Result<Duration> {
    let begin = Instant::now();
    files.blocks(count, seed)?;
    Ok(begin.elapsed())
}

/// In microseconds.
fn quantile(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    let at = (times.len() as f64 * share) as usize;
    let time = times.get(at.min(times.len().saturating_sub(1)));
    tenths(time.map_or(0.0, |time| time.as_nanos() as f64 / 1000.0))
}
