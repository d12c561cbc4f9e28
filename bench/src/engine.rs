//! An engine on a database server, against what is written by hand on the same server: durable
//! appends against group commits into the same table, replay against a bare copy.

mod groups;
mod replay;
mod report;
mod site;

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use everfold_engine::Engine as _;
use everfold_engine::world::{System, World};
use everfold_postgres::{Options, Postgres};

use crate::load::{Target, fill, measure, mix};
use crate::log::{Bare, Fronts, Ids, Ours};
use crate::machine::Place;
use crate::output::{Output, say};
use crate::turns::{
    REPETITIONS, Side, WARM_UP, hundredths, repetition, runtime, tenths, thousandths,
};
use groups::Groups;
use site::BARE;

pub(crate) use site::Site;

pub use report::{Replay, Report, Run};

/// What to measure.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The server: `postgres://user@host/database`, or `postgres` for a private one.
    #[arg(long)]
    pub engine: String,
    /// How many clients append one event at a time; several numbers with commas.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1024])]
    pub clients: Vec<usize>,
    /// Connections that append, on either side; 1 to 6.
    #[arg(long, default_value_t = Options::default().writers)]
    pub connections: usize,
    /// Partitions of the log.
    #[arg(long, default_value_t = 16)]
    pub partitions: u16,
    /// Events that are read at least; more are appended if there are fewer.
    #[arg(long, default_value_t = 300_000)]
    pub events: u64,
    /// Counted seconds per row and side, all repetitions together.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Where a private server's files are, and how it says what it found.
    #[command(flatten)]
    pub output: Output,
}

/// Measures, and prints what was found to standard output; progress goes to standard error.
///
/// # Errors
/// What kept it from measuring.
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
    let most = 1..=16_384;
    let counts = args.clients.iter().all(|clients| most.contains(clients));
    ensure!(counts, "--clients are 1 to 16384");
    // The loop's connections are of those that the engine has for reading.
    ensure!(
        (1..=6).contains(&args.connections),
        "--connections are 1 to 6"
    );
    let place = Place::find(args.output.data.as_deref())?;
    let site = Site::find(&args.engine, place.path())?;
    runtime()?.block_on(measured(args, &place, site, time))
}

async fn measured(
    args: &Args,
    place: &Place,
    site: Site,
    time: Duration,
) -> anyhow::Result<Report> {
    site.clear().await?;
    let world: Arc<dyn World> = System::current();
    let options = Options {
        partitions: Some(args.partitions),
        writers: args.connections,
        ..Options::default()
    };
    let log = Postgres::open(site.address(), world.clone(), options).await?;
    site.make_bare(&log).await?;
    let measured = both(args, place, &site, &log, &world, time).await;
    let closed = site.close(&log).await;
    let report = measured?;
    closed?;
    Ok(report)
}

async fn both(
    args: &Args,
    place: &Place,
    site: &Site,
    log: &Arc<Postgres>,
    world: &Arc<dyn World>,
    time: Duration,
) -> anyhow::Result<Report> {
    let machine = place.machine()?;
    let (origin, layout) = (log.identity().origin(), log.identity().layout);
    let ids = Ids::Coinciding;
    let ours = Ours::over(log.clone(), world.clone(), ids);
    let groups = Groups::start(log, BARE, args.connections, world, (origin, layout)).await?;
    let bare = Bare::new(groups.sender.clone(), world.clone(), ids, layout, 1);
    let bench = Bench {
        fronts: ours.fronts(1).await?,
        ours,
        bare: Arc::new(bare),
        groups,
        time,
    };
    say(format_args!("filling both tables"));
    fill(&bench.bare).await?;
    fill(&bench.fronts.target).await?;
    let mut runs = Vec::new();
    for clients in &args.clients {
        runs.push(bench.row(*clients).await?);
    }
    while heads(log).await? < args.events {
        fill(&bench.fronts.target).await?;
    }
    bench.close().await?;
    analyse(log).await?;
    Ok(Report {
        runs,
        replay: replay::measure(log, site::OURS).await?,
        partitions: layout.partitions,
        connections: args.connections,
        durability: log.durability(),
        server: site.settings(log).await?,
        machine,
    })
}

/// Events of all partitions.
async fn heads(log: &Postgres) -> anyhow::Result<u64> {
    let mut events = 0;
    for partition in log.identity().layout.all() {
        events += log.safe_head(partition).await?.0;
    }
    Ok(events)
}

/// What the server does by itself after a while: without it, the first to read would pay for all.
async fn analyse(log: &Postgres) -> anyhow::Result<()> {
    let session = log.session().await?;
    let sql = format!(
        "set statement_timeout = 0; vacuum (analyze) {}.event",
        site::OURS
    );
    for sql in sql.split(';') {
        session.batch_execute(sql).await?;
    }
    Ok(())
}

/// Both sides.
struct Bench {
    ours: Ours,
    fronts: Fronts,
    bare: Arc<Bare>,
    groups: Groups,
    /// Counted time of one repetition.
    time: Duration,
}

impl Bench {
    async fn row(&self, clients: usize) -> anyhow::Result<Run> {
        let (mut ours, mut bare) = (Side::default(), Side::default());
        for repetition in 0..REPETITIONS {
            let seed = mix((clients as u64) << 8 | u64::from(repetition));
            // Whoever comes second finds what the first one has left to do: not always the same.
            for turn in 0..2 {
                if (turn + repetition) % 2 == 0 {
                    let of = || self.groups.groups();
                    self.turn(&self.bare, of, &mut bare, clients, seed).await?;
                } else {
                    let (target, of) = (&self.fronts.target, || self.ours.batches());
                    self.turn(target, of, &mut ours, clients, seed).await?;
                }
            }
            let last = |side: &Side| side.found.last().map_or(0.0, |found| found.per_second);
            say(format_args!(
                "{clients} clients, {} of {REPETITIONS}: {:.0}/s, bare {:.0}/s",
                repetition + 1,
                last(&ours),
                last(&bare)
            ));
        }
        let per_second = ours.median(|found| found.per_second);
        let bare_per_second = bare.median(|found| found.per_second);
        Ok(Run {
            clients,
            appends_per_second: per_second.round(),
            p50_us: tenths(ours.median(|found| found.p50_us)),
            p99_us: tenths(ours.median(|found| found.p99_us)),
            cpu_us_per_append: hundredths(ours.cpu_us()),
            appends_per_batch: tenths(ours.per_group()),
            bare_per_second: bare_per_second.round(),
            bare_p50_us: tenths(bare.median(|found| found.p50_us)),
            bare_p99_us: tenths(bare.median(|found| found.p99_us)),
            bare_cpu_us: hundredths(bare.cpu_us()),
            bare_per_statement: tenths(bare.per_group()),
            ratio: thousandths(per_second / bare_per_second),
            samples: ours.samples(),
            bare_samples: bare.samples(),
        })
    }

    async fn turn<T: Target>(
        &self,
        target: &Arc<T>,
        groups: impl Fn() -> u64,
        side: &mut Side,
        clients: usize,
        seed: u64,
    ) -> anyhow::Result<()> {
        let before = groups();
        let warm_up = WARM_UP.min(self.time);
        let found = measure(target, clients, warm_up, self.time, seed).await?;
        side.groups += groups() - before;
        side.found.push(found);
        Ok(())
    }

    async fn close(self) -> anyhow::Result<()> {
        drop(self.bare);
        self.fronts.close().await?;
        self.groups.close().await
    }
}
