//! `everfold demo ledger`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use everfold::engine::World;
use everfold::engine::world::System;
use everfold::{Node, NodeOptions};

use super::{Ending, print_rows, watched};
use crate::demo::directory::{self, Directory};
use crate::demo::ledger::Settings;
use crate::demo::ledger::figures::{self, Figures};
use crate::demo::ledger::plan::Plan;
use crate::demo::ledger::play::{self, Tally};
use crate::failure::Damaged;
use crate::output;
use crate::place::{Choice, Parser, Reached};
use crate::serve::{self, Stop};
use crate::store;

/// Plays transfers against a double-entry ledger, and checks that its books balance at every moment.
///
/// Accounts and transfers are drawn from a seed. Some transfers name accounts that do not exist or
/// were closed, and some ask for more than there is: those are rejected. A run that was interrupted
/// goes on where it stands, and every transfer is decided once; a finished one is opened at once.
#[derive(clap::Args)]
pub struct Arguments {
    /// Directory to keep the ledger in [default: everfold/ledger in the user's data directory]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Database to keep the log in, postgres://user:password@host/database?schema=NAME, whose schema is
    /// made if it is absent; or postgres for a private server, started from the installed binaries
    /// [default: the embedded log in the directory]
    #[arg(long, value_name = "ADDRESS", value_parser = Parser)]
    engine: Option<Choice>,
    /// Empty the directory and the log first; only one that this demonstration made
    #[arg(long)]
    fresh: bool,
    /// How many accounts
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u64).range(2..=10_000_000))]
    accounts: u64,
    /// How many transfers
    #[arg(long, value_name = "M", default_value_t = 100_000,
          value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    transfers: u64,
    /// Of a hundred transfers, so many go from one branch to another: by a saga, not in one step
    #[arg(long, value_name = "PERCENT", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(0..=100))]
    cross: u64,
    /// What accounts and transfers are drawn from
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Clients that ask at once
    #[arg(long, value_name = "C", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    #[command(flatten)]
    ending: Ending,
}

/// Runs it.
///
/// # Errors
/// See the messages.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let begin = Instant::now();
    let path = match &arguments.data {
        Some(path) => path.clone(),
        None => directory::default_path("ledger")?,
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let world: Arc<dyn World> = runtime.block_on(async { System::current() });
    let settings = Settings {
        accounts: arguments.accounts,
        transfers: arguments.transfers,
        cross: arguments.cross,
        seed: arguments.seed,
        created: world.now().millis(),
    };
    let engine = arguments.engine.clone();
    let mut directory = Directory::take(&path, settings, engine, arguments.fresh)?;
    let reached = Reached::to_write(directory.place())?;
    let played = runtime.block_on(async {
        let log = directory.open(&reached, world.clone()).await?;
        let application = everfold_ledger::application();
        let node = store::open_on(application, log, world, NodeOptions::default()).await?;
        let shown = show(arguments, &mut directory, &node, begin).await;
        node.close().await;
        shown
    });
    drop(runtime);
    let stopped = reached.close();
    played.and(stopped)
}

async fn show(
    arguments: &Arguments,
    directory: &mut Directory<Settings>,
    node: &Arc<Node>,
    begin: Instant,
) -> anyhow::Result<()> {
    let mut stop = Stop::new()?;
    let tally = Arc::new(Tally::default());
    let mut playing = Duration::ZERO;
    if !directory.is_complete() {
        let plan = Plan::new(directory.settings());
        let clients = arguments.concurrency as usize;
        let opening = play::open_accounts(node.clone(), plan.clone(), clients, tally.clone());
        let opened = || tally.accounts.load(Ordering::Relaxed);
        watched("accounts", plan.accounts(), opening, opened, &mut stop).await?;
        let first = Instant::now();
        let transfers = plan.transfers();
        let moving = play::transfer(node.clone(), plan, clients, tally.clone());
        let decided = || tally.transfers();
        watched("transfers", transfers, moving, decided, &mut stop).await?;
        playing = first.elapsed();
    }
    let (figures, fault) = measured(directory, node, &tally, playing, begin).await?;
    if fault.is_none() && !directory.is_complete() {
        directory.complete()?;
    }
    if arguments.ending.json {
        output::json(&figures)?;
    } else {
        print(&figures)?;
    }
    if let Some(fault) = fault {
        let reason =
            format!("the ledger does not balance: {fault}; keep the directory, and report it");
        return Err(Damaged(reason).into());
    }
    if !arguments.ending.exit {
        drop(stop);
        serve::serve(
            node.clone(),
            Router::new(),
            serve::here(arguments.ending.port),
        )
        .await?;
    }
    Ok(())
}

/// The figures, and why the ledger does not balance if it does not.
async fn measured(
    directory: &Directory<Settings>,
    node: &Node,
    tally: &Tally,
    playing: Duration,
    begin: Instant,
) -> anyhow::Result<(Figures, Option<String>)> {
    let checked = figures::check(node).await?;
    let (books, mut fault) = (checked.books, checked.fault);
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    // A finished directory has all of its transfers decided; which were accepted, the books say.
    let (accepted, rejected) = if directory.is_complete() {
        let transfers = directory.settings().transfers;
        (books.transfers, transfers.saturating_sub(books.transfers))
    } else {
        (load(&tally.accepted), load(&tally.rejected))
    };
    if fault.is_none() && accepted != books.transfers {
        let moved = books.transfers;
        fault = Some(format!(
            "{accepted} transfers were accepted, and {moved} moved money"
        ));
    }
    let seconds = |time: Duration| (time.as_secs_f64() * 1000.0).round() / 1000.0;
    let per_second = tally.transfers() as f64 / playing.as_secs_f64().max(1e-9);
    let figures = Figures {
        transfers: accepted + rejected,
        accepted,
        between_tags: books.between_tags,
        rejected,
        balanced: fault.is_none(),
        accounts: books.accounts,
        closed: books.closed,
        debits: books.debits,
        credits: books.credits,
        in_transit: books.in_transit,
        transfers_per_second: per_second as u64,
        seconds: seconds(begin.elapsed()),
        durability: node.engine().durability(),
    };
    Ok((figures, fault))
}

fn print(figures: &Figures) -> anyhow::Result<()> {
    let balanced = if figures.balanced { "yes" } else { "NO" };
    let rows = [
        ("accounts", figures.accounts.to_string()),
        ("  closed", figures.closed.to_string()),
        ("transfers", figures.transfers.to_string()),
        ("  accepted", figures.accepted.to_string()),
        ("    between tags", figures.between_tags.to_string()),
        ("  rejected", figures.rejected.to_string()),
        ("debits", figures.debits.to_string()),
        ("credits", figures.credits.to_string()),
        ("in transit", figures.in_transit.to_string()),
        ("balanced at all times", balanced.to_owned()),
        ("seconds", format!("{:.3}", figures.seconds)),
        (
            "transfers per second",
            figures.transfers_per_second.to_string(),
        ),
    ];
    print_rows(&rows)?;
    output::line(&format!("an acknowledged transfer: {}", figures.durability))
}
