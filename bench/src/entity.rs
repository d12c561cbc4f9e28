//! Durable commands on entities against a bare log.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::bare_log::BareLog;
use crate::bare_write::BareWrite;
use crate::direct::FLAGS;
use crate::load::{Measured, fill, measure, mix};
use crate::machine::Place;
use crate::report::{Report, Run, median};
use crate::subject::{Reference, Subject};

/// Both sides are measured this often, by turns; medians count.
const REPETITIONS: u32 = 5;
const WARM_UP: Duration = Duration::from_millis(300);
/// The reference's median at one client, as a multiple of a bare write's, that makes a run invalid.
const MOST_OVER_BARE: f64 = 1.25;
const WORKERS: usize = 2;

/// What to measure.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// How many clients send at once; several numbers with commas.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1024])]
    pub clients: Vec<usize>,
    /// Counted seconds per number of clients and side, all repetitions together.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Print one line of JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Measure in a fresh directory below this one, on a disk; removed at the end.
    #[arg(long)]
    pub data: Option<PathBuf>,
}

/// Measures, and prints what was found to standard output; progress goes to standard error.
///
/// # Errors
/// What kept it from measuring. A run that measured but is not valid is no error: it says so.
///
/// # Panics
/// Inside a tokio runtime: it brings its own, with as many workers as the reference gets.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let report = report(args)?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

/// Measures.
///
/// # Errors
/// As for [`run`].
///
/// # Panics
/// As for [`run`].
pub fn report(args: &Args) -> anyhow::Result<Report> {
    ensure!(
        args.seconds.is_finite() && args.seconds > 0.0,
        "--seconds is a time"
    );
    ensure!(
        args.clients
            .iter()
            .all(|clients| (1..=16_384).contains(clients)),
        "--clients are 1 to 16384"
    );
    let place = Place::find(args.data.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_time()
        .build()?;
    runtime.block_on(async {
        let mut bench = Bench::open(&place, args.seconds).await?;
        let report = bench.report(&place, &args.clients).await;
        bench.close().await?;
        report
    })
}

struct Bench {
    subject: Arc<Subject>,
    log: BareLog,
    reference: Arc<Reference>,
    bare_write: BareWrite,
    /// Counted time of one repetition.
    time: Duration,
}

/// What the repetitions of one side found.
#[derive(Default)]
struct Side {
    found: Vec<Measured>,
    /// Commands and the groups that they were written in, warm-up included.
    groups: u64,
}

impl Side {
    fn median(&self, of: impl Fn(&Measured) -> f64) -> f64 {
        median(self.found.iter().map(of))
    }

    fn samples(&self) -> Vec<f64> {
        self.found
            .iter()
            .map(|found| found.per_second.round())
            .collect()
    }

    fn cpu_us(&self) -> f64 {
        let each = |found: &Measured| found.cpu.as_secs_f64() * 1e6 / found.sent.max(1) as f64;
        (self.median(each) * 100.0).round() / 100.0
    }

    fn per_group(&self) -> f64 {
        let sent: u64 = self.found.iter().map(|found| found.sent).sum();
        sent as f64 / self.groups.max(1) as f64
    }
}

impl Bench {
    async fn open(place: &Place, seconds: f64) -> anyhow::Result<Self> {
        eprintln!("preparing in {}", place.path().display());
        let log = BareLog::create(place.path()).context("direct writes are needed")?;
        let bare_write = BareWrite::create(place.path())?;
        let subject = Arc::new(Subject::open(place.path()).await?);
        let reference = Arc::new(Reference {
            sender: log.sender(),
        });
        fill(&subject).await?;
        fill(&reference).await?;
        subject.settle().await?;
        Ok(Self {
            subject,
            log,
            reference,
            bare_write,
            time: Duration::from_secs_f64(seconds / f64::from(REPETITIONS)),
        })
    }

    async fn report(&mut self, place: &Place, clients: &[usize]) -> anyhow::Result<Report> {
        let machine = place.machine()?;
        let (bare_write_p50_us, reference_p50_us) = self.floor().await?;
        let mut runs = Vec::new();
        for clients in clients {
            runs.push(self.at(*clients).await?);
        }
        Ok(Report {
            runs,
            bare_write_p50_us: round(bare_write_p50_us),
            reference_p50_us: round(reference_p50_us),
            valid: reference_p50_us <= MOST_OVER_BARE * bare_write_p50_us,
            machine,
        })
    }

    /// The medians of a bare write and of the reference at one client, by turns.
    async fn floor(&mut self) -> anyhow::Result<(f64, f64)> {
        let time = (self.time / 2).clamp(Duration::from_millis(100), Duration::from_secs(1));
        let (mut bare, mut reference) = (Vec::new(), Vec::new());
        for repetition in 0..REPETITIONS {
            let taken = self.bare_write.measure(time)?;
            bare.push(taken[taken.len() / 2].as_nanos() as f64 / 1000.0);
            let seed = mix(u64::from(repetition));
            let found = measure(&self.reference, 1, WARM_UP, time, seed).await?;
            reference.push(found.p50_us);
        }
        let (bare, reference) = (median(bare), median(reference));
        eprintln!("bare write p50 {bare:.1} us, reference p50 at 1 client {reference:.1} us");
        Ok((bare, reference))
    }

    async fn at(&self, clients: usize) -> anyhow::Result<Run> {
        let (mut ours, mut reference) = (Side::default(), Side::default());
        let mut view_behind = 0;
        for repetition in 0..REPETITIONS {
            let seed = mix((clients as u64) << 8 | u64::from(repetition));
            let groups = self.log.groups();
            let found = measure(&self.reference, clients, WARM_UP, self.time, seed).await?;
            reference.groups += self.log.groups() - groups;
            reference.found.push(found);

            // The view stores its rows every five seconds, and the last time was just before the
            // reference's turn: at another moment of ours in each repetition.
            tokio::time::sleep(Duration::from_secs(u64::from(repetition))).await;
            let batches = self.subject.batches().await?;
            let found = measure(&self.subject, clients, WARM_UP, self.time, seed).await?;
            view_behind = view_behind.max(self.subject.behind().await?);
            ours.groups += self.subject.batches().await? - batches;
            eprintln!(
                "{clients} clients, {} of {REPETITIONS}: {:.0}/s, reference {:.0}/s",
                repetition + 1,
                found.per_second,
                reference.found[repetition as usize].per_second
            );
            ours.found.push(found);
            self.subject.settle().await?;
        }
        let per_second = ours.median(|found| found.per_second);
        let reference_per_second = reference.median(|found| found.per_second);
        Ok(Run {
            clients,
            commands_per_second: per_second.round(),
            p50_us: round(ours.median(|found| found.p50_us)),
            p99_us: round(ours.median(|found| found.p99_us)),
            reference_per_second: reference_per_second.round(),
            reference_p50_us: round(reference.median(|found| found.p50_us)),
            reference_p99_us: round(reference.median(|found| found.p99_us)),
            ratio: (per_second / reference_per_second * 1000.0).round() / 1000.0,
            durability: format!("{} (reference: {FLAGS})", self.subject.durability()),
            cpu_us_per_command: ours.cpu_us(),
            reference_cpu_us: reference.cpu_us(),
            commands_per_batch: round(ours.per_group()),
            reference_per_write: round(reference.per_group()),
            view_behind,
            samples: ours.samples(),
            reference_samples: reference.samples(),
        })
    }

    async fn close(self) -> anyhow::Result<()> {
        self.subject.close().await;
        drop(self.reference);
        self.log.close().context("the bare log")
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
