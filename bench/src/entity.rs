//! Durable commands on entities against a bare log.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::bare_event::Events;
use crate::bare_log::BareLog;
use crate::bare_write::BareWrite;
use crate::direct::FLAGS;
use crate::load::{fill, measure, mix};
use crate::machine::Place;
use crate::output::{Output, say};
use crate::report::{Report, Run};
use crate::subject::{Reference, Subject};
use crate::turns::{
    Clients, Floor, REPETITIONS, Side, WARM_UP, hundredths, runtime, tenths, thousandths,
};

/// What to measure.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Who asks, and for how long.
    #[command(flatten)]
    pub clients: Clients,
    /// Where its files are, and how it says what it found.
    #[command(flatten)]
    pub output: Output,
}

/// Measures, and prints what was found to standard output; progress goes to standard error.
///
/// # Errors
/// What kept it from measuring. A run that measured but is not valid is no error: it says so.
///
/// # Panics
/// Inside a tokio runtime: it brings its own, with as many workers as the reference gets.
pub fn run(args: &Args) -> anyhow::Result<()> {
    args.output.print(&report(args)?, Report::table)
}

/// Measures.
///
/// # Errors
/// As for [`run`].
///
/// # Panics
/// As for [`run`].
pub fn report(args: &Args) -> anyhow::Result<Report> {
    let time = args.clients.time()?;
    let place = Place::find(args.output.data.as_deref())?;
    runtime()?.block_on(async {
        let mut bench = Bench::open(&place, time).await?;
        let report = bench.report(&place, &args.clients.clients).await;
        bench.close().await?;
        report
    })
}

struct Bench {
    subject: Arc<Subject>,
    log: BareLog<Events>,
    reference: Arc<Reference>,
    bare_write: BareWrite,
    /// Counted time of one repetition.
    time: Duration,
}

impl Bench {
    async fn open(place: &Place, time: Duration) -> anyhow::Result<Self> {
        say(format_args!("preparing in {}", place.path().display()));
        let log =
            BareLog::create(place.path(), Events::default()).context("direct writes are needed")?;
        let bare_write = BareWrite::create(place.path())?;
        let subject = Arc::new(Subject::open(place.path()).await?);
        let reference = Arc::new(Reference {
            sender: log.sender(),
        });
        fill(&subject).await?;
        fill(&reference).await?;
        subject.running.settle().await?;
        Ok(Self {
            subject,
            log,
            reference,
            bare_write,
            time,
        })
    }

    async fn report(&mut self, place: &Place, clients: &[usize]) -> anyhow::Result<Report> {
        let machine = place.machine()?;
        let floor = Floor::find(&mut self.bare_write, &self.reference, self.time).await?;
        let mut runs = Vec::new();
        for clients in clients {
            runs.push(self.at(*clients).await?);
        }
        Ok(Report {
            runs,
            bare_write_p50_us: tenths(floor.bare_write_p50_us),
            reference_p50_us: tenths(floor.reference_p50_us),
            valid: floor.valid(),
            machine,
        })
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
            let batches = self.subject.running.batches().await?;
            let found = measure(&self.subject, clients, WARM_UP, self.time, seed).await?;
            view_behind = view_behind.max(self.subject.running.behind().await?);
            ours.groups += self.subject.running.batches().await? - batches;
            say(format_args!(
                "{clients} clients, {} of {REPETITIONS}: {:.0}/s, reference {:.0}/s",
                repetition + 1,
                found.per_second,
                reference.found[repetition as usize].per_second
            ));
            ours.found.push(found);
            self.subject.running.settle().await?;
        }
        let per_second = ours.median(|found| found.per_second);
        let reference_per_second = reference.median(|found| found.per_second);
        Ok(Run {
            clients,
            commands_per_second: per_second.round(),
            p50_us: tenths(ours.median(|found| found.p50_us)),
            p99_us: tenths(ours.median(|found| found.p99_us)),
            reference_per_second: reference_per_second.round(),
            reference_p50_us: tenths(reference.median(|found| found.p50_us)),
            reference_p99_us: tenths(reference.median(|found| found.p99_us)),
            ratio: thousandths(per_second / reference_per_second),
            durability: format!("{} (reference: {FLAGS})", self.subject.running.durability()),
            cpu_us_per_command: hundredths(ours.cpu_us()),
            reference_cpu_us: hundredths(reference.cpu_us()),
            commands_per_batch: tenths(ours.per_group()),
            reference_per_write: tenths(reference.per_group()),
            view_behind,
            samples: ours.samples(),
            reference_samples: reference.samples(),
        })
    }

    async fn close(self) -> anyhow::Result<()> {
        self.subject.running.close().await;
        drop(self.reference);
        self.log.close().context("the bare log")
    }
}
