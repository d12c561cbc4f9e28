//! Writers that append, wait for the acknowledgement, and append again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use hdrhistogram::Histogram;
use tokio::sync::mpsc;

use crate::store::{Refused, Replayed, Store};
use crate::workload::{ENTITIES, Event, mix, name};

/// Latencies are kept in tenths of a microsecond.
const TENTHS: f64 = 10.0;

/// An open store and what each entity's next append has to expect.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) store: Arc<dyn Store>,
    expected: Arc<[AtomicU64]>,
}

/// What one turn found.
pub(crate) struct Measured {
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Subject {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        let expected = (0..ENTITIES).map(|_| AtomicU64::new(0)).collect();
        Self { store, expected }
    }

    /// One writer at a time per entity.
    async fn append(&self, entity: usize, seed: u64) -> anyhow::Result<()> {
        let event = Event::any(entity, seed)?;
        let expected = &self.expected[entity];
        let appended = self
            .store
            .append(event, expected.load(Ordering::Relaxed))
            .await;
        let next = appended.map_err(|refused| match refused {
            Refused::Conflict => anyhow!("{} refused a version that is right", name(entity)),
            Refused::Failed(error) => error,
        })?;
        expected.store(next, Ordering::Relaxed);
        Ok(())
    }

    /// `writers` tasks append for `warm_up` and then for `time`, which is what counts. Writer `w` of
    /// `N` has the entities congruent to `w` modulo `N` for itself and picks among them at random.
    pub(crate) async fn measure(
        &self,
        writers: usize,
        warm_up: Duration,
        time: Duration,
        seed: u64,
    ) -> anyhow::Result<Measured> {
        self.store.expect_writers(writers).await?;
        let begin = Instant::now() + warm_up;
        let end = begin + time;
        let mut tasks = Vec::with_capacity(writers);
        for writer in 0..writers {
            let subject = self.clone();
            let seed = mix(seed ^ (writer as u64) << 32);
            let task = async move { subject.one_writer(writer, writers, begin, end, seed).await };
            tasks.push(tokio::spawn(task));
        }
        let mut histogram = Histogram::<u64>::new(3)?;
        for task in tasks {
            for latency in task.await?? {
                histogram.record(u64::from(latency))?;
            }
        }
        let quantile = |q| histogram.value_at_quantile(q) as f64 / TENTHS;
        Ok(Measured {
            per_second: histogram.len() as f64 / time.as_secs_f64(),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
        })
    }

    /// The latencies of all appends that were acknowledged between `begin` and `end`. They are put
    /// into a histogram afterwards: its table would push other things out of the processor's cache.
    async fn one_writer(
        &self,
        writer: usize,
        writers: usize,
        begin: Instant,
        end: Instant,
        mut seed: u64,
    ) -> anyhow::Result<Vec<u32>> {
        let own = (ENTITIES - writer).div_ceil(writers) as u64;
        let mut latencies = Vec::with_capacity(4096);
        let mut before = Instant::now();
        while before < end {
            seed = mix(seed);
            let entity = writer + (seed >> 16) as usize % own as usize * writers;
            self.append(entity, seed).await?;
            let after = Instant::now();
            if after >= begin && after < end {
                let tenths = (after - before).as_nanos() / 100;
                latencies.push(u32::try_from(tenths).unwrap_or(u32::MAX));
            }
            before = after;
        }
        Ok(latencies)
    }

    /// `history` events for each of the first `entities` entities, one round after the other, many
    /// at a time.
    pub(crate) async fn fill(&self, entities: usize, history: usize) -> anyhow::Result<()> {
        const AT_ONCE: usize = 256;
        self.store.expect_writers(AT_ONCE).await?;
        let mut tasks = Vec::with_capacity(AT_ONCE);
        for writer in 0..AT_ONCE {
            let subject = self.clone();
            tasks.push(tokio::spawn(async move {
                for round in 0..history {
                    for entity in (writer..entities).step_by(AT_ONCE) {
                        let seed = mix((round * ENTITIES + entity) as u64);
                        subject.append(entity, seed).await?;
                    }
                }
                anyhow::Ok(())
            }));
        }
        for task in tasks {
            task.await??;
        }
        Ok(())
    }

    /// Events per second of one replay of everything.
    pub(crate) async fn replay(&self, wanted: Replayed) -> anyhow::Result<f64> {
        let begin = Instant::now();
        let found = self.store.replay().await?;
        let took = begin.elapsed();
        anyhow::ensure!(found == wanted, "replay found {found:?}, not {wanted:?}");
        Ok(found.events as f64 / took.as_secs_f64())
    }

    /// Appends one event each 2 ms or so: the median times in microseconds until a subscriber holds
    /// it, and until it is acknowledged.
    pub(crate) async fn tail(
        &self,
        held: &mut mpsc::UnboundedReceiver<Instant>,
        appends: usize,
        mut seed: u64,
    ) -> anyhow::Result<(f64, f64)> {
        let mut received = Histogram::<u64>::new(3)?;
        let mut acknowledged = Histogram::<u64>::new(3)?;
        for _ in 0..appends {
            // Apart from each other, so that no append waits for the one before it.
            tokio::time::sleep(Duration::from_millis(2)).await;
            seed = mix(seed);
            let entity = (seed >> 16) as usize % ENTITIES;
            let begin = Instant::now();
            self.append(entity, seed).await?;
            let acknowledgement = begin.elapsed();
            let subscriber = tokio::time::timeout(Duration::from_secs(5), held.recv()).await;
            let lost = "the subscriber was not told";
            let holds = subscriber.context(lost)?.context(lost)?;
            received.record(((holds - begin).as_nanos() / 100) as u64)?;
            acknowledged.record((acknowledgement.as_nanos() / 100) as u64)?;
        }
        let median = |of: Histogram<u64>| of.value_at_quantile(0.5) as f64 / TENTHS;
        Ok((median(received), median(acknowledged)))
    }

    /// The median time in microseconds of reading one entity, over `reads` entities at random.
    pub(crate) async fn histories(
        &self,
        entities: usize,
        reads: usize,
        wanted: Replayed,
        mut seed: u64,
    ) -> anyhow::Result<Option<f64>> {
        let mut histogram = Histogram::<u64>::new(3)?;
        for _ in 0..reads {
            seed = mix(seed);
            let entity = (seed >> 16) as usize % entities;
            let begin = Instant::now();
            let found = self.store.history(entity).await;
            let took = begin.elapsed();
            let Some(found) = found.with_context(|| name(entity))? else {
                return Ok(None);
            };
            let of = name(entity);
            anyhow::ensure!(found == wanted, "{of} has {found:?}, not {wanted:?}");
            histogram.record((took.as_nanos() / 100) as u64)?;
        }
        Ok(Some(histogram.value_at_quantile(0.5) as f64 / TENTHS))
    }
}
