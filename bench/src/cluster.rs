//! Three nodes over one database against one node over it: commands by clients that know the owners
//! and by clients that do not, the hop from node to node, how long a move keeps a partition
//! waiting, and what becomes of twice as many commands as can be done.
//!
//! All nodes are in this process, each with connections of its own, and reach each other over
//! loopback by mutual TLS.

mod moves;
mod nodes;
mod overload;
mod report;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use everfold::cluster::Client;
use everfold::engine::uuid7;
use everfold::{Application, Node};

use crate::engine::Site;
use crate::load::{Target, measure, mix};
use crate::machine::Place;
use crate::order::{AddLine, Order, OrderId, name};
use crate::output::{Output, say};
use crate::turns::{REPETITIONS, Side, WARM_UP, repetition, runtime};
use nodes::Nodes;

pub use report::{Arrivals, Hop, Moves, Overload, Report, Run};

/// What to measure.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The server: `postgres://user@host/database`, or `postgres` for a private one.
    #[arg(long)]
    pub engine: String,
    /// How many clients send one command at a time; several numbers with commas.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 512])]
    pub clients: Vec<usize>,
    /// Counted seconds per row and side, all repetitions together.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// How often a node's partitions are moved to others and back.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Counted seconds of each part of the overload: what can be done, as many, twice as many; 0 to
    /// leave it out.
    #[arg(long, default_value_t = 5.0)]
    pub overload_seconds: f64,
    /// Where files are, and how it says what it found.
    #[command(flatten)]
    pub output: Output,
}

/// Measures, and prints what was found to standard output; progress goes to standard error.
///
/// # Errors
/// What kept it from measuring.
///
/// # Panics
/// Inside a tokio runtime: it brings its own.
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
    let counts = args
        .clients
        .iter()
        .all(|clients| (1..=4096).contains(clients));
    ensure!(counts, "--clients are 1 to 4096");
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
    let nodes = Nodes::start(&site, place.path()).await?;
    let measured = all(args, place, &nodes, time).await;
    nodes.close().await;
    site.end().await?;
    measured
}

async fn all(args: &Args, place: &Place, nodes: &Nodes, time: Duration) -> anyhow::Result<Report> {
    let one = Arc::new(Alone(nodes.alone().clone()));
    let outside = Arc::new(Aware(nodes.client_of_one().await?));
    let aware = Arc::new(Aware(nodes.client().await?));
    let forwarded = Arc::new(Forwarded::through(nodes.all()));
    let mut runs = Vec::new();
    for clients in &args.clients {
        let mut sides = <[Side; 4]>::default();
        for turn in 0..REPETITIONS {
            let seed = mix((*clients as u64) << 8 | u64::from(turn));
            // Whoever comes later finds what the others have left to do: not always the same.
            for place in 0..4 {
                let place = (place + turn as usize) % 4;
                let side = &mut sides[place];
                match place {
                    0 => side_of(side, &one, *clients, time, seed).await?,
                    1 => side_of(side, &outside, *clients, time, seed).await?,
                    2 => side_of(side, &aware, *clients, time, seed).await?,
                    _ => side_of(side, &forwarded, *clients, time, seed).await?,
                }
            }
            say(format_args!(
                "{clients} clients, {} of {REPETITIONS}",
                turn + 1
            ));
        }
        runs.push(Run::of(*clients, &sides));
    }
    let hop = hop(nodes).await?;
    let moves = moves::measure(nodes, args.rounds).await?;
    let overload = match args.overload_seconds > 0.0 {
        true => {
            let time = Duration::from_secs_f64(args.overload_seconds);
            Some(overload::measure_all(nodes, time).await?)
        }
        false => None,
    };
    Ok(Report {
        runs,
        hop,
        moves,
        overload,
        durability: nodes.alone().engine().durability(),
        machine: place.machine()?,
    })
}

async fn side_of<T: Target>(
    side: &mut Side,
    target: &Arc<T>,
    clients: usize,
    time: Duration,
    seed: u64,
) -> anyhow::Result<()> {
    side.found
        .push(measure(target, clients, WARM_UP, time, seed).await?);
    Ok(())
}

/// What is measured with: no view, for every node keeps all of them.
fn orders() -> Application {
    Application::new("orders").entity::<Order>()
}

macro_rules! send {
    ($to:expr, $world:expr, $order:expr, $seed:expr) => {{
        let world = $world;
        let id = uuid7(world.now(), world.random(), world.random());
        let order = $to.entity::<Order>(OrderId::from(name($order)));
        let sent = order.send(AddLine::any($seed)).id(id).await;
        sent.map(drop).map_err(|error| anyhow!("{error:?}"))
    }};
}

/// One node that has everything.
struct Alone(Arc<Node>);

impl Target for Alone {
    async fn send(&self, order: usize, seed: u64) -> anyhow::Result<()> {
        send!(self.0, self.0.world(), order, seed)
    }
}

/// A client that sends each command to its owner.
struct Aware(Arc<nodes::Outside>);

impl Target for Aware {
    async fn send(&self, order: usize, seed: u64) -> anyhow::Result<()> {
        send!(client(&self.0), &self.0.world, order, seed)
    }
}

fn client(outside: &nodes::Outside) -> &Client {
    &outside.client
}

/// Commands that are all given to a node that does not own them.
struct Forwarded {
    nodes: Vec<Arc<Node>>,
}

impl Forwarded {
    fn through(nodes: Vec<Arc<Node>>) -> Self {
        Self { nodes }
    }

    /// A node that has to ask another one.
    fn far(&self, order: usize) -> anyhow::Result<&Arc<Node>> {
        let far = self
            .nodes
            .iter()
            .find(|node| !nodes::owns(node, &name(order)));
        far.ok_or_else(|| anyhow!("every node owns everything"))
    }
}

impl Target for Forwarded {
    async fn send(&self, order: usize, seed: u64) -> anyhow::Result<()> {
        let far = self.far(order)?;
        send!(far, far.world(), order, seed)
    }
}

/// The way to another node and back: what is read in memory there, less the same read here.
async fn hop(nodes: &Nodes) -> anyhow::Result<Hop> {
    const READS: usize = 20_000;
    let all = nodes.all();
    let order = OrderId::from(name(1));
    let (near, far): (Vec<_>, Vec<_>) = all.iter().partition(|node| nodes::owns(node, &name(1)));
    let (near, far) = match (near.first(), far.first()) {
        (Some(near), Some(far)) => (*near, *far),
        _ => return Err(anyhow!("nobody owns the order")),
    };
    let mut taken = [Vec::new(), Vec::new()];
    for read in 0..2 * READS {
        let side = read % 2;
        let node = if side == 0 { near } else { far };
        let begin = Instant::now();
        let seen = node
            .entity::<Order>(order.clone())
            .read_eventual(|_, version| version);
        seen.await?;
        taken[side].push(begin.elapsed());
    }
    let middle = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_nanos() as f64 / 1000.0
    };
    let [here, there] = taken.map(middle);
    Ok(Hop {
        here_p50_us: here,
        there_p50_us: there,
        added_p50_us: there - here,
    })
}
