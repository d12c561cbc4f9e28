//! What can happen to an instance of a saga.

use everfold_macros::Event;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// JSON as it was written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    pub(crate) fn null() -> Self {
        Self(RawValue::NULL.to_owned())
    }

    pub(crate) fn of(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(Self)
    }

    /// The bytes that a command wrote.
    pub(crate) fn written(bytes: Vec<u8>) -> Result<Self, serde_json::Error> {
        let text = String::from_utf8(bytes).map_err(serde::de::Error::custom)?;
        RawValue::from_string(text).map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// What happened to an instance of a saga. Views and reactors may listen to it: it is the event of
/// all sagas of an application.
#[derive(Event, Clone, Debug, PartialEq)]
pub enum SagaEvent {
    /// It exists from now on, and keeps to this version of its definition.
    Begun {
        /// The definition's version.
        version: u32,
        /// What it is about.
        data: Json,
    },
    /// A command is to be sent.
    Asked {
        /// The definition's version.
        version: u32,
        /// On behalf of which step.
        #[label]
        step: String,
        /// To undo it, or to do it.
        undo: bool,
        /// The how-manieth command of the step this is, from 1.
        attempt: u32,
        /// The stream of the entity that decides it.
        entity: String,
        /// The command's name.
        command: String,
        /// The command.
        body: Json,
    },
    /// What became of a step, or of its undoing.
    Answered {
        /// Which.
        #[label]
        step: String,
        /// Whether it was being undone.
        undo: bool,
        /// After how many commands.
        attempt: u32,
        /// How it ended.
        outcome: StepOutcome,
        /// Why, unless it is done.
        reason: Option<String>,
        /// What the entity answered.
        reply: Option<Json>,
        /// What the saga is about from now on, if that has changed.
        data: Option<Json>,
    },
    /// Something is to happen later.
    TimerSet {
        /// The definition's version.
        version: u32,
        /// Numbers the timers of an instance.
        timer: u64,
        /// Which step waits; none: the whole saga.
        step: Option<String>,
        /// Whether it is being undone.
        undo: bool,
        /// What for.
        purpose: TimerPurpose,
        /// How long.
        millis: u64,
    },
    /// What was done is to be undone, the last step first.
    Undoing {
        /// Why.
        reason: String,
    },
    /// It cannot go on without a person.
    HelpNeeded {
        /// Which step; none: the whole saga.
        step: Option<String>,
        /// Whether it was being undone.
        undo: bool,
        /// Why.
        reason: String,
        /// Its command was carried out, or may have been.
        perhaps_done: bool,
        /// What the entity answered.
        reply: Option<Json>,
        /// What the saga is about from now on, if that has changed.
        data: Option<Json>,
    },
    /// A person has helped.
    Operated {
        /// How.
        operation: Operation,
    },
    /// It is over.
    Ended {
        /// How.
        #[label]
        end: SagaEnd,
    },
}

/// How a step, or its undoing, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// Done, or undone.
    Done,
    /// Not done; the saga has to undo what was done before.
    Failed,
    /// Not done now, but to be tried again.
    Again,
    /// No answer came in time, but it is to be tried again: it is not known whether it was done.
    Late,
    /// No answer came in time: it is not known whether it was done.
    TimedOut,
    /// It was not needed, or a person has decided to go on without it.
    Skipped,
}

/// What a timer of a saga is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimerPurpose {
    /// A step is to be tried again.
    Retry,
    /// A step has to be done by then, or the whole saga.
    Deadline,
    /// The saga waits.
    Pause,
}

/// What a person can do about an instance of a saga.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Ask again for what needs help: by another command, even if the one before was carried out.
    Retry,
    /// Go on as if what needs help were done, or undone. If it may really be done, it is undone
    /// like any step should the saga have to go back.
    Skip,
    /// Go no further, and undo what was done or may have been done.
    Compensate,
    /// End it as it stands: nothing more is sent.
    Force,
}

/// How a saga ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SagaEnd {
    /// Every step is done.
    Completed,
    /// Everything that was done is undone.
    Undone,
    /// A person has ended it.
    Forced,
}

impl std::fmt::Display for SagaEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Completed => "completed",
            Self::Undone => "undone",
            Self::Forced => "forced",
        })
    }
}

// `#[label]` writes labels as text.
impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Retry => "retry",
            Self::Skip => "skip",
            Self::Compensate => "compensate",
            Self::Force => "force",
        })
    }
}
