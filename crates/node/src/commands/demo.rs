//! `everfold demo`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Subcommand;
use clap::builder::TypedValueParser;
use everfold::engine::world::System;
use everfold::engine::{Timestamp, World};
use everfold::{DataClock, Node, NodeOptions, TimerClock};
use everfold_store::money::Money;
use serde::{Deserialize, Serialize};

use crate::demo::directory::{self, Directory};
use crate::demo::figures::{self, Figures};
use crate::demo::load::{Rules, Tally, load};
use crate::output::{self, Progress};
use crate::place::{Choice, Parser, Reached};
use crate::purchases::{self, History};
use crate::serve::{self, Stop};
use crate::store::{self, Form};

pub mod ledger;

/// Plays 69,659 real purchases against a store with credit limits, and shows what came of it.
///
/// Every customer gets the same credit limit. Orders reserve credit, are shipped on approval and
/// paid after some days, which frees the credit again. A run that was interrupted goes on where it
/// stands; a finished one is opened at once.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    store: Store,
}

/// Instead of the store.
#[derive(Subcommand)]
enum Other {
    /// Play transfers against a double-entry ledger instead, and check that its books balance
    Ledger(ledger::Arguments),
}

#[derive(clap::Args)]
struct Store {
    /// Directory to keep the store in [default: everfold/demo in the user's data directory]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Database to keep the log in, postgres://user:password@host/database?schema=NAME, whose schema is
    /// made if it is absent; or postgres for a private server, started from the installed binaries
    /// [default: the embedded log in the directory]
    #[arg(long, value_name = "ADDRESS", value_parser = Parser)]
    engine: Option<Choice>,
    /// Empty the directory and the log first; only one that the demonstration made
    #[arg(long)]
    fresh: bool,
    /// Purchase history to play, plain or packed with gzip [default: the one in this program]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Credit limit of every customer
    #[arg(long, value_name = "AMOUNT", default_value = "200.00", allow_hyphen_values = true,
          value_parser = clap::builder::StringValueParser::new().try_map(credit_limit))]
    credit_limit: Money,
    /// Days after which an approved order is paid
    #[arg(long, value_name = "DAYS", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(1..=36_500))]
    payment_days: u32,
    /// Customers that are played at once
    #[arg(long, value_name = "N", default_value_t = 2000,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    #[command(flatten)]
    ending: Ending,
}

/// What comes when all is played.
#[derive(clap::Args)]
struct Ending {
    /// Port to serve on; the next free one if it is taken, any free one for 0
    #[arg(long, value_name = "PORT", default_value_t = serve::PORT)]
    port: u16,
    /// End when everything is played, instead of serving it
    #[arg(long)]
    exit: bool,
    /// Print the figures as one JSON object
    #[arg(long)]
    json: bool,
}

/// What a directory of the store was loaded with.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Settings {
    /// Every customer's limit.
    credit_limit: Money,
    /// When an approved order is paid.
    payment_days: u32,
    /// The fingerprint of the purchase history.
    input: String,
}

impl directory::Settings for Settings {
    const DEMO: &'static str = "store";

    fn differences(&self, asked: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        if self.credit_limit != asked.credit_limit {
            let (there, asked) = (self.credit_limit, asked.credit_limit);
            differences.push(format!("--credit-limit {there}, not {asked}"));
        }
        if self.payment_days != asked.payment_days {
            let (there, asked) = (self.payment_days, asked.payment_days);
            differences.push(format!("--payment-days {there}, not {asked}"));
        }
        if self.input != asked.input {
            differences.push("another purchase history".to_owned());
        }
        differences
    }
}

fn credit_limit(text: String) -> Result<Money, String> {
    match text.parse::<Money>() {
        Ok(limit) if limit.is_negative() => Err("a credit limit is zero or more".into()),
        Ok(limit) => Ok(limit),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs it.
///
/// # Errors
/// See the messages.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.other {
        Some(Other::Ledger(arguments)) => ledger::run(&arguments),
        None => play(&arguments.store),
    }
}

fn play(arguments: &Store) -> anyhow::Result<()> {
    let begin = Instant::now();
    let history = purchases::read(arguments.input.as_deref())?;
    let settings = Settings {
        credit_limit: arguments.credit_limit,
        payment_days: arguments.payment_days,
        input: history.fingerprint.clone(),
    };
    let path = match &arguments.data {
        Some(path) => path.clone(),
        None => directory::default_path("demo")?,
    };
    let engine = arguments.engine.clone();
    let mut directory = Directory::take(&path, settings, engine, arguments.fresh)?;
    let reached = Reached::to_write(directory.place())?;
    let runtime = tokio::runtime::Runtime::new()?;
    // Deadlines of the history run in its own time, as far as it is played.
    let clock = DataClock::at(Timestamp(0));
    let options = NodeOptions {
        timers: TimerClock::Driven(clock.clone()),
        ..NodeOptions::default()
    };
    runtime.block_on(async {
        let world: Arc<dyn World> = System::current();
        let log = directory.open(&reached, world.clone()).await?;
        let application = Form::Choreography.application();
        let node = store::open_on(application, log, world, options).await?;
        let shown = show(arguments, &mut directory, &node, &clock, history, begin).await;
        node.close().await;
        shown
    })?;
    drop(runtime);
    reached.close()
}

async fn show(
    arguments: &Store,
    directory: &mut Directory<Settings>,
    node: &Arc<Node>,
    clock: &DataClock,
    history: History,
    begin: Instant,
) -> anyhow::Result<()> {
    let mut stop = Stop::new()?;
    node.caught_up().await?;
    let last_day = history.last_day;
    let tally = Arc::new(Tally::default());
    if !directory.is_complete() {
        let rules = Rules {
            credit_limit: arguments.credit_limit,
            payment_days: arguments.payment_days,
            concurrency: arguments.concurrency as usize,
        };
        let purchases = history.purchases() as u64;
        let loading = load(node.clone(), history, rules, tally.clone());
        let done = || tally.purchases.load(Ordering::Relaxed);
        watched("orders", purchases, loading, done, &mut stop).await?;
    }
    // Customers are played one after the other, so only now has all of that time passed.
    clock.advance(last_day);
    let figures = measured(node, &tally, begin).await?;
    if !directory.is_complete() {
        directory.complete()?;
    }
    if arguments.ending.json {
        output::json(&figures)?;
    } else {
        print(&figures)?;
    }
    if !arguments.ending.exit {
        drop(stop);
        let api = everfold_store::http::router(node.clone());
        let served = serve::serve(node.clone(), api, serve::here(arguments.ending.port));
        tokio::select! { biased;
            served = served => served?,
            () = follow(clock, node) => {}
        }
    }
    Ok(())
}

/// Runs something long with a progress bar, until it ends or somebody asks the process to.
async fn watched(
    what: &'static str,
    length: u64,
    work: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    done: impl Fn() -> u64,
    stop: &mut Stop,
) -> anyhow::Result<()> {
    let progress = Progress::new(what, length);
    let mut work = tokio::spawn(work);
    let mut beat = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! { biased;
            ended = &mut work => return ended?,
            () = stop.asked() => {
                work.abort();
                bail!("interrupted; the same command goes on where it stopped");
            }
            _ = beat.tick() => progress.reach(done()),
        }
    }
}

/// The history is over: from now on its time is that of the world.
async fn follow(clock: &DataClock, node: &Node) {
    loop {
        clock.advance(node.world().now());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn measured(node: &Node, tally: &Tally, begin: Instant) -> anyhow::Result<Figures> {
    let (totals, _) = figures::totals(node).await?;
    let events = figures::count_events(node).await?;
    let commands = tally.commands.load(Ordering::Relaxed);
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Figures {
        customers: totals.customers,
        orders: totals.orders,
        approved: totals.approved,
        rejected: totals.rejected,
        approved_total: totals.approved_total,
        reserved_at_end: totals.reserved,
        events,
        commands,
        seconds: (seconds * 1000.0).round() / 1000.0,
        commands_per_second: (commands as f64 / seconds) as u64,
        durability: node.engine().durability(),
    })
}

fn print(figures: &Figures) -> anyhow::Result<()> {
    let rows = [
        ("customers", figures.customers.to_string()),
        ("orders", figures.orders.to_string()),
        ("  approved", figures.approved.to_string()),
        ("  rejected", figures.rejected.to_string()),
        ("approved total", figures.approved_total.to_string()),
        ("reserved at the end", figures.reserved_at_end.to_string()),
        ("events in the log", figures.events.to_string()),
        ("commands of this run", figures.commands.to_string()),
        ("seconds", format!("{:.3}", figures.seconds)),
        (
            "commands per second",
            figures.commands_per_second.to_string(),
        ),
    ];
    print_rows(&rows)?;
    output::line(&format!("an acknowledged event: {}", figures.durability))
}

/// Figures with their names, one a line.
fn print_rows(rows: &[(&str, String)]) -> anyhow::Result<()> {
    for (name, value) in rows {
        output::line(&format!("{name:<22}{value:>14}"))?;
    }
    Ok(())
}
