//! A demonstration that is killed goes on where it stood.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::model::{comparable, figures, lines_of_customers};
use crate::running::{Place, Running, answer};

/// How many batches lie in the log.
fn batches(log: &Path) -> usize {
    let mut count = 0;
    for generation in 1.. {
        let Ok(bytes) = std::fs::read(log.join(format!("{generation:010}.log"))) else {
            break;
        };
        let (words, _) = bytes.as_chunks::<8>();
        count += words
            .iter()
            .filter(|word| word.starts_with(b"EVFR"))
            .count();
    }
    count
}

/// Runs the program until it has written so many batches more, and kills it. Says whether it had to
/// be killed.
pub(crate) fn killed_after(arguments: &[&str], log: &Path, more: usize) -> bool {
    let goal = batches(log) + more;
    let mut running = Running::start(arguments);
    let begin = Instant::now();
    while batches(log) < goal {
        if running.0.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(120),
            "neither progress nor end"
        );
        std::thread::sleep(Duration::from_micros(300));
    }
    // SIGKILL: nothing of the program runs any more.
    running.0.kill().unwrap();
    !running.0.wait().unwrap().success()
}

#[test]
fn killed_at_any_moment_it_ends_as_if_it_had_never_been() {
    let lines = lines_of_customers(0..150);
    let expected = figures(&lines, 8_000, 20);
    let (mut kills, mut seed) = (0, 0x2545_f491_4f6c_dd1d_u64);
    while kills < 20 {
        let place = Place::with_input(&lines);
        let (data, input) = (place.text("demo"), place.text("input.txt"));
        let arguments = [
            "demo",
            "--exit",
            "--json",
            "--data",
            &data,
            "--input",
            &input,
            "--credit-limit",
            "80.00",
            "--payment-days",
            "20",
            "--concurrency",
            "5",
        ];
        let log = place.path("demo/main");
        loop {
            // Xorshift: the points differ, and are the same in every run of the test.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            // A start alone writes sixteen batches: some kills hit before anything is played.
            let more = 1 + (seed % 150) as usize;
            if !killed_after(&arguments, &log, more) {
                break;
            }
            kills += 1;
        }
        let after = answer(&arguments);
        assert_eq!(comparable(&after), expected, "after {kills} kills");
        assert_eq!(after["commands"], 0, "the run before was not killed");
        let verified = answer(&["verify", "--json", "--data", &data]);
        assert_eq!(verified["damage"].as_array().unwrap().len(), 0);
        // Nothing was done twice: the same events as without a kill.
        let calm = Place::with_input(&lines);
        let (data, input) = (calm.text("demo"), calm.text("input.txt"));
        let calm = answer(&[
            "demo",
            "--exit",
            "--json",
            "--data",
            &data,
            "--input",
            &input,
            "--credit-limit",
            "80.00",
            "--payment-days",
            "20",
        ]);
        assert_eq!(after["events"], calm["events"]);
    }
}
