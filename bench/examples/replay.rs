//! `cargo run --release -p everfold-bench --example replay -- --events 1000000`

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: everfold_bench::replay::Args,
}

fn main() -> anyhow::Result<()> {
    everfold_bench::replay::run(&Cli::parse().args)
}
