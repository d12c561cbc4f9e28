//! Callers that send, wait for the answer, and send again.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is sent before anything counts.
const WARM_UP: Duration = Duration::from_millis(300);

/// What callers send to; a clone is another handle of the same.
pub(crate) trait Target: Clone + Send + Sync + 'static {
    /// One durable command to an order; completes when it is acknowledged.
    fn send(&self, order: usize, seed: u64) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What one turn found.
pub(crate) struct Measured {
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Caller `w` of `N` has the orders congruent to `w` modulo `N` for itself and picks among them at
/// random: nobody meets a conflict.
pub(crate) async fn measure<T: Target>(
    target: &T,
    clients: usize,
    orders: usize,
    time: Duration,
    seed: u64,
) -> anyhow::Result<Measured> {
    let begin = Instant::now() + WARM_UP.min(time);
    let end = begin + time;
    let mut tasks = Vec::new();
    for client in 0..clients {
        let target = target.clone();
        let mut seed = mix(seed ^ (client as u64) << 40);
        let own = (orders - client).div_ceil(clients) as u64;
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            let mut before = Instant::now();
            while before < end {
                seed = mix(seed);
                let order = client + ((seed >> 16) % own) as usize * clients;
                target.send(order, seed).await?;
                let after = Instant::now();
                if after >= begin && after < end {
                    latencies.push((after - before).as_nanos() as u64);
                }
                before = after;
            }
            anyhow::Ok(latencies)
        }));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.append(&mut task.await??);
    }
    latencies.sort_unstable();
    let quantile = |share: f64| {
        let at = (latencies.len() as f64 * share) as usize;
        let value = latencies.get(at.min(latencies.len().saturating_sub(1)));
        value.copied().unwrap_or_default() as f64 / 1000.0
    };
    Ok(Measured {
        per_second: latencies.len() as f64 / time.as_secs_f64(),
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
    })
}

/// Every order once.
pub(crate) async fn fill<T: Target>(target: &T, orders: usize) -> anyhow::Result<()> {
    const AT_ONCE: usize = 256;
    let target = Arc::new(target.clone());
    let mut tasks = Vec::new();
    for client in 0..AT_ONCE {
        let target = target.clone();
        tasks.push(tokio::spawn(async move {
            for order in (client..orders).step_by(AT_ONCE) {
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
