//! Fuzzes targets for a time; see the library's page for the arguments.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use everfold_fuzz::{TARGETS, Target, corpus, examples, run};

const USAGE: &str =
    "usage: everfold-fuzz [--seconds N] [--seed N] [--replay FILE] [--write-examples] [TARGET...]";

struct Asked {
    seconds: u64,
    seed: u64,
    replay: Option<PathBuf>,
    write: bool,
    targets: Vec<&'static Target>,
}

fn asked() -> Option<Asked> {
    let mut asked = Asked {
        seconds: 60,
        seed: 1,
        replay: None,
        write: false,
        targets: Vec::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => asked.seconds = arguments.next()?.parse().ok()?,
            "--seed" => asked.seed = arguments.next()?.parse().ok()?,
            "--replay" => asked.replay = Some(arguments.next()?.into()),
            "--write-examples" => asked.write = true,
            name => asked
                .targets
                .push(TARGETS.iter().find(|target| target.name == name)?),
        }
    }
    if asked.targets.is_empty() {
        asked.targets = TARGETS.iter().collect();
    }
    Some(asked)
}

fn main() -> ExitCode {
    let Some(asked) = asked() else {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("{USAGE}\ntargets: {}", names.join(", "));
        return ExitCode::from(2);
    };
    match fuzz(&asked) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the corpus cannot be read or written: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all went well.
fn fuzz(asked: &Asked) -> std::io::Result<bool> {
    if asked.write {
        for (target, input) in examples() {
            corpus::save(&corpus::folder(target), &input)?;
        }
        return Ok(true);
    }
    if let Some(file) = &asked.replay {
        let input = std::fs::read(file)?;
        for target in &asked.targets {
            println!("{}: {:016x}", target.name, (target.run)(&input));
        }
        return Ok(true);
    }
    let each = Duration::from_secs(asked.seconds) / asked.targets.len() as u32;
    let mut well = true;
    println!(
        "{:<14} {:>12} {:>10} {:>9}",
        "target", "executions", "outcomes", "a second"
    );
    for target in &asked.targets {
        let begin = Instant::now();
        let failures = PathBuf::from("target/fuzz").join(target.name);
        let ran = run::run(target, asked.seed, &failures, &mut |_| {
            begin.elapsed() < each
        })?;
        let rate = ran.executions as f64 / begin.elapsed().as_secs_f64();
        println!(
            "{:<14} {:>12} {:>10} {rate:>9.0}",
            target.name, ran.executions, ran.outcomes
        );
        for failure in &ran.failures {
            well = false;
            let (name, file) = (target.name, failure.display());
            println!("FAILED: cargo run --release -p everfold-fuzz -- --replay {file} {name}");
        }
    }
    Ok(well)
}
