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

/// When a program is killed: the moments differ, and are the same in every run of a test.
pub(crate) struct Moments {
    seed: u64,
}

impl Default for Moments {
    fn default() -> Self {
        let seed = 0x2545_f491_4f6c_dd1d;
        Self { seed }
    }
}

impl Moments {
    /// Runs the program and kills it, again and again, until it ends by itself. Says how often it
    /// had to be killed.
    pub(crate) fn kill_until_it_ends(&mut self, arguments: &[&str], log: &Path) -> u32 {
        let mut kills = 0;
        while killed_after(arguments, log, self.next()) {
            kills += 1;
        }
        kills
    }

    /// After so many batches.
    fn next(&mut self) -> usize {
        // Xorshift.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        // A start alone writes sixteen batches: some kills hit before anything is played.
        1 + (self.seed % 150) as usize
    }
}

#[test]
fn killed_at_any_moment_it_ends_as_if_it_had_never_been() {
    let lines = lines_of_customers(0..150);
    let expected = figures(&lines, 8_000, 20);
    let (mut kills, mut moments) = (0, Moments::default());
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
        kills += moments.kill_until_it_ends(&arguments, &log);
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
