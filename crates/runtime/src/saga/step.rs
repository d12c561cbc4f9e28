//! Steps of a saga.

use std::sync::Arc;
use std::time::Duration;

use super::ask::Asks;
use super::event::Json;

/// What a saga makes of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The step is done.
    Done,
    /// The step is not done, and the saga has to undo what was done before: not this step, even if
    /// it was a reply that said so.
    Fail(String),
    /// The step is not done now; it is tried again as often as [`Step::attempts`] says, and has
    /// failed then.
    Again(String),
    /// A person has to look at it. If it is called off, the step is undone unless its command was
    /// rejected.
    Help(String),
}

/// The step is done.
pub fn done() -> Next {
    Next::Done
}

/// The step has failed: the saga undoes what was done before.
pub fn fail(reason: impl Into<String>) -> Next {
    Next::Fail(reason.into())
}

/// The step is to be tried again after a pause.
pub fn again(reason: impl Into<String>) -> Next {
    Next::Again(reason.into())
}

/// The step needs a person.
pub fn help(reason: impl Into<String>) -> Next {
    Next::Help(reason.into())
}

/// One step of a saga: a command to an entity, and how to undo what it did.
///
/// Made of a [`Question`](super::Question), which says what the answers mean.
pub struct Step<D> {
    pub(super) name: &'static str,
    pub(super) what: What<D>,
    pub(super) undo: Option<Asks<D>>,
    pub(super) when: Option<Arc<When<D>>>,
    pub(super) within: Option<Duration>,
    pub(super) timed_out: Option<Arc<TimedOut<D>>>,
    pub(super) attempts: u32,
    pub(super) pause: Duration,
}

pub(super) enum What<D> {
    Ask(Asks<D>),
    Pause(Duration),
    Nothing,
}

type When<D> = dyn Fn(&D) -> bool + Send + Sync;
type TimedOut<D> = dyn Fn(&mut D) -> Next + Send + Sync;

impl<D: 'static> Step<D> {
    /// A step that sends a command. Its name is unique within the saga, and part of its stream.
    pub fn named(name: &'static str, ask: impl Into<Asks<D>>) -> Self {
        Self::with(name, What::Ask(ask.into()))
    }

    /// A step that only lets time pass; durable like every timer.
    pub fn pause(name: &'static str, duration: Duration) -> Self {
        Self::with(name, What::Pause(duration))
    }

    /// A step that was done before the saga began, with its command for instance: there is only
    /// something to undo.
    pub fn already(name: &'static str) -> Self {
        Self::with(name, What::Nothing)
    }

    fn with(name: &'static str, what: What<D>) -> Self {
        Self {
            name,
            what,
            undo: None,
            when: None,
            within: None,
            timed_out: None,
            attempts: 5,
            pause: Duration::from_millis(100),
        }
    }

    /// How to undo the step once a later one has failed. Undone are, the last first, all steps that
    /// are done, and those of which it is not known: their undoing is sent behind their commands, and
    /// holds up nothing but the end. A rejection of the undoing needs a person, unless the question
    /// says what it means.
    #[must_use]
    pub fn undo(mut self, undo: impl Into<Asks<D>>) -> Self {
        self.undo = Some(undo.into());
        self
    }

    /// The step is skipped unless the data says so when its turn comes.
    #[must_use]
    pub fn when(mut self, when: impl Fn(&D) -> bool + Send + Sync + 'static) -> Self {
        self.when = Some(Arc::new(when));
        self
    }

    /// The step has to be answered so long after it was first asked, all attempts together; to the
    /// millisecond. Otherwise it has failed, and is undone in case it was done.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }

    /// What it means that there was no answer in time; without this the step has failed. The
    /// command may still be carried out. To try [`again`] sends another one behind it, which then
    /// has as much time: only for entities that do the same once. A step that fails after all, or is
    /// called off, is undone in case it was done.
    #[must_use]
    pub fn timed_out(mut self, means: impl Fn(&mut D) -> Next + Send + Sync + 'static) -> Self {
        self.timed_out = Some(Arc::new(means));
        self
    }

    /// How often the command is sent when it cannot be processed, or the answer is to try
    /// [`again`], and how long the first pause in between is; each further one is twice as long, up
    /// to an hour. What cannot be processed even then needs a person. Otherwise 5 times, after
    /// 100 ms.
    ///
    /// A store that is unavailable for the moment counts as no attempt: the command waits for it,
    /// until [`Step::within`] if that is set.
    #[must_use]
    pub fn attempts(mut self, attempts: u32, pause: Duration) -> Self {
        self.attempts = attempts.max(1);
        self.pause = pause;
        self
    }
}

/// What an entity answered to the command of a step.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) enum StepAnswer {
    Replied(Json),
    Rejected(Json),
    /// It could not be processed: nothing was done.
    Error(String),
}
