//! `everfold`: a demonstration, a server, and tools for logs.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use everfold_node::{commands, failure};

/// Records are made on one thread and dropped on another, which the system's allocator takes badly.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Event sourcing on one machine: a demonstration, a server, and tools for its log.
///
/// Data goes to standard output, everything else to standard error.
#[derive(Parser)]
#[command(name = "everfold", version, after_help = failure::EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play a real purchase history against a store, then serve what came of it
    Demo(commands::demo::Arguments),
    /// Serve a store from a directory or a database
    Serve(commands::serve::Arguments),
    /// Make an authority for a cluster, and certificates for its nodes and clients
    Init(commands::init::Arguments),
    /// Check every byte of a log
    Verify(commands::verify::Arguments),
    /// Print the events of a log
    Events(commands::events::Arguments),
    /// Show one entity: its state, and how it came about
    Entity(commands::entity::Arguments),
    /// List instances of sagas, show one, or help one
    Sagas(commands::sagas::Arguments),
    /// Ask a store in PostgreSQL a question in SQL
    Report(commands::report::Arguments),
    /// Copy a log, also while it is written, to a directory that keeps copies
    Backup(commands::backup::Arguments),
    /// Make a log of a backup
    Restore(commands::restore::Arguments),
    /// Let go of history that baselines stand for
    Trim(commands::trim::Arguments),
    /// Say what an acknowledgement is worth where a log is kept
    Doctor(commands::doctor::Arguments),
    /// Create or renew the schema of a log in a database
    Migrate(commands::migrate::Arguments),
    /// Show the nodes of a cluster, and where each partition is and why
    Cluster(commands::cluster::Arguments),
    /// Let a log in a database live on that was restored or moved
    Adopt(commands::adopt::Arguments),
    /// Live through seeded faults in a simulated world, and check what must hold
    Sim(commands::sim::Arguments),
    /// Let nodes on this machine live through faults of processes, network and store, and check what
    /// must hold
    Chaos(commands::chaos::Arguments),
    /// Measure how fast this machine is with it
    Bench(commands::bench::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Command::Demo(demo) => commands::demo::run(demo),
        Command::Serve(serve) => commands::serve::run(serve),
        Command::Init(init) => commands::init::run(init),
        Command::Verify(verify) => commands::verify::run(verify),
        Command::Events(events) => commands::events::run(events),
        Command::Entity(entity) => commands::entity::run(entity),
        Command::Sagas(sagas) => commands::sagas::run(sagas),
        Command::Report(report) => commands::report::run(report),
        Command::Backup(backup) => commands::backup::run(backup),
        Command::Restore(restore) => commands::restore::run(restore),
        Command::Trim(trim) => commands::trim::run(trim),
        Command::Doctor(doctor) => commands::doctor::run(doctor),
        Command::Migrate(migrate) => commands::migrate::run(migrate),
        Command::Cluster(cluster) => commands::cluster::run(cluster),
        Command::Adopt(adopt) => commands::adopt::run(adopt),
        Command::Sim(sim) => commands::sim::run(sim),
        Command::Chaos(chaos) => commands::chaos::run(chaos),
        Command::Bench(bench) => commands::bench::run(bench),
    };
    failure::exit_code(outcome)
}
