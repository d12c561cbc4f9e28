//! `everfold chaos`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use everfold_cluster::Settings as Membership;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::chaos::cluster::Shape;
use crate::chaos::plan::{self, BadFault, FaultKind};
use crate::chaos::report::Report;
use crate::chaos::workload::ledger::Branches;
use crate::chaos::workload::register::Registers;
use crate::chaos::workload::store::Customers;
use crate::chaos::{self, Settings, clients, net};
use crate::failure::refused;
use crate::output::{self, say};

/// Starts a store and some nodes on this machine, lets things go wrong while clients ask, and checks
/// what must hold.
///
/// Processes are killed and stopped, networks are cut or slow, the store crashes, all at moments that the seed
/// decides. How it ends depends on this machine's time too, so the same seed need not end the same.
/// What clients asked for and were told can be kept in a file, in the form that Jepsen's checkers read.
#[derive(clap::Args)]
pub struct Arguments {
    /// The store that the nodes share; a private server is started for it
    #[arg(long, value_enum, default_value = "postgres")]
    engine: Engine,
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=90))]
    nodes: u8,
    /// How long clients ask
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// What clients do
    #[arg(long, value_enum, default_value = "register")]
    workload: Named,
    /// What may go wrong: kill, freeze, partition, slow, restart-engine, or none
    #[arg(long, value_parser = faults, default_value = "kill,freeze,partition,slow,restart-engine")]
    faults: Faults,
    /// What everything is drawn from
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Keep the history of all operations in this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// How many clients; every other one goes through one node
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=1000))]
    clients: u64,
    /// Operations in a second, of all clients together
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// Partitions of the log
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    partitions: u16,
    /// Keep everything in this directory, which must not exist, also at the end
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Let all nodes share this machine's network, without `partition`
    #[arg(long)]
    no_namespaces: bool,
    /// Print what came of it as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Engine {
    Postgres,
}

#[derive(Clone, Copy, ValueEnum)]
enum Named {
    /// Registers that are read, written and compared; judged by linearizability
    Register,
    /// Transfers between accounts; judged by their sums and by the log
    Ledger,
    /// Orders on credit, decided by handlers; judged by the log and the views
    Store,
}

#[derive(Clone, Debug)]
struct Faults(Vec<FaultKind>);

fn faults(text: &str) -> Result<Faults, BadFault> {
    if text == "none" {
        return Ok(Faults(Vec::new()));
    }
    let mut kinds = Vec::new();
    for name in text.split(',') {
        let kind = name.trim().parse()?;
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    Ok(Faults(kinds))
}

/// Keys, branches and customers.
const KEYS: u64 = 20;
const BRANCHES: u64 = 5;
const CUSTOMERS: u64 = 10;

/// Runs it.
///
/// # Errors
/// Something that must hold was broken, or it could not be carried out.
pub fn run(mut arguments: Arguments) -> anyhow::Result<()> {
    let Engine::Postgres = arguments.engine;
    if arguments.no_namespaces && arguments.faults.0.contains(&FaultKind::Partition) {
        say("without networks of their own nodes cannot be cut off: there will be no partitions");
        arguments
            .faults
            .0
            .retain(|kind| *kind != FaultKind::Partition);
    }
    let namespaces = arguments.faults.0.contains(&FaultKind::Partition);
    if namespaces {
        net::check()?;
    }
    chaos::remove_left_behind();
    let (folder, keep) = match &arguments.work {
        Some(folder) => (own(folder)?, true),
        None => (chaos::make_folder()?, false),
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(live(&arguments, &folder, namespaces));
    drop(runtime);
    let fine = outcome
        .as_ref()
        .is_ok_and(|report| report.violations.is_empty());
    if fine && !keep {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("{} cannot be removed", folder.display()))?;
    } else {
        say(&format!("what the nodes said is in {}", folder.display()));
    }
    let report = outcome?;
    if arguments.json {
        output::json(&report)?;
    } else {
        for line in report.lines() {
            output::line(&output::plain(&line))?;
        }
    }
    match report.violations.len() {
        0 => Ok(()),
        broken => bail!("{broken} violations of what must hold"),
    }
}

/// A folder that somebody named; it is theirs to keep.
fn own(folder: &Path) -> anyhow::Result<PathBuf> {
    if folder.exists() {
        let folder = folder.display();
        return Err(refused(format!(
            "{folder} exists: name a directory that does not"
        )));
    }
    let made = fs::create_dir_all(folder).and_then(|()| folder.canonicalize());
    made.with_context(|| format!("{} cannot be made", folder.display()))
}

async fn live(arguments: &Arguments, folder: &Path, namespaces: bool) -> anyhow::Result<Report> {
    let length = Duration::from_secs(arguments.seconds);
    let nodes = usize::from(arguments.nodes);
    let lease = Membership::new("", "", ([127, 0, 0, 1], 0).into()).lease;
    let terms = plan::Terms {
        length,
        nodes,
        lease,
        kinds: &arguments.faults.0,
    };
    let application = match arguments.workload {
        Named::Register => "register",
        Named::Ledger => "ledger",
        Named::Store => "store",
    };
    let settings = Settings {
        shape: Shape {
            program: std::env::current_exe().context("this program is not found")?,
            folder: folder.to_owned(),
            nodes,
            partitions: arguments.partitions,
            application,
            namespaces,
            relays: arguments.faults.0.contains(&FaultKind::Slow),
        },
        length,
        plan: plan::draw(arguments.seed, &terms),
        clients: clients::Terms {
            clients: arguments.clients,
            rate: arguments.rate,
            seed: arguments.seed,
        },
        history: arguments.history.clone(),
        seed: arguments.seed,
    };
    let asked = ending()?;
    match arguments.workload {
        Named::Register => chaos::run(Registers { keys: KEYS }, settings, asked).await,
        Named::Ledger => {
            let branches = Branches { branches: BRANCHES };
            chaos::run(branches, settings, asked).await
        }
        Named::Store => {
            let customers = Customers {
                customers: CUSTOMERS,
            };
            chaos::run(customers, settings, asked).await
        }
    }
}

/// Says when somebody asks for the end.
fn ending() -> anyhow::Result<watch::Receiver<bool>> {
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let (asked, ending) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! { biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        asked.send_replace(true);
        // Whoever waits for the end may still look.
        asked.closed().await;
    });
    Ok(ending)
}
