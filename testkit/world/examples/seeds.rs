//! x
use everfold_world::*;
use std::sync::Arc;
fn main() {
    let a: Vec<u64> = std::env::args()
        .skip(1)
        .filter_map(|a| a.parse().ok())
        .collect();
    let w = Arc::new(Accounts);
    let setup: Option<Setup> = std::env::var("SETUP").ok().map(|s| s.parse().unwrap());
    let mutation: Option<Mutation> = std::env::var("MUTATION").ok().map(|s| s.parse().unwrap());
    let make = |seed| {
        let mut s = match setup {
            Some(t) => Scenario::in_setup(seed, t),
            None => Scenario::new(seed),
        };
        s.mutation = mutation;
        s
    };
    let start = std::time::Instant::now();
    let threads = std::env::var("THREADS")
        .ok()
        .map_or(1, |t| t.parse().unwrap());
    let s = run_many(&w, a[0]..a[0] + a[1], threads, make, |_| true);
    let t = start.elapsed();
    println!(
        "{} runs {} failures {:?} {:.0}/s {} steps each",
        s.runs,
        s.failures.len(),
        t,
        s.runs as f64 / t.as_secs_f64(),
        s.steps / s.runs.max(1)
    );
    if std::env::var("QUIET").is_err() {
        println!("{}", s.coverage);
    }
    let mut by: std::collections::BTreeMap<&str, u64> = Default::default();
    for f in &s.failures {
        *by.entry(f.violations[0].checker).or_default() += 1;
    }
    println!("{by:?}");
    for f in s.failures.iter().take(12) {
        println!(
            "{} {}\n   {}",
            f.scenario.setup,
            f.scenario.reproduction("accounts"),
            f.violations[0]
                .to_string()
                .chars()
                .take(600)
                .collect::<String>()
        );
        println!("   plan {}", f.scenario.plan);
    }
    if std::env::var("SHRINK").is_ok() {
        for f in s.failures.iter().take(2) {
            let r = shrink(&w, f);
            println!(
                "SHRUNK {} -> {}",
                r.scenario.reproduction("accounts"),
                r.violations[0]
            );
        }
    }
    if let Ok(p) = std::env::var("TRACE") {
        let r = run(&w, &make(a[0]), 64 << 20);
        std::fs::write(p, &r.trace).unwrap();
    }
}
