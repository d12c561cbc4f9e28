//! The same durable commands on Everfold over PostgreSQL and on cqrs-es over PostgreSQL, by turns on
//! one server.

mod everfold_side;
mod load;
mod order;
mod peer;
mod report;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use load::{Target, measure};
use report::{Report, Row};
use server::Site;

/// Of the threads that callers and libraries share, the allocator is part of every figure; this one
/// frees well across threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures durable commands on Everfold and on cqrs-es, on one PostgreSQL server by turns.
#[derive(Parser, Debug)]
struct Arguments {
    /// The server: `postgres://user@host/database`, or `postgres` for a private one.
    #[arg(long, default_value = "postgres")]
    engine: String,
    /// How many callers ask, each one command after the other; several numbers with commas.
    #[arg(long, value_delimiter = ',', default_value = "64")]
    clients: Vec<usize>,
    /// Orders that the commands go to, each with one event before anything counts.
    #[arg(long, default_value_t = 20_000)]
    orders: usize,
    /// Counted seconds per side and number of callers, all repetitions together.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Repetitions; medians are reported.
    #[arg(long, default_value_t = 5)]
    repetitions: u32,
    /// Connections of cqrs-es, each used without asking first whether it still works; otherwise it
    /// has the pool that postgres-es makes, of ten that are asked.
    #[arg(long)]
    connections: Option<u32>,
    /// Where a private server's files are: a directory on a disk. Removed at the end.
    #[arg(long, default_value = "target")]
    data: PathBuf,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let most = arguments.clients.iter().copied().max().unwrap_or(1);
    anyhow::ensure!(
        arguments.clients.iter().all(|clients| *clients > 0) && arguments.orders >= most,
        "there are orders for each caller, and callers"
    );
    let site = Site::find(&arguments.engine, &arguments.data)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let report = runtime.block_on(run(&arguments, &site))?;
    site.stop()?;
    match arguments.json {
        true => println!("{}", serde_json::to_string(&report)?),
        false => print!("{}", report.table()),
    }
    Ok(())
}

async fn run(arguments: &Arguments, site: &Site) -> anyhow::Result<Report> {
    let ours = everfold_side::Ours::open(site).await?;
    let theirs = peer::Peer::open(site, arguments.connections).await?;
    let time = Duration::from_secs_f64(arguments.seconds / f64::from(arguments.repetitions.max(1)));
    let mut rows = Vec::new();
    let filled = async {
        load::fill(&ours, arguments.orders).await?;
        load::fill(&theirs, arguments.orders).await
    };
    let measured: anyhow::Result<()> = async {
        filled.await?;
        for clients in &arguments.clients {
            rows.push(row(arguments, (&ours, &theirs), *clients, time).await?);
        }
        Ok(())
    }
    .await;
    let (durability, settings) = (ours.durability(), theirs.settings().await);
    theirs.close().await?;
    ours.close(site).await?;
    measured?;
    Ok(Report {
        rows,
        orders: arguments.orders,
        cqrs_es_connections: arguments.connections.unwrap_or(peer::USUAL),
        durability,
        server: settings?,
        load_before: site.load_before().to_owned(),
    })
}

async fn row<A: Target, B: Target>(
    arguments: &Arguments,
    (ours, theirs): (&A, &B),
    clients: usize,
    time: Duration,
) -> anyhow::Result<Row> {
    let (mut mine, mut other) = (Vec::new(), Vec::new());
    for repetition in 0..arguments.repetitions.max(1) {
        let seed = load::mix((clients as u64) << 32 | u64::from(repetition));
        let orders = arguments.orders;
        // Whoever comes second finds what the first one has left to do: not always the same.
        if repetition % 2 == 0 {
            other.push(measure(theirs, clients, orders, time, seed).await?);
            mine.push(measure(ours, clients, orders, time, seed).await?);
        } else {
            mine.push(measure(ours, clients, orders, time, seed).await?);
            other.push(measure(theirs, clients, orders, time, seed).await?);
        }
        let rate = |of: &[load::Measured]| of.last().map_or(0.0, |it| it.per_second);
        eprintln!(
            "{clients} callers, {} of {}: {:.0}/s, cqrs-es {:.0}/s",
            repetition + 1,
            arguments.repetitions,
            rate(&mine),
            rate(&other)
        );
    }
    Ok(Row::of(clients, &mine, &other))
}
