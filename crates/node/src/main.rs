//! `everfold`: a demonstration, a server, and tools for logs.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use everfold_node::{commands, failure};

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
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Command::Demo(demo) => commands::demo::run(demo),
    };
    failure::exit_code(outcome)
}
