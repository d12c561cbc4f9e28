//! The same appends, equally durable, on Everfold's embedded log and on other stores, by turns in
//! one run: stores that an application could have used instead.

mod check;
mod front;
mod load;
mod machine;
mod plan;
mod report;
mod server;
mod store;
mod stores;
mod workload;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// Of the threads that clients and stores share, the allocator is part of every figure; this one
/// frees well across threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures durable appends with an expected version, replay and reading one entity, on several
/// stores by turns.
#[derive(Parser, Debug)]
struct Arguments {
    /// Seconds that count per store, number of writers and repetition.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds of warm-up before each of them; a quarter of `--seconds` if not given, 0.5 at most.
    #[arg(long)]
    warm_up: Option<f64>,
    /// Repetitions; the median is reported.
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// How many writers append at the same time, each one event after the other.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256,1024")]
    writers: Vec<usize>,
    /// Events of the log that is read, ten per entity; 0 leaves reading out.
    #[arg(long, default_value_t = 1_000_000)]
    events: usize,
    /// Measure only these stores, by name.
    #[arg(long, value_delimiter = ',')]
    stores: Vec<String>,
    /// Say which stores there are, and what an acknowledgement means in each.
    #[arg(long)]
    list: bool,
    /// Where the files are for the time of the run: a directory on a disk.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Look for server programs here first, then where programs are.
    #[arg(long)]
    servers: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.list {
        print!("{}", report::list());
        return Ok(());
    }
    let seconds = arguments.seconds.max(0.01);
    let warm_up = arguments.warm_up.unwrap_or((seconds / 4.0).min(0.5));
    let plan = plan::Plan {
        time: Duration::from_secs_f64(seconds),
        warm_up: Duration::from_secs_f64(warm_up),
        repetitions: arguments.repetitions.max(1),
        writers: arguments.writers,
        events: arguments.events,
        stores: stores::chosen(&arguments.stores)?,
        data: arguments.data,
        programs: server::Programs::new(arguments.servers),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let report = runtime.block_on(async {
        // Whoever ends this ends the servers too: they stop when they are dropped.
        let mut terminated = signal(SignalKind::terminate())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        tokio::select! {
            biased;
            _ = terminated.recv() => bail!("ended by a signal"),
            _ = interrupted.recv() => bail!("interrupted"),
            report = plan.run() => report,
        }
    })?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(())
}
