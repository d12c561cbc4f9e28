//! All of a log, on one core.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use everfold_engine::engine::ReadLimit;
use everfold_engine::record::Kind;
use everfold_engine::world::System;
use everfold_engine::{Engine as _, Offset};
use everfold_log::{Log, Options};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::files::{Files, device_bytes};
use super::report::Whole;
use crate::load::cpu;
use crate::report::median;
use crate::turns::{REPETITIONS, hundredths, tenths, thousandths};

/// Replays through the log and reads the bare bytes by turns, warm and then cold, on one core: the
/// threads that the log starts stay there too.
pub(super) fn measure(
    directory: &Path,
    options: &Options,
    files: &Files,
    events: usize,
) -> anyhow::Result<Whole> {
    let job = || -> anyhow::Result<Whole> {
        stay_on_one_core()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        runtime.block_on(replays(directory, options, files, events))
    };
    thread::scope(|scope| scope.spawn(job).join())
        .unwrap_or_else(|_| Err(anyhow!("the reader panicked")))
}

fn stay_on_one_core() -> anyhow::Result<()> {
    let may = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|core| may.is_set(*core));
    let mut one = CpuSet::new();
    one.set(last.ok_or_else(|| anyhow!("the process may use no core"))?);
    Ok(sched_setaffinity(None, &one)?)
}

async fn replays(
    directory: &Path,
    options: &Options,
    files: &Files,
    events: usize,
) -> anyhow::Result<Whole> {
    let open = || Log::open_directory(directory, System::current(), options.clone());
    let log = open()?;
    let bytes = files.bytes() as f64;
    let (mut ours, mut bare, mut cpus) = (Vec::new(), Vec::new(), Vec::new());
    read_all(&log, events).await?;
    for _ in 0..REPETITIONS {
        bare.push(timed(|| files.read(true))?);
        let cpu_before = cpu();
        ours.push(read_all(&log, events).await?);
        cpus.push((cpu() - cpu_before).as_secs_f64() * 1e6 / events as f64);
    }
    log.close().await;
    let (mut cold, mut device, mut from_device) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        files.forget()?;
        device.push(timed(|| files.read(false))?);
        // Another one each time: what a log keeps of what it has read is gone too.
        let log = open()?;
        files.forget()?;
        let before = device_bytes();
        cold.push(read_all(&log, events).await?);
        from_device.push((device_bytes() - before) as f64 / bytes);
        log.close().await;
    }
    let seconds = |times: &[Duration]| median(times.iter().map(Duration::as_secs_f64));
    let (ours, bare) = (seconds(&ours), seconds(&bare));
    let (cold, device) = (seconds(&cold), seconds(&device));
    let per_second = |time: f64| (events as f64 / time).round();
    let megabytes = |time: f64| tenths(bytes / time / 1e6);
    Ok(Whole {
        warm_events_per_second: per_second(ours),
        warm_mb_per_second: megabytes(ours),
        warm_cpu_us_per_event: hundredths(median(cpus)),
        bare_warm_events_per_second: per_second(bare),
        bare_warm_mb_per_second: megabytes(bare),
        warm_ratio: thousandths(bare / ours),
        cold_events_per_second: per_second(cold),
        cold_mb_per_second: megabytes(cold),
        device_mb_per_second: megabytes(device),
        cold_ratio: thousandths(device / cold),
        cold_from_device: hundredths(median(from_device)),
    })
}

fn timed<T>(work: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<Duration> {
    let begin = Instant::now();
    std::hint::black_box(work()?);
    Ok(begin.elapsed())
}

/// Reads every partition to its end, as handlers read.
async fn read_all(log: &Log, events: usize) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let mut found = 0;
    for partition in log.identity().layout.all() {
        let mut after = Offset(0);
        loop {
            let chunk = log.read(partition, after, ReadLimit::default()).await?;
            if chunk.next == after {
                break;
            }
            after = chunk.next;
            let of_orders = chunk.records.iter().filter(|record| {
                record.kind == Kind::Event && record.portable.entity.kind == "order"
            });
            found += of_orders.count();
        }
    }
    let taken = begin.elapsed();
    ensure!(found == events, "{found} of {events} events were read");
    Ok(taken)
}
