//! `cargo run --release -p everfold-bench --example ledger -- --clients 1,64,1024 --seconds 10`

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: everfold_bench::ledger::Args,
}

fn main() -> anyhow::Result<()> {
    everfold_bench::ledger::run(&Cli::parse().args)
}
