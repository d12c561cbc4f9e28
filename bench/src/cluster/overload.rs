//! More commands than the nodes can do: arrivals by schedule, whatever becomes of those before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use everfold::engine::uuid7;
use everfold::{CommandError, SendError};
use hdrhistogram::Histogram;
use tokio::sync::mpsc;

use super::nodes::Nodes;
use super::nodes::Outside;
use super::report::{Arrivals, Overload};
use super::{Aware, client};
use crate::load::{measure, mix};
use crate::order::{AddLine, ORDERS, Order, OrderId, name};
use crate::output::say;
use crate::turns::WARM_UP;

/// Clients that find out what can be done, one command at a time each.
const CLIENTS: usize = 1024;
/// How often more is asked for while more is done.
const MOST_TRIES: u32 = 5;
/// How often what has become due is sent.
const TICK: Duration = Duration::from_millis(1);
/// How long after the last arrival answers are waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// What became of one arrival.
enum Fate {
    /// Acknowledged so long after it was due, at this moment.
    Done(Duration, Instant),
    Overloaded(Duration),
    Other(String),
}

/// Finds the capacity by what is done of twice as many commands, and then lets as many arrive.
pub(super) async fn measure_all(nodes: &Nodes, time: Duration) -> anyhow::Result<Overload> {
    let outside = nodes.client().await?;
    let aware = Arc::new(Aware(outside.clone()));
    let closed = measure(&aware, CLIENTS, WARM_UP, time, 7).await?;
    let mut capacity = closed.per_second;
    let start = resident();
    let mut tries = 0;
    let twice = loop {
        say(format_args!(
            "overload: {capacity:.0} commands a second can be done"
        ));
        let twice = arrivals(&outside, capacity, 2.0, time).await?;
        tries += 1;
        // More wait than clients who wait for their answers, so batches are larger: what can be done is
        // found by asking for too much.
        if twice.done_per_second < capacity * 1.1 || tries == MOST_TRIES {
            break twice;
        }
        capacity = twice.done_per_second;
    };
    let once = arrivals(&outside, capacity, 1.0, time).await?;
    let peak = once.done_per_second.max(capacity);
    Ok(Overload {
        capacity_per_second: capacity.round(),
        goodput_ratio: crate::turns::thousandths(twice.done_per_second / peak),
        resident_at_start_mib: start,
        once,
        twice,
    })
}

async fn arrivals(
    outside: &Arc<Outside>,
    capacity: f64,
    times: f64,
    time: Duration,
) -> anyhow::Result<Arrivals> {
    let (rate, over) = (capacity * times, Arc::new(AtomicBool::new(false)));
    let peak = Arc::new(AtomicU64::new(0));
    let (watching, highest) = (over.clone(), peak.clone());
    let watch = tokio::spawn(async move {
        while !watching.load(Ordering::Relaxed) {
            highest.fetch_max(resident(), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let (tell, mut fates) = mpsc::unbounded_channel();
    let begin = Instant::now();
    let counted = begin + WARM_UP;
    let end = counted + time;
    let (mut sent, mut seed) = (0_u64, mix(times.to_bits()));
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    while Instant::now() < end {
        ticks.tick().await;
        let due = (begin.elapsed().as_secs_f64() * rate) as u64;
        for number in sent..due {
            seed = mix(seed);
            let (outside, tell, seed) = (outside.clone(), tell.clone(), seed);
            let at = begin + Duration::from_secs_f64(number as f64 / rate);
            tokio::spawn(async move {
                let _ = tell.send((at, arrive(&outside, seed, at).await));
            });
        }
        sent = sent.max(due);
    }
    drop(tell);
    let mut found = Arrivals {
        times,
        ..Arrivals::default()
    };
    let mut latencies = Histogram::<u64>::new(3)?;
    let mut hints = Histogram::<u64>::new(3)?;
    let mut done = 0_u64;
    let late = tokio::time::sleep_until((end + PATIENCE).into());
    tokio::pin!(late);
    loop {
        let (at, fate) = tokio::select! { biased;
            fate = fates.recv() => match fate {
                Some(fate) => fate,
                None => break,
            },
            () = &mut late => break,
        };
        if let Fate::Done(_, when) = &fate {
            done += u64::from(*when >= counted && *when < end);
        }
        if at < counted {
            continue;
        }
        found.arrived += 1;
        match fate {
            Fate::Done(latency, _) => {
                found.done += 1;
                latencies.record(latency.as_micros() as u64)?;
            }
            Fate::Overloaded(hint) => {
                found.overloaded += 1;
                hints.record(hint.as_millis() as u64)?;
            }
            Fate::Other(error) => {
                if found.other == 0 {
                    say(format_args!("overload: {error}"));
                }
                found.other += 1;
            }
        }
    }
    over.store(true, Ordering::Relaxed);
    watch.await?;
    found.done_per_second = (done as f64 / time.as_secs_f64()).round();
    found.done_p50_ms = latencies.value_at_quantile(0.5) as f64 / 1000.0;
    found.done_p99_ms = latencies.value_at_quantile(0.99) as f64 / 1000.0;
    found.hint_p50_ms = hints.value_at_quantile(0.5);
    found.resident_peak_mib = peak.load(Ordering::Relaxed);
    Ok(found)
}

async fn arrive(outside: &Outside, seed: u64, at: Instant) -> Fate {
    let world = &outside.world;
    let id = uuid7(world.now(), world.random(), world.random());
    let order = OrderId::from(name((seed >> 16) as usize % ORDERS));
    let order = client(outside).entity::<Order>(order);
    match order.send(AddLine::any(seed)).id(id).await {
        Ok(_) => Fate::Done(at.elapsed(), Instant::now()),
        Err(SendError::Failed(CommandError::Overloaded { retry_after, .. })) => {
            Fate::Overloaded(retry_after)
        }
        Err(error) => Fate::Other(format!("{error:?}")),
    }
}

/// Memory of the whole process, clients included, in MiB; 0 where the system does not say.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
