//! `cargo run --release -p everfold-bench --example saga -- --sagas 5000 --timers 1000000`

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: everfold_bench::saga::Args,
}

fn main() -> anyhow::Result<()> {
    everfold_bench::saga::run(&Cli::parse().args)
}
