//! `cargo run --release -p everfold-bench --example cluster -- --engine postgres --seconds 10`

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: everfold_bench::cluster::Args,
}

fn main() -> anyhow::Result<()> {
    everfold_bench::cluster::run(&Cli::parse().args)
}
