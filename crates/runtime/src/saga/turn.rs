//! How an instance of a saga decides: pure, from its state, its definition and what came in.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::definition::{Definition, Definitions, Outline};
use super::event::{Json, Operation, SagaEnd, SagaEvent, StepOutcome, TimerPurpose};
use super::instance::{Call, Instance, Phase};
use super::step::{Next, StepAnswer};
use super::work::SagaRejection;
use crate::error::CommandError;

const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// What comes in.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Input {
    Begin {
        version: u32,
        data: Json,
    },
    Answer {
        step: String,
        undo: bool,
        attempt: u32,
        answer: StepAnswer,
    },
    Timer {
        timer: u64,
    },
    Operate {
        operation: Operation,
    },
    /// The definition that the instance keeps to is not there.
    Orphaned {
        version: u32,
    },
}

/// What was decided: events, or a rejection.
pub(crate) type Decided = Result<Vec<SagaEvent>, SagaRejection>;

/// Decides on an input.
///
/// # Errors
/// [`CommandError::NoDefinition`] if the instance keeps to a definition that is not there, and the
/// input cannot be understood without it.
pub(crate) fn decide(
    definitions: &Definitions,
    state: &Instance,
    input: &Input,
) -> Result<Decided, CommandError> {
    let version = match input {
        // Whatever its definition is, that of another version has no say in it.
        Input::Begin { data, .. } if state.phase != Phase::New => {
            let same = state.begun_with == xxh3_64(data.as_str().as_bytes());
            let again = same.then(Vec::new);
            return Ok(again.ok_or(SagaRejection::BegunDifferently));
        }
        Input::Begin { version, .. } => *version,
        _ => state.version,
    };
    let Some(definition) = definitions.get(&version) else {
        return without_definition(state, input, version);
    };
    let mut turn = Turn {
        definition: definition.as_ref(),
        groups: definition.groups(),
        state: state.clone(),
        events: Vec::new(),
    };
    Ok(turn.take(input).map(|()| turn.events))
}

fn without_definition(
    state: &Instance,
    input: &Input,
    version: u32,
) -> Result<Decided, CommandError> {
    let open = matches!(state.phase, Phase::Forward | Phase::Backward);
    Ok(match input {
        Input::Orphaned { version } if open && state.help.is_none() => Ok(vec![orphaned(*version)]),
        Input::Orphaned { .. } => Ok(Vec::new()),
        Input::Operate {
            operation: operation @ Operation::Force,
        } if open => Ok(vec![
            SagaEvent::Operated {
                operation: *operation,
            },
            SagaEvent::Ended {
                end: SagaEnd::Forced,
            },
        ]),
        Input::Operate { .. } if open => Err(SagaRejection::NoDefinition { version }),
        Input::Operate { .. } if state.phase == Phase::New => Err(SagaRejection::NotBegun),
        Input::Operate { .. } => Err(SagaRejection::Ended),
        Input::Answer { .. } | Input::Timer { .. } if open => {
            return Err(CommandError::NoDefinition(version));
        }
        Input::Begin { .. } => Err(SagaRejection::NoDefinition { version }),
        Input::Answer { .. } | Input::Timer { .. } => Ok(Vec::new()),
    })
}

fn orphaned(version: u32) -> SagaEvent {
    SagaEvent::HelpNeeded {
        step: None,
        undo: false,
        reason: format!("version {version} of its definition is not part of the application"),
        perhaps_done: false,
        reply: None,
        data: None,
    }
}

/// What a step goes on from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// The command was carried out, and this is known.
    Reply,
    /// Nothing was done.
    Rejection,
    /// It could not be processed: nothing was done.
    Error,
    /// There was no answer in time.
    Nothing,
    /// Time has passed, as it should.
    Time,
}

impl Heard {
    fn is_perhaps_done(self) -> bool {
        matches!(self, Self::Reply | Self::Nothing)
    }
}

struct Turn<'a> {
    definition: &'a dyn Definition,
    groups: Vec<Vec<Outline>>,
    state: Instance,
    events: Vec<SagaEvent>,
}

impl Turn<'_> {
    fn emit(&mut self, event: SagaEvent) {
        self.state.evolve(&event);
        self.events.push(event);
    }

    fn take(&mut self, input: &Input) -> Result<(), SagaRejection> {
        match input {
            Input::Begin { version, data } => self.begin(*version, data),
            Input::Answer {
                step,
                undo,
                attempt,
                answer,
            } => self.answer(step, *undo, *attempt, answer),
            Input::Timer { timer } => self.timer(*timer),
            Input::Operate { operation } => self.operate(*operation)?,
            // It is there again.
            Input::Orphaned { .. } => {}
        }
        self.go_on();
        Ok(())
    }

    fn begin(&mut self, version: u32, data: &Json) {
        self.emit(SagaEvent::Begun {
            version,
            data: data.clone(),
        });
        if let Some(deadline) = self.definition.deadline() {
            self.set_timer(None, false, TimerPurpose::Deadline, deadline);
        }
    }

    fn answer(&mut self, step: &str, undo: bool, attempt: u32, answer: &StepAnswer) {
        // A repeated answer, or one that nobody waits for any more.
        if !self.state.waits_for(step, undo, attempt) {
            return;
        }
        let data = self.data();
        let judged = self.definition.judge(step, undo, &data, answer);
        let (heard, reply) = match answer {
            StepAnswer::Replied(reply) => (Heard::Reply, Some(reply.clone())),
            StepAnswer::Rejected(reply) => (Heard::Rejection, Some(reply.clone())),
            StepAnswer::Error(_) => (Heard::Error, None),
        };
        match judged {
            Ok((next, data)) => self.conclude(step, undo, next, heard, reply, data),
            Err(error) => {
                let next = Next::Help(error.to_string());
                self.conclude(step, undo, next, heard, reply, None);
            }
        }
    }

    /// Writes down what an answer, or its absence, means.
    fn conclude(
        &mut self,
        step: &str,
        undo: bool,
        next: Next,
        heard: Heard,
        reply: Option<Json>,
        data: Option<Json>,
    ) {
        let (attempt, tries) = match self.state.call(step, undo) {
            Call::Asked { attempt, tries } | Call::Again { attempt, tries, .. } => {
                (*attempt, *tries)
            }
            other => (other.attempt(), 1),
        };
        let outline = self.outline(step);
        let last = outline.is_none_or(|outline| tries >= outline.attempts);
        // Who goes back does not try again to go forward.
        let last = last || (!undo && self.state.phase == Phase::Backward);
        let forward = self.state.phase == Phase::Forward;
        let asks_for_help = matches!(next, Next::Help(_));
        let (outcome, reason) = match next {
            Next::Done => (StepOutcome::Done, None),
            Next::Again(reason) if !last && heard == Heard::Nothing => {
                (StepOutcome::Late, Some(reason))
            }
            Next::Again(reason) if !last => (StepOutcome::Again, Some(reason)),
            // What cannot be processed is nothing that the definition has foreseen; an undoing that
            // does not succeed, neither.
            Next::Help(reason) | Next::Fail(reason) | Next::Again(reason)
                if undo || asks_for_help || heard == Heard::Error && forward =>
            {
                self.emit(SagaEvent::HelpNeeded {
                    step: Some(step.to_owned()),
                    undo,
                    reason,
                    perhaps_done: heard.is_perhaps_done(),
                    reply,
                    data,
                });
                return;
            }
            Next::Help(reason) | Next::Fail(reason) | Next::Again(reason)
                if heard == Heard::Nothing =>
            {
                return self.unanswered(step, reason, data);
            }
            Next::Help(reason) | Next::Fail(reason) | Next::Again(reason) => {
                (StepOutcome::Failed, Some(reason))
            }
        };
        self.emit(SagaEvent::Answered {
            step: step.to_owned(),
            undo,
            attempt,
            outcome,
            reason,
            reply,
            data,
        });
        if matches!(outcome, StepOutcome::Again | StepOutcome::Late) {
            let between = outline.map_or(LONGEST_PAUSE, |outline| outline.between);
            let doubled = between.saturating_mul(1 << (tries - 1).min(20));
            let pause = doubled.min(LONGEST_PAUSE);
            self.set_timer(Some(step), undo, TimerPurpose::Retry, pause);
        }
    }

    fn timer(&mut self, timer: u64) {
        let Some(waiting) = self.state.timers.get(&timer).cloned() else {
            // Whoever set it has moved on.
            return;
        };
        match (waiting.step.as_deref(), waiting.purpose) {
            (Some(step), TimerPurpose::Retry) => {
                if matches!(self.state.call(step, waiting.undo), Call::Again { .. }) {
                    self.ask(step, waiting.undo);
                }
            }
            (Some(step), TimerPurpose::Pause) => {
                self.conclude(step, false, Next::Done, Heard::Time, None, None);
            }
            (Some(step), TimerPurpose::Deadline) => self.time_out(step),
            (None, _) if self.state.phase == Phase::Forward => {
                for step in self.under_way() {
                    self.unanswered(&step, "the saga had no more time".to_owned(), None);
                }
                let reason = "the saga was not done in time".to_owned();
                self.emit(SagaEvent::Undoing { reason });
            }
            (None, _) => {}
        }
    }

    /// No answer has come in time.
    fn time_out(&mut self, step: &str) {
        let call = self.state.call(step, false).clone();
        if !matches!(call, Call::Asked { .. } | Call::Again { .. }) {
            return;
        }
        match self.definition.timed_out(step, &self.data()) {
            Ok((next, data)) => self.conclude(step, false, next, Heard::Nothing, None, data),
            Err(error) => {
                let next = Next::Help(error.to_string());
                self.conclude(step, false, next, Heard::Nothing, None, None);
            }
        }
    }

    fn unanswered(&mut self, step: &str, reason: String, data: Option<Json>) {
        let (outcome, attempt) = match self.state.call(step, false) {
            // Its last command was not carried out.
            Call::Again { attempt, .. } => (StepOutcome::Failed, *attempt),
            other => (StepOutcome::TimedOut, other.attempt()),
        };
        self.emit(SagaEvent::Answered {
            step: step.to_owned(),
            undo: false,
            attempt,
            outcome,
            reason: Some(reason),
            reply: None,
            data,
        });
    }

    fn operate(&mut self, operation: Operation) -> Result<(), SagaRejection> {
        match self.state.phase {
            Phase::New => return Err(SagaRejection::NotBegun),
            Phase::Ended(_) => return Err(SagaRejection::Ended),
            Phase::Backward if operation == Operation::Compensate => {
                return Err(SagaRejection::UndoneAlready);
            }
            Phase::Forward | Phase::Backward => {}
        }
        let stuck = self.state.stuck();
        let idle = stuck.is_empty() && self.state.help.is_none();
        if idle && matches!(operation, Operation::Retry | Operation::Skip) {
            return Err(SagaRejection::NeedsNoHelp);
        }
        self.emit(SagaEvent::Operated { operation });
        match operation {
            Operation::Retry => {
                for (step, undo) in stuck {
                    self.ask(&step, undo);
                }
            }
            Operation::Skip => {}
            Operation::Compensate => self.emit(SagaEvent::Undoing {
                reason: "a person has called it off".to_owned(),
            }),
            Operation::Force => self.emit(SagaEvent::Ended {
                end: SagaEnd::Forced,
            }),
        }
        Ok(())
    }

    fn go_on(&mut self) {
        if self.state.phase == Phase::Forward {
            self.go_forward();
        }
        if self.state.phase == Phase::Backward {
            self.go_back();
        }
    }

    fn go_forward(&mut self) {
        for group in self.groups.clone() {
            for outline in &group {
                if *self.state.call(outline.name, false) == Call::Idle {
                    self.start(outline);
                }
            }
            let calls = group
                .iter()
                .map(|outline| self.state.call(outline.name, false));
            let (mut failed, mut finished) = (false, true);
            for call in calls {
                failed |= matches!(call, Call::Failed { .. } | Call::Unknown);
                finished &= matches!(call, Call::Done | Call::Skipped);
            }
            if failed {
                let reason = self.state.reason.clone().unwrap_or_default();
                self.emit(SagaEvent::Undoing { reason });
                return;
            }
            if !finished {
                return;
            }
        }
        self.emit(SagaEvent::Ended {
            end: SagaEnd::Completed,
        });
    }

    fn go_back(&mut self) {
        let mut late = false;
        for group in self.groups.clone().into_iter().rev() {
            let mut held = false;
            for outline in group.iter().rev() {
                let name = outline.name;
                let action = self.state.call(name, false).clone();
                let unknown = match action {
                    Call::Asked { .. } | Call::Stuck { .. } | Call::Again { .. } => {
                        held = true;
                        continue;
                    }
                    Call::Done => false,
                    Call::Unknown => true,
                    Call::Idle | Call::Failed { .. } | Call::Skipped => continue,
                };
                if outline.undo && *self.state.call(name, true) == Call::Idle {
                    self.ask(name, true);
                }
                let undone = match self.state.call(name, true) {
                    Call::Idle => !outline.undo,
                    Call::Done | Call::Skipped => true,
                    _ => false,
                };
                // What may never have been done is undone behind its command, whenever that is
                // carried out: nobody waits for it but the end.
                late |= !undone && unknown;
                held |= !undone && !unknown;
            }
            if held {
                return;
            }
        }
        if !late {
            self.emit(SagaEvent::Ended {
                end: SagaEnd::Undone,
            });
        }
    }

    /// A step's turn has come.
    fn start(&mut self, outline: &Outline) {
        let outcome = match self.definition.is_wanted(outline.name, &self.data()) {
            Ok(true) if outline.done => Some(StepOutcome::Done),
            Ok(true) => None,
            Ok(false) => Some(StepOutcome::Skipped),
            Err(error) => return self.need_help(outline.name, false, error.to_string()),
        };
        if let Some(outcome) = outcome {
            self.emit(SagaEvent::Answered {
                step: outline.name.to_owned(),
                undo: false,
                attempt: 0,
                outcome,
                reason: None,
                reply: None,
                data: None,
            });
            return;
        }
        match outline.pause {
            Some(pause) => self.set_timer(Some(outline.name), false, TimerPurpose::Pause, pause),
            None => self.ask(outline.name, false),
        }
    }

    fn ask(&mut self, step: &str, undo: bool) {
        let asked = match self.definition.question(step, undo, &self.data()) {
            Ok(question) => SagaEvent::Asked {
                version: self.state.version,
                step: step.to_owned(),
                undo,
                attempt: self.state.call(step, undo).attempt() + 1,
                entity: question.entity.stream(),
                command: question.command.to_owned(),
                body: question.body,
            },
            Err(error) => return self.need_help(step, undo, error.to_string()),
        };
        self.emit(asked);
        let within = self.outline(step).and_then(|outline| outline.within);
        if let Some(within) = within.filter(|_| !undo)
            && !self.state.has_timer(step, undo, TimerPurpose::Deadline)
        {
            self.set_timer(Some(step), undo, TimerPurpose::Deadline, within);
        }
    }

    /// Nothing was asked, for the definition could not say what.
    fn need_help(&mut self, step: &str, undo: bool, reason: String) {
        self.emit(SagaEvent::HelpNeeded {
            step: Some(step.to_owned()),
            undo,
            reason,
            perhaps_done: false,
            reply: None,
            data: None,
        });
    }

    fn set_timer(
        &mut self,
        step: Option<&str>,
        undo: bool,
        purpose: TimerPurpose,
        after: Duration,
    ) {
        self.emit(SagaEvent::TimerSet {
            version: self.state.version,
            timer: self.state.timers_set + 1,
            step: step.map(str::to_owned),
            undo,
            purpose,
            millis: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
        });
    }

    fn outline(&self, step: &str) -> Option<Outline> {
        let steps = self.groups.iter().flatten();
        steps.copied().find(|outline| outline.name == step)
    }

    fn under_way(&self) -> Vec<String> {
        let waits = |outline: &&Outline| {
            let call = self.state.call(outline.name, false);
            matches!(call, Call::Asked { .. } | Call::Again { .. }) && outline.pause.is_none()
        };
        let steps = self.groups.iter().flatten().filter(waits);
        steps.map(|outline| outline.name.to_owned()).collect()
    }

    fn data(&self) -> Json {
        self.state.data.clone().unwrap_or_else(Json::null)
    }
}
