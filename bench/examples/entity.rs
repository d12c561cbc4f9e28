//! `cargo run --release -p everfold-bench --example entity -- --clients 1,64,1024 --seconds 10`

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: everfold_bench::entity::Args,
}

fn main() -> anyhow::Result<()> {
    everfold_bench::entity::run(&Cli::parse().args)
}
