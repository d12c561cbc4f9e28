//! Durable transfers of the ledger against durable appends to the log beneath it.

mod report;
mod sides;

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use everfold_engine::Layout;
use everfold_engine::world::{System, World};

use crate::bare_write::BareWrite;
use crate::load::{fill, measure, mix};
use crate::log::{Fronts, Ids, Ours as Log};
use crate::machine::Place;
use crate::output::{Output, say};
use crate::turns::{
    Clients, Floor, REPETITIONS, Side, WARM_UP, hundredths, runtime, tenths, thousandths,
};
use sides::Ledger;

pub use report::{Report, Run};

/// Both sides have so many, as by default.
const PARTITIONS: u16 = 16;

/// What to measure.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Who asks, and for how long.
    #[command(flatten)]
    pub clients: Clients,
    /// Events of one append to the log; a transfer always has two.
    #[arg(long, default_value_t = 1)]
    pub events: usize,
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
/// Inside a tokio runtime: it brings its own, the same for both sides.
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
    ensure!((1..=100).contains(&args.events), "--events are 1 to 100");
    let place = Place::find(args.output.data.as_deref())?;
    runtime()?.block_on(async {
        let bench = Bench::open(&place, args.events, time).await?;
        let report = bench.report(&place, args).await;
        bench.close().await?;
        report
    })
}

struct Bench {
    ledger: Arc<Ledger>,
    log: Log,
    fronts: Fronts,
    /// Counted time of one repetition.
    time: Duration,
}

impl Bench {
    async fn open(place: &Place, events: usize, time: Duration) -> anyhow::Result<Self> {
        say(format_args!("preparing in {}", place.path().display()));
        let world: Arc<dyn World> = System::current();
        let layout = Layout::first(PARTITIONS)?;
        let path = place.path().join("reference");
        // A client's command has one id for command, causation and correlation.
        let log = Log::open(&path, world, layout, Ids::Coinciding, true).await?;
        let fronts = log.fronts(events).await?;
        let ledger = Arc::new(Ledger::open(place.path()).await?);
        ledger.open_accounts().await?;
        fill(&ledger).await?;
        fill(&fronts.target).await?;
        ledger.running.settle().await?;
        Ok(Self {
            ledger,
            log,
            fronts,
            time,
        })
    }

    async fn report(&self, place: &Place, args: &Args) -> anyhow::Result<Report> {
        let machine = place.machine()?;
        let mut bare_write = BareWrite::create(place.path())?;
        let floor = Floor::find(&mut bare_write, &self.fronts.target, self.time).await?;
        let mut runs = Vec::new();
        for clients in &args.clients.clients {
            runs.push(self.at(*clients).await?);
        }
        let (ours, log) = (
            self.ledger.running.durability(),
            self.log.log().durability(),
        );
        Ok(Report {
            runs,
            events_per_append: args.events,
            bare_write_p50_us: tenths(floor.bare_write_p50_us),
            log_p50_us: tenths(floor.reference_p50_us),
            valid: floor.valid(),
            durability: format!("{ours} (log: {log})"),
            machine,
        })
    }

    async fn at(&self, clients: usize) -> anyhow::Result<Run> {
        let (mut ours, mut log) = (Side::default(), Side::default());
        let mut views_behind = 0;
        for repetition in 0..REPETITIONS {
            let seed = mix((clients as u64) << 8 | u64::from(repetition));
            let batches = self.log.batches();
            let found = measure(&self.fronts.target, clients, WARM_UP, self.time, seed).await?;
            log.groups += self.log.batches() - batches;
            log.found.push(found);

            // The views store their rows every five seconds, and the last time was just before the
            // log's turn: at another moment of ours in each repetition.
            tokio::time::sleep(Duration::from_secs(u64::from(repetition))).await;
            let running = &self.ledger.running;
            let batches = running.batches().await?;
            let found = measure(&self.ledger, clients, WARM_UP, self.time, seed).await?;
            views_behind = views_behind.max(running.behind().await?);
            ours.groups += running.batches().await? - batches;
            say(format_args!(
                "{clients} clients, {} of {REPETITIONS}: {:.0} transfers/s, log {:.0}/s",
                repetition + 1,
                found.per_second,
                log.found[repetition as usize].per_second
            ));
            ours.found.push(found);
            running.settle().await?;
        }
        let per_second = ours.median(|found| found.per_second);
        let appends_per_second = log.median(|found| found.per_second);
        Ok(Run {
            clients,
            transfers_per_second: per_second.round(),
            p50_us: tenths(ours.median(|found| found.p50_us)),
            p99_us: tenths(ours.median(|found| found.p99_us)),
            appends_per_second: appends_per_second.round(),
            log_p50_us: tenths(log.median(|found| found.p50_us)),
            log_p99_us: tenths(log.median(|found| found.p99_us)),
            ratio: thousandths(per_second / appends_per_second),
            cpu_us_per_transfer: hundredths(ours.cpu_us()),
            log_cpu_us: hundredths(log.cpu_us()),
            transfers_per_batch: tenths(ours.per_group()),
            appends_per_batch: tenths(log.per_group()),
            views_behind,
            samples: ours.samples(),
            log_samples: log.samples(),
        })
    }

    async fn close(self) -> anyhow::Result<()> {
        self.fronts.close().await?;
        self.log.log().close().await;
        self.ledger.running.close().await;
        Ok(())
    }
}
