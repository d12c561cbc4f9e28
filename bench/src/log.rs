//! Durable appends to the log itself against a bare log of the same records.

mod bare;
mod front;
mod report;
mod sides;
mod sizes;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use everfold_engine::Layout;
use everfold_engine::world::{System, World};

use crate::bare_log::BareLog;
use crate::bare_write::BareWrite;
use crate::direct::FLAGS;
use crate::load::{fill, measure, mix};
use crate::machine::Place;
use crate::output::{Output, say};
use crate::turns::{
    Floor, REPETITIONS, Side, WARM_UP, hundredths, repetition, runtime, tenths, thousandths,
};
use bare::Records;

pub(crate) use bare::Append;
pub(crate) use front::Front;
pub use report::{Report, Run};
pub(crate) use sides::{Bare, Fronts, Ours};
pub use sizes::{Field, Sizes};

pub use crate::unit::Ids;

/// What to measure.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// How many writers append one event at a time; several numbers with commas.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256, 1024])]
    pub writers: Vec<usize>,
    /// Over how many partitions; several numbers with commas.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16])]
    pub partitions: Vec<u16>,
    /// How many writers append batches; several numbers with commas, 0 for none.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16])]
    pub batch_writers: Vec<usize>,
    /// Events of one such batch: one command's, to one order.
    #[arg(long, default_value_t = 100)]
    pub batch: usize,
    /// Which of an event's ids are the same.
    #[arg(long, value_enum, default_value_t = Ids::Distinct)]
    pub ids: Ids,
    /// Without the hash chain.
    #[arg(long)]
    pub unchained: bool,
    /// Counted seconds per row and side, all repetitions together.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
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
    let time = repetition(args.seconds)?;
    ensure!(
        args.writers
            .iter()
            .all(|count| (1..=16_384).contains(count)),
        "--writers are 1 to 16384"
    );
    ensure!(
        args.batch_writers.iter().all(|count| *count <= 1024),
        "--batch-writers are 0 to 1024"
    );
    ensure!(
        (2..=1000).contains(&args.batch),
        "--batch is 2 to 1000 events"
    );
    let layouts = args.partitions.iter().map(|count| Layout::first(*count));
    let layouts = layouts.collect::<Result<Vec<_>, _>>()?;
    ensure!(!layouts.is_empty(), "--partitions are 1 to 1024");
    let place = Place::find(args.output.data.as_deref())?;
    runtime()?.block_on(measured(args, &place, &layouts, time))
}

async fn measured(
    args: &Args,
    place: &Place,
    layouts: &[Layout],
    time: Duration,
) -> anyhow::Result<Report> {
    say(format_args!("preparing in {}", place.path().display()));
    let machine = place.machine()?;
    let mut bare_write = BareWrite::create(place.path())?;
    let mut runs = Vec::new();
    let mut floor = None;
    let mut durability = String::new();
    for layout in layouts {
        let mut bench = Bench::open(args, *layout, place, time).await?;
        durability = format!("{} (bare log: {FLAGS})", bench.ours.log().durability());
        if floor.is_none() {
            let bare = Arc::new(bench.bare(1));
            floor = Some(Floor::find(&mut bare_write, &bare, time).await?);
        }
        for writers in &args.writers {
            runs.push(bench.row(*writers, 1).await?);
        }
        for writers in args.batch_writers.iter().filter(|count| **count > 0) {
            runs.push(bench.row(*writers, args.batch).await?);
        }
        bench.close().await?;
    }
    let floor = floor.context("no row was measured")?;
    Ok(Report {
        runs,
        ids: args.ids,
        chained: !args.unchained,
        sizes: vec![sizes::sizes(Ids::Distinct)?, sizes::sizes(Ids::Coinciding)?],
        bare_write_p50_us: tenths(floor.bare_write_p50_us),
        bare_p50_us: tenths(floor.reference_p50_us),
        valid: floor.valid(),
        durability,
        machine,
    })
}

/// Both sides with so many partitions.
struct Bench {
    ours: Ours,
    bare_log: BareLog<Records>,
    world: Arc<dyn World>,
    ids: Ids,
    layout: Layout,
    /// Counted time of one repetition.
    time: Duration,
}

impl Bench {
    async fn open(
        args: &Args,
        layout: Layout,
        place: &Place,
        time: Duration,
    ) -> anyhow::Result<Self> {
        let directory = place
            .path()
            .join(format!("partitions-{}", layout.partitions));
        std::fs::create_dir(&directory)?;
        let world: Arc<dyn World> = System::current();
        let path = directory.join("log");
        let ours = Ours::open(&path, world.clone(), layout, args.ids, !args.unchained).await?;
        let format = Records::new(world.clone(), ours.log().identity().origin(), layout);
        let bare_log = BareLog::create(&directory, format).context("direct writes are needed")?;
        let bench = Self {
            ours,
            bare_log,
            world,
            ids: args.ids,
            layout,
            time,
        };
        // Every order once: the log's index has them all from the start.
        let fronts = bench.ours.fronts(1).await?;
        fill(&fronts.target).await?;
        fronts.close().await?;
        Ok(bench)
    }

    fn bare(&self, events: usize) -> Bare {
        let sender = self.bare_log.sender();
        Bare::new(sender, self.world.clone(), self.ids, self.layout, events)
    }

    async fn row(&mut self, writers: usize, events: usize) -> anyhow::Result<Run> {
        let (mut ours, mut bare) = (Side::default(), Side::default());
        let bare_target = Arc::new(self.bare(events));
        let fronts = self.ours.fronts(events).await?;
        let heads = self.ours.heads().await?;
        let warm_up = WARM_UP.min(self.time);
        let bytes_before = self.bare_log.bytes();
        for repetition in 0..REPETITIONS {
            let seed = mix((writers as u64) << 8 | u64::from(repetition));
            let groups = self.bare_log.groups();
            let found = measure(&bare_target, writers, warm_up, self.time, seed).await?;
            bare.groups += self.bare_log.groups() - groups;
            bare.found.push(found);

            let batches = self.ours.batches();
            let found = measure(&fronts.target, writers, warm_up, self.time, seed).await?;
            ours.groups += self.ours.batches() - batches;
            say(format_args!(
                "{writers} writers, {} partitions, {events} events, {} of {REPETITIONS}: {:.0}/s, bare {:.0}/s",
                self.layout.partitions,
                repetition + 1,
                found.per_second,
                bare.found[repetition as usize].per_second
            ));
            ours.found.push(found);
        }
        fronts.close().await?;
        let bare_bytes = self.bare_log.bytes() - bytes_before;
        let per_second = ours.median(|found| found.per_second);
        let bare_per_second = bare.median(|found| found.per_second);
        let each = events as f64;
        Ok(Run {
            writers,
            partitions: self.layout.partitions,
            events_per_append: events,
            appends_per_second: per_second.round(),
            events_per_second: (per_second * each).round(),
            p50_us: tenths(ours.median(|found| found.p50_us)),
            p99_us: tenths(ours.median(|found| found.p99_us)),
            p999_us: tenths(ours.median(|found| found.p999_us)),
            bytes_per_event: tenths(self.ours.bytes_per_event(&heads).await?),
            cpu_us_per_event: hundredths(ours.cpu_us() / each),
            appends_per_batch: tenths(ours.per_group()),
            bare_per_second: bare_per_second.round(),
            bare_p50_us: tenths(bare.median(|found| found.p50_us)),
            bare_p99_us: tenths(bare.median(|found| found.p99_us)),
            bare_p999_us: tenths(bare.median(|found| found.p999_us)),
            bare_bytes_per_event: tenths(bare_bytes as f64 / (bare.sent() as f64 * each)),
            bare_cpu_us: hundredths(bare.cpu_us() / each),
            bare_per_write: tenths(bare.per_group()),
            ratio: thousandths(per_second / bare_per_second),
            samples: ours.samples(),
            bare_samples: bare.samples(),
        })
    }

    async fn close(self) -> anyhow::Result<()> {
        self.ours.log().close().await;
        self.bare_log.close().context("the bare log")
    }
}
