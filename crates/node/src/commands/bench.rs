//! `everfold bench`.

use clap::Subcommand;

/// Measures, next to a reference on the same disk in the same minutes.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// An engine on a database server, next to what is written by hand on the same server
    Engine(everfold_bench::engine::Args),
    /// Three nodes over a database next to one, the hop between nodes, and moves under load
    Cluster(everfold_bench::cluster::Args),
    /// Durable commands on entities, next to a bare group-committing log
    Entity(everfold_bench::entity::Args),
    /// Durable appends to the log itself, next to a bare log of the same records
    Log(everfold_bench::log::Args),
    /// Durable transfers of the ledger, next to durable appends to the log beneath it
    Ledger(everfold_bench::ledger::Args),
    /// Reading a log: all of it, one entity, live, and opening it
    Replay(everfold_bench::replay::Args),
    /// What sagas and timers cost beside the appends that they make
    Saga(everfold_bench::saga::Args),
}

/// Runs it.
///
/// # Errors
/// What kept it from measuring.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.what {
        What::Engine(engine) => everfold_bench::engine::run(&engine),
        What::Cluster(cluster) => everfold_bench::cluster::run(&cluster),
        What::Entity(entity) => everfold_bench::entity::run(&entity),
        What::Log(log) => everfold_bench::log::run(&log),
        What::Ledger(ledger) => everfold_bench::ledger::run(&ledger),
        What::Replay(replay) => everfold_bench::replay::run(&replay),
        What::Saga(saga) => everfold_bench::saga::run(&saga),
    }
}
