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
    /// Durable commands on entities, next to a bare group-committing log
    Entity(everfold_bench::entity::Args),
}

/// Runs it.
///
/// # Errors
/// What kept it from measuring.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.what {
        What::Entity(entity) => everfold_bench::entity::run(&entity),
    }
}
