//! What waits for the driver.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use everfold_engine::world::Poke;

use super::{Failure, Submission};

/// Between those who append and the driver.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    poke: OnceLock<Arc<dyn Poke>>,
}

#[derive(Default)]
struct State {
    submissions: Vec<Submission>,
    /// The driver rests, or is about to: it has to be woken.
    resting: bool,
    closing: bool,
    stopped: Option<Arc<str>>,
}

impl Queue {
    pub(crate) fn driven_by(&self, poke: Arc<dyn Poke>) {
        let _ = self.poke.set(poke);
    }

    /// Hands a frame to the driver, unless the log takes no more.
    pub(crate) fn submit(&self, submission: Submission) -> Result<(), Failure> {
        let mut state = self.state();
        if let Some(reason) = &state.stopped {
            return Err(Failure::Stopped(Arc::clone(reason)));
        }
        if state.closing {
            return Err(Failure::Closed);
        }
        state.submissions.push(submission);
        let resting = std::mem::take(&mut state.resting);
        drop(state);
        if resting {
            self.poke();
        }
        Ok(())
    }

    /// Everything that waits goes to `into`, which is empty.
    pub(crate) fn take(&self, into: &mut Vec<Submission>) {
        std::mem::swap(&mut self.state().submissions, into);
    }

    /// Whether the driver may rest; if so, the next submission wakes it.
    pub(crate) fn rest(&self) -> Rest {
        let mut state = self.state();
        if !state.submissions.is_empty() {
            return Rest::Work;
        }
        if state.closing {
            return Rest::Close;
        }
        state.resting = true;
        Rest::Idle
    }

    /// Nothing is taken from now on.
    pub(crate) fn close(&self) {
        self.state().closing = true;
        self.poke();
    }

    /// Nothing is taken ever again; what waited is returned.
    pub(crate) fn stop(&self, reason: &Arc<str>) -> Vec<Submission> {
        let mut state = self.state();
        state.stopped.get_or_insert_with(|| Arc::clone(reason));
        std::mem::take(&mut state.submissions)
    }

    /// Why the log takes nothing any more.
    pub(crate) fn refusal(&self) -> Option<Failure> {
        let state = self.state();
        let stopped = state.stopped.clone().map(Failure::Stopped);
        stopped.or_else(|| state.closing.then_some(Failure::Closed))
    }

    fn poke(&self) {
        if let Some(poke) = self.poke.get() {
            poke.poke();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a driver without work does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// There is work after all.
    Work,
    /// Rests until poked.
    Idle,
    /// Ends the log.
    Close,
}
