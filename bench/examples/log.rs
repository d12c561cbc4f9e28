//! `cargo run --release -p everfold-bench --example log -- --writers 1,64,1024 --seconds 5`

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: everfold_bench::log::Args,
}

fn main() -> anyhow::Result<()> {
    everfold_bench::log::run(&Cli::parse().args)
}
