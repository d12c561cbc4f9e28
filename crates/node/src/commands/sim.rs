//! `everfold sim`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::ValueEnum;
use everfold_ledger::simulated::Payments;
use everfold_store::simulated::Orders;
use everfold_world::workload::Workload;
use everfold_world::{
    Accounts, BadMutation, BadPlan, BadSetup, Mutation, Plan, Report, Scenario, Setup, Summary,
    kept, run_many, shrink,
};
use serde_json::{Value, json};

use crate::output::{self, Progress, say};

/// Runs an application in simulated worlds, one for each seed, and checks what must hold of it.
///
/// In each world nodes, store, network, clocks and disks go wrong in ways that the seed decides; the
/// same seed does the same again. A failure is made smaller, and printed as the command that repeats
/// it.
#[derive(clap::Args)]
pub struct Arguments {
    /// What the clients do
    #[arg(value_enum, default_value = "accounts")]
    workload: Named,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Scenarios that once failed, one a line, to be run before all others
    #[arg(long, value_name = "FILE")]
    kept: Option<PathBuf>,
    /// How many seeds; one unless told otherwise
    #[arg(long, conflicts_with = "seconds")]
    seeds: Option<u64>,
    /// As many seeds as fit into this time
    #[arg(long)]
    seconds: Option<u64>,
    /// Where the log lives, instead of where the seed says: embedded, shared, shared-disk, or
    /// cluster (shared by several nodes at once)
    #[arg(long, value_parser = setup)]
    setup: Option<Setup>,
    /// What goes wrong, instead of what the seed says: KIND@MILLISECONDS+LASTING/VARIANT,... or none
    #[arg(long, value_parser = plan)]
    faults: Option<Plan>,
    /// Which operations are asked for, by number, instead of all: 3,7,12 or none
    #[arg(long, value_parser = operations)]
    operations: Option<Operations>,
    /// Break a promise, to see that it is noticed: epoch-unchecked, answer-before-durability,
    /// ids-forgotten or checkpoint-unfenced
    #[arg(long, value_parser = mutation)]
    mutation: Option<Mutation>,
    /// Seeds at once; one for each core unless told otherwise
    #[arg(long)]
    threads: Option<usize>,
    /// Print what came of it as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Named {
    /// Accounts and transfers between them
    Accounts,
    /// The store of the demonstration: customers and orders that answer each other
    Store,
    /// The same, where a saga leads each order
    StoreSaga,
    /// Accounts, holds and transfers of the ledger
    Ledger,
}

#[derive(Clone)]
struct Operations(Vec<u32>);

fn setup(text: &str) -> Result<Setup, BadSetup> {
    text.parse()
}

fn plan(text: &str) -> Result<Plan, BadPlan> {
    text.parse()
}

fn mutation(text: &str) -> Result<Mutation, BadMutation> {
    text.parse()
}

fn operations(text: &str) -> Result<Operations, String> {
    if text == "none" {
        return Ok(Operations(Vec::new()));
    }
    let numbers = text.split(',').map(|number| {
        let parsed = number.trim().parse();
        parsed.map_err(|_| format!("{number:?} is no number of an operation"))
    });
    Ok(Operations(numbers.collect::<Result<_, _>>()?))
}

/// Failures that are made smaller and shown; the others are counted.
const SHOWN: usize = 5;

/// Runs it.
///
/// # Errors
/// A promise was broken.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.workload {
        Named::Accounts => simulate(Accounts, &arguments),
        Named::Store => simulate(Orders::choreographed(), &arguments),
        Named::Ledger => simulate(Payments, &arguments),
        Named::StoreSaga => simulate(Orders::orchestrated(), &arguments),
    }
}

fn simulate<W: Workload>(workload: W, arguments: &Arguments) -> anyhow::Result<()> {
    let workload = Arc::new(workload);
    let began = Instant::now();
    let mut summary = run_kept(&workload, arguments)?;
    summary.add(run_all(&workload, arguments, Instant::now()));
    let took = began.elapsed();
    let smallest = summary.failures.iter().take(SHOWN);
    let smallest: Vec<Report> = smallest.map(|failed| shrink(&workload, failed)).collect();
    let name = workload.name();
    if arguments.json {
        output::json(&json!({
            "workload": name,
            "seeds": summary.runs,
            "failures": summary.failures.iter().map(|r| r.scenario.seed).collect::<Vec<_>>(),
            "shrunk": smallest.iter().map(|report| shown(name, report)).collect::<Vec<_>>(),
            "coverage": summary.coverage,
            "steps": summary.steps,
            "millis": took.as_millis() as u64,
        }))?;
    } else {
        output::line(summary.coverage.to_string().trim_end())?;
        let rate = summary.runs as f64 / took.as_secs_f64().max(0.001);
        output::line(&format!(
            "{} seeds, {rate:.0} per second, {} failed",
            summary.runs,
            summary.failures.len()
        ))?;
        for report in &smallest {
            for violation in &report.violations {
                output::line(&format!("seed {}: {violation}", report.scenario.seed))?;
            }
            output::line(&format!("  {}", report.scenario.reproduction(name)))?;
        }
    }
    match summary.failures.len() {
        0 => Ok(()),
        failed => bail!("{failed} of {} seeds broke a promise", summary.runs),
    }
}

fn run_kept<W: Workload>(workload: &Arc<W>, arguments: &Arguments) -> anyhow::Result<Summary> {
    let mut summary = Summary::default();
    let Some(file) = &arguments.kept else {
        return Ok(summary);
    };
    let list = fs::read_to_string(file)
        .with_context(|| format!("the list {} cannot be read", file.display()))?;
    let list = kept(&list).map_err(|line| anyhow!("{}: {line}", file.display()))?;
    for scenario in list {
        let report = everfold_world::run(workload, &scenario, 0);
        summary.count(report);
    }
    Ok(summary)
}

fn run_all<W: Workload>(workload: &Arc<W>, arguments: &Arguments, began: Instant) -> Summary {
    let seeds = arguments.seeds.unwrap_or(1);
    let (last, length) = match arguments.seconds {
        Some(seconds) => (u64::MAX, seconds.saturating_mul(1000)),
        None => (arguments.seed.saturating_add(seeds), seeds),
    };
    let what = if arguments.seconds.is_some() {
        "milliseconds"
    } else {
        "seeds"
    };
    let progress = Progress::new(what, length);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let scenario = |seed| {
        let mut scenario = match arguments.setup {
            Some(setup) => Scenario::in_setup(seed, setup),
            None => Scenario::new(seed),
        };
        if let Some(plan) = &arguments.faults {
            scenario.plan = plan.clone();
        }
        if let Some(Operations(operations)) = &arguments.operations {
            scenario.operations = operations.clone();
        }
        scenario.mutation = arguments.mutation;
        scenario
    };
    let go_on = |over: u64| match arguments.seconds {
        Some(seconds) => {
            progress.reach((began.elapsed().as_millis() as u64).min(length));
            began.elapsed() < Duration::from_secs(seconds)
        }
        None => {
            progress.reach(over);
            true
        }
    };
    let threads = arguments.threads.unwrap_or(cores);
    let summary = run_many(workload, arguments.seed..last, threads, scenario, go_on);
    progress.finish();
    for report in &summary.failures {
        say(&format!("seed {} failed", report.scenario.seed));
    }
    summary
}

fn shown(workload: &str, report: &Report) -> Value {
    let scenario = &report.scenario;
    json!({
        "seed": scenario.seed,
        "setup": scenario.setup.name(),
        "faults": scenario.plan.to_string(),
        "operations": scenario.operations,
        "violations": report.violations,
        "repeat": scenario.reproduction(workload),
    })
}
