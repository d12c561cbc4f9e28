//! How fast a peer answers.

use std::time::Duration;

use tokio::time::Instant;

/// Over how long answers are counted.
const WINDOW: Duration = Duration::from_millis(200);
/// What is said when nothing is known, and the bounds of what is said.
const UNKNOWN: Duration = Duration::from_millis(100);
pub(super) const BOUNDS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(5));

/// Answers that have come lately.
pub(super) struct Pace {
    since: Instant,
    answers: u32,
    /// What one answer took in the last full window.
    each: Option<Duration>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            answers: 0,
            each: None,
        }
    }

    /// One has come.
    pub(super) fn answered(&mut self, now: Instant) {
        self.answers += 1;
        let passed = now.duration_since(self.since);
        if passed >= WINDOW {
            self.each = Some(passed / self.answers);
            (self.since, self.answers) = (now, 0);
        }
    }

    /// How long so many further ones are likely to take.
    pub(super) fn until(&self, answers: usize, now: Instant) -> Duration {
        let passed = now.duration_since(self.since);
        // None for long tells more than what was before.
        let each = match self.each {
            _ if passed >= WINDOW => Some(passed / (self.answers + 1)),
            each => each,
        };
        let answers = u32::try_from(answers.max(1)).unwrap_or(u32::MAX);
        let all = each.map_or(UNKNOWN, |each| each.saturating_mul(answers));
        all.clamp(BOUNDS.0, BOUNDS.1)
    }
}
