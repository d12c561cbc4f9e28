//! Two sides measured by turns, and the floor below both.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;

use crate::bare_write::BareWrite;
use crate::load::{Measured, Target, measure, mix};
use crate::output::say;
use crate::report::median;

/// Both sides are measured this often, by turns; medians count.
pub(crate) const REPETITIONS: u32 = 5;
/// What is sent before anything counts.
pub(crate) const WARM_UP: Duration = Duration::from_millis(300);
/// The reference's median at one client, as a multiple of a bare write's, that makes a run invalid.
const MOST_OVER_BARE: f64 = 1.25;
/// What the runtime gets, for both sides.
pub(crate) const WORKERS: usize = 2;

/// How both sides are measured.
#[derive(clap::Args, Clone, Debug)]
pub struct Clients {
    /// How many clients ask at once; several numbers with commas.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1024])]
    pub clients: Vec<usize>,
    /// Counted seconds per number of clients and side, all repetitions together.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
}

impl Clients {
    /// Counted time of one repetition.
    pub(crate) fn time(&self) -> anyhow::Result<Duration> {
        let time = repetition(self.seconds)?;
        let most = 1..=16_384;
        let counts = self.clients.iter().all(|clients| most.contains(clients));
        ensure!(counts, "--clients are 1 to 16384");
        Ok(time)
    }
}

/// Counted time of one repetition, if all of them together take so many seconds.
pub(crate) fn repetition(seconds: f64) -> anyhow::Result<Duration> {
    let is_time = seconds.is_finite() && seconds > 0.0;
    ensure!(is_time, "--seconds is a time");
    Ok(Duration::from_secs_f64(seconds / f64::from(REPETITIONS)))
}

/// What the repetitions of one side found.
#[derive(Default)]
pub(crate) struct Side {
    pub(crate) found: Vec<Measured>,
    /// The groups that everything was written in, warm-up included.
    pub(crate) groups: u64,
}

impl Side {
    pub(crate) fn median(&self, of: impl Fn(&Measured) -> f64) -> f64 {
        median(self.found.iter().map(of))
    }

    pub(crate) fn samples(&self) -> Vec<f64> {
        self.found
            .iter()
            .map(|found| found.per_second.round())
            .collect()
    }

    pub(crate) fn cpu_us(&self) -> f64 {
        self.median(|found| found.cpu.as_secs_f64() * 1e6 / found.sent.max(1) as f64)
    }

    pub(crate) fn sent(&self) -> u64 {
        self.found.iter().map(|found| found.sent).sum()
    }

    pub(crate) fn per_group(&self) -> f64 {
        self.sent() as f64 / self.groups.max(1) as f64
    }
}

/// The medians at one client.
#[derive(Clone, Copy)]
pub(crate) struct Floor {
    pub(crate) bare_write_p50_us: f64,
    pub(crate) reference_p50_us: f64,
}

impl Floor {
    /// Measures a bare write and the reference at one client, by turns.
    pub(crate) async fn find<T: Target>(
        bare_write: &mut BareWrite,
        reference: &Arc<T>,
        time: Duration,
    ) -> anyhow::Result<Self> {
        let time = (time / 2).clamp(Duration::from_millis(100), Duration::from_secs(1));
        let (mut bare, mut found) = (Vec::new(), Vec::new());
        for repetition in 0..REPETITIONS {
            let taken = bare_write.measure(time)?;
            bare.push(taken[taken.len() / 2].as_nanos() as f64 / 1000.0);
            let seed = mix(u64::from(repetition));
            found.push(measure(reference, 1, WARM_UP, time, seed).await?.p50_us);
        }
        let (bare, reference) = (median(bare), median(found));
        say(format_args!(
            "bare write p50 {bare:.1} us, reference p50 at 1 client {reference:.1} us"
        ));
        Ok(Self {
            bare_write_p50_us: bare,
            reference_p50_us: reference,
        })
    }

    /// Whether the reference is as fast as the device.
    pub(crate) fn valid(&self) -> bool {
        self.reference_p50_us <= MOST_OVER_BARE * self.bare_write_p50_us
    }

    /// For people.
    pub(crate) fn sentence(bare_write_p50_us: f64, reference_p50_us: f64, valid: bool) -> String {
        let verdict = if valid {
            "valid"
        } else {
            "INVALID: the reference is slower than the device allows; do not use these figures"
        };
        format!(
            "reference p50 at 1 client {reference_p50_us:.1} us, bare 4 KiB durable write {bare_write_p50_us:.1} us: {verdict}"
        )
    }
}

/// The runtime of a measurement.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
}

/// To a tenth.
pub(crate) fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// To a hundredth.
pub(crate) fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// To a thousandth.
pub(crate) fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
