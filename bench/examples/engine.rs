//! `cargo run --release -p everfold-bench --example engine -- --engine postgres --seconds 10`

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: everfold_bench::engine::Args,
}

fn main() -> anyhow::Result<()> {
    everfold_bench::engine::run(&Cli::parse().args)
}
