//! An instance of a saga: the fold of its events.

use std::collections::BTreeMap;

use everfold_engine::EntityKey;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::event::{Json, Operation, SagaEnd, SagaEvent, StepOutcome, TimerPurpose};

/// The shape of the state in snapshots.
pub(crate) const SHAPE: &str = "saga/1";

/// The state of an instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) version: u32,
    /// What it was begun with, to tell a repeated beginning from another one.
    pub(crate) begun_with: u64,
    pub(crate) data: Option<Json>,
    pub(crate) phase: Phase,
    /// Why it goes back, or will.
    pub(crate) reason: Option<String>,
    /// Why the whole saga needs a person.
    pub(crate) help: Option<String>,
    pub(crate) steps: BTreeMap<String, Calls>,
    pub(crate) timers: BTreeMap<u64, Waiting>,
    /// How many timers there were.
    pub(crate) timers_set: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    #[default]
    New,
    Forward,
    Backward,
    Ended(SagaEnd),
}

/// How a step stands, and its undoing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Calls {
    pub(crate) action: Call,
    /// Some command of the action may have been carried out, though it does not count as done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    perhaps_done: bool,
    #[serde(default, skip_serializing_if = "Call::is_idle")]
    pub(crate) undo: Call,
}

impl Calls {
    /// There will be no other command.
    fn give_up(&mut self, attempt: u32) {
        self.action = if self.perhaps_done {
            Call::Unknown
        } else {
            Call::Failed { attempt }
        };
    }
}

/// How a command stands. Attempts count all commands; tries count those since a person helped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Call {
    #[default]
    Idle,
    Asked {
        attempt: u32,
        tries: u32,
    },
    /// Not done now; asked again by a timer.
    Again {
        attempt: u32,
        tries: u32,
        reason: String,
    },
    Done,
    Failed {
        attempt: u32,
    },
    /// Whether it was done is not known.
    Unknown,
    Skipped,
    /// Needs a person.
    Stuck {
        attempt: u32,
        reason: String,
    },
}

impl Call {
    fn is_idle(&self) -> bool {
        *self == Self::Idle
    }

    pub(crate) fn attempt(&self) -> u32 {
        match self {
            Self::Asked { attempt, .. }
            | Self::Again { attempt, .. }
            | Self::Failed { attempt }
            | Self::Stuck { attempt, .. } => *attempt,
            Self::Idle | Self::Done | Self::Unknown | Self::Skipped => 0,
        }
    }
}

const ALL: [TimerPurpose; 3] = [
    TimerPurpose::Retry,
    TimerPurpose::Deadline,
    TimerPurpose::Pause,
];

/// What a timer is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) purpose: TimerPurpose,
    pub(crate) step: Option<String>,
    pub(crate) undo: bool,
}

impl Instance {
    pub(crate) fn call(&self, step: &str, undo: bool) -> &Call {
        const IDLE: &Call = &Call::Idle;
        let calls = self.steps.get(step);
        calls.map_or(IDLE, |it| if undo { &it.undo } else { &it.action })
    }

    fn call_mut(&mut self, step: &str, undo: bool) -> &mut Call {
        let calls = self.steps.entry(step.to_owned()).or_default();
        if undo {
            &mut calls.undo
        } else {
            &mut calls.action
        }
    }

    fn perhaps_done(&mut self, step: &str) {
        self.steps.entry(step.to_owned()).or_default().perhaps_done = true;
    }

    fn stop_timers(&mut self, step: &str, undo: bool, purposes: &[TimerPurpose]) {
        self.timers.retain(|_, timer| {
            let other = timer.step.as_deref() != Some(step) || timer.undo != undo;
            other || !purposes.contains(&timer.purpose)
        });
    }

    pub(crate) fn has_timer(&self, step: &str, undo: bool, purpose: TimerPurpose) -> bool {
        let mut timers = self.timers.values();
        timers
            .any(|it| it.step.as_deref() == Some(step) && it.undo == undo && it.purpose == purpose)
    }

    /// Whether an answer to this command would be heard.
    pub(crate) fn waits_for(&self, step: &str, undo: bool, attempt: u32) -> bool {
        let open = matches!(self.phase, Phase::Forward | Phase::Backward);
        let call = self.call(step, undo);
        open && matches!(call, Call::Asked { attempt: asked, .. } if *asked == attempt)
    }

    /// Steps, and undoings of steps, that need a person.
    pub(crate) fn stuck(&self) -> Vec<(String, bool)> {
        let mut all = Vec::new();
        for (step, calls) in &self.steps {
            for (undo, call) in [(false, &calls.action), (true, &calls.undo)] {
                if matches!(call, Call::Stuck { .. }) {
                    all.push((step.clone(), undo));
                }
            }
        }
        all
    }

    pub(crate) fn evolve(&mut self, event: &SagaEvent) {
        match event {
            SagaEvent::Begun { version, data } => {
                self.version = *version;
                self.begun_with = xxh3_64(data.as_str().as_bytes());
                self.data = Some(data.clone());
                self.phase = Phase::Forward;
            }
            SagaEvent::Asked {
                step,
                undo,
                attempt,
                ..
            } => {
                let call = self.call_mut(step, *undo);
                let tries = match call {
                    Call::Again { tries, .. } => *tries + 1,
                    _ => 1,
                };
                *call = Call::Asked {
                    attempt: *attempt,
                    tries,
                };
                self.stop_timers(step, *undo, &[TimerPurpose::Retry]);
            }
            SagaEvent::Answered {
                step,
                undo,
                attempt,
                outcome,
                reason,
                data,
                ..
            } => self.answered(step, *undo, *attempt, *outcome, reason, data),
            SagaEvent::TimerSet {
                timer,
                step,
                undo,
                purpose,
                ..
            } => {
                self.timers_set = *timer;
                let waiting = Waiting {
                    purpose: *purpose,
                    step: step.clone(),
                    undo: *undo,
                };
                self.timers.insert(*timer, waiting);
                if let (TimerPurpose::Pause, Some(step)) = (purpose, step) {
                    *self.call_mut(step, *undo) = Call::Asked {
                        attempt: 1,
                        tries: 1,
                    };
                }
            }
            SagaEvent::Undoing { reason } => {
                self.phase = Phase::Backward;
                self.reason.get_or_insert_with(|| reason.clone());
                for calls in self.steps.values_mut() {
                    if let Call::Again { attempt, .. } = calls.action {
                        calls.give_up(attempt);
                    }
                }
                let timers = std::mem::take(&mut self.timers);
                for (number, timer) in timers {
                    match (&timer.step, timer.purpose) {
                        // What is under way still has to be answered in time.
                        (Some(_), TimerPurpose::Deadline) => {}
                        (Some(_), _) if timer.undo => {}
                        (Some(step), TimerPurpose::Pause) => {
                            *self.call_mut(step, false) = Call::Failed { attempt: 1 };
                            continue;
                        }
                        _ => continue,
                    }
                    self.timers.insert(number, timer);
                }
            }
            SagaEvent::HelpNeeded {
                step,
                undo,
                reason,
                perhaps_done,
                data,
                ..
            } => match step {
                Some(step) => {
                    if let Some(data) = data {
                        self.data = Some(data.clone());
                    }
                    if *perhaps_done && !undo {
                        self.perhaps_done(step);
                    }
                    let call = self.call_mut(step, *undo);
                    *call = Call::Stuck {
                        attempt: call.attempt(),
                        reason: reason.clone(),
                    };
                    self.stop_timers(step, *undo, &ALL);
                }
                None => self.help = Some(reason.clone()),
            },
            SagaEvent::Operated { operation } => self.operated(*operation),
            SagaEvent::Ended { end } => {
                self.phase = Phase::Ended(*end);
                self.timers.clear();
                self.help = None;
            }
        }
    }

    fn answered(
        &mut self,
        step: &str,
        undo: bool,
        attempt: u32,
        outcome: StepOutcome,
        reason: &Option<String>,
        data: &Option<Json>,
    ) {
        let (tries, waits) = match self.call(step, undo) {
            Call::Asked { tries, .. } => (*tries, true),
            Call::Again { tries, .. } => (*tries, false),
            _ => (1, false),
        };
        let why = || reason.clone().unwrap_or_default();
        *self.call_mut(step, undo) = match outcome {
            StepOutcome::Done => Call::Done,
            StepOutcome::Failed => Call::Failed { attempt },
            StepOutcome::TimedOut => Call::Unknown,
            StepOutcome::Skipped => Call::Skipped,
            StepOutcome::Again | StepOutcome::Late => Call::Again {
                attempt,
                tries,
                reason: why(),
            },
        };
        if !undo && outcome == StepOutcome::Late && waits {
            self.perhaps_done(step);
        }
        if !undo && outcome == StepOutcome::Failed {
            self.steps
                .entry(step.to_owned())
                .or_default()
                .give_up(attempt);
        }
        if let Some(data) = data {
            self.data = Some(data.clone());
        }
        if matches!(outcome, StepOutcome::Failed | StepOutcome::TimedOut) && !undo {
            self.reason.get_or_insert_with(why);
        }
        if outcome != StepOutcome::Again {
            self.stop_timers(step, undo, &ALL);
        }
    }

    fn operated(&mut self, operation: Operation) {
        self.help = None;
        for calls in self.steps.values_mut() {
            match operation {
                Operation::Skip => {
                    if matches!(calls.action, Call::Stuck { .. }) {
                        calls.action = match calls.perhaps_done {
                            true => Call::Done,
                            false => Call::Skipped,
                        };
                    }
                    if matches!(calls.undo, Call::Stuck { .. }) {
                        calls.undo = Call::Skipped;
                    }
                }
                Operation::Compensate => {
                    if let Call::Stuck { attempt, .. } = calls.action {
                        calls.give_up(attempt);
                    }
                }
                Operation::Retry | Operation::Force => {}
            }
        }
    }

    /// The instance as people see it.
    pub(crate) fn status(&self, entity: &EntityKey) -> SagaStatus {
        let stuck = self.stuck();
        let wanted = stuck.first().map(|(step, undo)| {
            let of = if *undo { "undoing " } else { "" };
            match self.call(step, *undo) {
                Call::Stuck { reason, .. } => format!("{of}{step}: {reason}"),
                _ => format!("{of}{step}"),
            }
        });
        let state = match self.phase {
            Phase::New => "new",
            Phase::Ended(SagaEnd::Completed) => "completed",
            Phase::Ended(SagaEnd::Undone) => "undone",
            Phase::Ended(SagaEnd::Forced) => "forced",
            _ if !stuck.is_empty() || self.help.is_some() => "needs_help",
            Phase::Forward => "running",
            Phase::Backward => "undoing",
        };
        let steps = self.steps.iter().map(|(name, calls)| StepStatus {
            step: name.clone(),
            state: described(&calls.action),
            undo: Some(described(&calls.undo)).filter(|_| !calls.undo.is_idle()),
        });
        let timers = self.timers.iter().map(|(timer, waiting)| TimerStatus {
            timer: *timer,
            step: waiting.step.clone(),
            undo: waiting.undo,
            purpose: waiting.purpose,
        });
        SagaStatus {
            saga: entity.kind.to_string(),
            id: entity.id.to_string(),
            version: self.version,
            state: state.to_owned(),
            undoing: self.phase == Phase::Backward,
            reason: self.help.clone().or(wanted).or_else(|| self.reason.clone()),
            steps: steps.collect(),
            timers: timers.collect(),
            data: self.data.clone(),
        }
    }
}

fn described(call: &Call) -> String {
    match call {
        Call::Idle => "not begun".to_owned(),
        Call::Asked { attempt: 1, .. } => "under way".to_owned(),
        Call::Asked { attempt, .. } => format!("under way, attempt {attempt}"),
        Call::Again {
            attempt, reason, ..
        } => format!("to be tried again after attempt {attempt}: {reason}"),
        Call::Done => "done".to_owned(),
        Call::Failed { .. } => "failed".to_owned(),
        Call::Unknown => "not answered in time".to_owned(),
        Call::Skipped => "skipped".to_owned(),
        Call::Stuck { reason, .. } => format!("needs help: {reason}"),
    }
}

/// An instance of a saga as people see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SagaStatus {
    /// The saga's name.
    pub saga: String,
    /// The instance.
    pub id: String,
    /// The version of the definition that it keeps to.
    pub version: u32,
    /// `running`, `undoing`, `needs_help`, `completed`, `undone` or `forced`.
    pub state: String,
    /// Whether what was done is being undone, also where that needs help.
    pub undoing: bool,
    /// Why it goes back, or what it needs help with: the first step that does, by name.
    pub reason: Option<String>,
    /// The steps that have begun, by name.
    pub steps: Vec<StepStatus>,
    /// The timers that it has set and still waits for.
    pub timers: Vec<TimerStatus>,
    /// What it is about.
    pub data: Option<Json>,
}

impl SagaStatus {
    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        matches!(&self.state[..], "completed" | "undone" | "forced")
    }
}

/// A step of an instance as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepStatus {
    /// The step's name.
    pub step: String,
    /// How it stands.
    pub state: String,
    /// How its undoing stands, if that has begun.
    pub undo: Option<String>,
}

/// A timer that an instance waits for, as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TimerStatus {
    /// Its number, that of its [`SagaEvent::TimerSet`].
    pub timer: u64,
    /// Which step waits; none: the whole saga.
    pub step: Option<String>,
    /// Whether the step is being undone.
    pub undo: bool,
    /// What for.
    pub purpose: TimerPurpose,
}
