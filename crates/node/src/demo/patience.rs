//! Asking until there is an answer: a store may be full of work, restart, or stall.

use std::time::{Duration, Instant};

use everfold::{CommandError, SendError};

/// How long a store may stay away.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long to leave it alone when it is away.
const AWAY: Duration = Duration::from_millis(250);

/// An answer that may be no answer.
pub trait Failure {
    /// What went wrong, unless it was refused for good reasons.
    fn failed(&self) -> Option<&CommandError>;
}

impl Failure for CommandError {
    fn failed(&self) -> Option<&CommandError> {
        Some(self)
    }
}

impl<R> Failure for SendError<R> {
    fn failed(&self) -> Option<&CommandError> {
        match self {
            SendError::Failed(error) => Some(error),
            SendError::Rejected(_) => None,
        }
    }
}

/// Asks again and again while nobody can tell what became of it. A command needs an id, so that it is
/// done once.
///
/// # Errors
/// What was answered, or that the store stays away.
pub async fn answered<S, T, F: Failure>(ask: impl Fn() -> S) -> Result<T, F>
where
    S: IntoFuture<Output = Result<T, F>>,
{
    let begin = Instant::now();
    loop {
        let answer = ask().await;
        let pause = match answer.as_ref().err().and_then(Failure::failed) {
            Some(CommandError::Overloaded { retry_after, .. }) => *retry_after,
            Some(CommandError::Unknown(_) | CommandError::Unavailable { .. })
                if begin.elapsed() < PATIENCE =>
            {
                AWAY
            }
            _ => return answer,
        };
        tokio::time::sleep(pause).await;
    }
}
