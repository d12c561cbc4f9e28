//! Clients that send, wait for the answer, and send again.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::order::ORDERS;

/// What clients send to.
pub(crate) trait Target: Send + Sync + 'static {
    /// One durable command to an order; completes when it is acknowledged.
    fn send(&self, order: usize, seed: u64) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What one measurement found.
pub(crate) struct Measured {
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// Everything that was sent, warm-up included.
    pub(crate) sent: u64,
    /// What the whole process, clients included, took of the processor meanwhile.
    pub(crate) cpu: Duration,
}

/// Latencies are kept in tenths of a microsecond.
const TENTHS: f64 = 10.0;

/// `clients` tasks send for `warm_up` and then for `time`, which is what counts. Client `w` of `N`
/// has the orders congruent to `w` modulo `N` for itself and picks among them at random.
pub(crate) async fn measure<T: Target>(
    target: &Arc<T>,
    clients: usize,
    warm_up: Duration,
    time: Duration,
    seed: u64,
) -> anyhow::Result<Measured> {
    let begin = Instant::now() + warm_up;
    let end = begin + time;
    let cpu_before = cpu();
    let mut tasks = Vec::with_capacity(clients);
    for client in 0..clients {
        let target = target.clone();
        let seed = mix(seed ^ (client as u64) << 32);
        tasks.push(tokio::spawn(async move {
            one_client(&*target, client, clients, begin, end, seed).await
        }));
    }
    let mut sent = 0;
    let mut histogram = Histogram::<u64>::new(3)?;
    for task in tasks {
        let (latencies, all) = task.await??;
        sent += all;
        for latency in latencies {
            histogram.record(u64::from(latency))?;
        }
    }
    let quantile = |q| histogram.value_at_quantile(q) as f64 / TENTHS;
    Ok(Measured {
        per_second: histogram.len() as f64 / time.as_secs_f64(),
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
        p999_us: quantile(0.999),
        sent,
        cpu: cpu() - cpu_before,
    })
}

/// The latencies of all commands that were acknowledged between `begin` and `end`, and how many
/// were sent at all. Latencies are put
/// into a histogram afterwards: its table would push other things out of the processor's cache.
async fn one_client<T: Target>(
    target: &T,
    client: usize,
    clients: usize,
    begin: Instant,
    end: Instant,
    mut seed: u64,
) -> anyhow::Result<(Vec<u32>, u64)> {
    let own = (ORDERS - client).div_ceil(clients) as u64;
    let mut latencies = Vec::with_capacity(4096);
    let mut sent = 0;
    let mut before = Instant::now();
    while before < end {
        seed = mix(seed);
        let order = client + (seed >> 16) as usize % own as usize * clients;
        target.send(order, seed).await?;
        let after = Instant::now();
        if after >= begin && after < end {
            let tenths = (after - before).as_nanos() / 100;
            latencies.push(u32::try_from(tenths).unwrap_or(u32::MAX));
        }
        sent += 1;
        before = after;
    }
    Ok((latencies, sent))
}

/// User and system time of the process so far; zero where the system does not say.
pub(crate) fn cpu() -> Duration {
    // Fields 14 and 15, in hundredths of a second; the second field may hold blanks.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Every order once, many at a time: whoever keeps entities in memory has them then.
pub(crate) async fn fill<T: Target>(target: &Arc<T>) -> anyhow::Result<()> {
    const AT_ONCE: usize = 512;
    let mut tasks = Vec::with_capacity(AT_ONCE);
    for client in 0..AT_ONCE {
        let target = target.clone();
        tasks.push(tokio::spawn(async move {
            for order in (client..ORDERS).step_by(AT_ONCE) {
                target.send(order, mix(order as u64)).await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// The finisher of SplitMix64: the load is the same in every run.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
