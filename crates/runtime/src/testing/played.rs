//! A saga played step by step, in virtual time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use everfold_engine::EntityKey;
use serde::Serialize;

use super::{Issued, through_the_log};
use crate::saga::turn::{Input, decide};
use crate::saga::{
    Definitions, Instance, Json, Operation, Saga, SagaData, SagaEnd, SagaEvent, StepAnswer,
};

/// Starts to play a saga: the specification answers in the place of the entities, and lets time
/// pass.
///
/// ```text
/// saga(placing())
///     .begins(Placing { order: "o-1".into(), customer: "c-1".into(), total: money(20) })
///     .asks([issued::<Customer>("c-1", ReserveCredit { order: "o-1".into(), total: money(20) })])
///     .passes(Duration::from_secs(60))
///     .asks([issued::<Order>("o-1", Reject { reason: Reason::TimedOut })])
///     .replies("place", OrderState::Rejected)
///     ...
///     .ends(SagaEnd::Undone);
/// ```
pub fn saga<D: SagaData>(saga: Saga<D>) -> SagaSpec<D> {
    let mut definitions = Definitions::new();
    let version = saga.version;
    definitions.insert(version, Arc::new(saga));
    SagaSpec {
        definitions,
        version,
        state: Instance::default(),
        now: Duration::ZERO,
        timers: BTreeSet::new(),
        open: Vec::new(),
        unseen: Vec::new(),
        types: std::marker::PhantomData,
    }
}

/// A saga being played.
pub struct SagaSpec<D> {
    definitions: Definitions,
    version: u32,
    state: Instance,
    now: Duration,
    timers: BTreeSet<(Duration, u64)>,
    /// Commands that were not answered.
    open: Vec<Open>,
    /// Commands that the specification has not spoken of.
    unseen: Vec<Issued>,
    types: std::marker::PhantomData<fn() -> D>,
}

struct Open {
    step: String,
    undo: bool,
    attempt: u32,
}

impl<D: SagaData> SagaSpec<D> {
    /// The instance begins.
    #[track_caller]
    pub fn begins(self, data: D) -> Self {
        let input = Input::Begin {
            version: self.version,
            data: written(&data),
        };
        self.take(input)
    }

    /// Exactly these commands were sent since the specification last spoke of any; in any order, as
    /// steps may run at the same time.
    #[track_caller]
    pub fn asks(mut self, expected: impl IntoIterator<Item = Issued>) -> Self {
        let text =
            |issued: &Issued| format!("{} {} {}", issued.entity, issued.command, issued.json);
        let mut expected: Vec<Issued> = expected.into_iter().collect();
        let mut asked = std::mem::take(&mut self.unseen);
        expected.sort_by_key(text);
        asked.sort_by_key(text);
        assert_eq!(asked, expected, "other commands than expected");
        self
    }

    /// The entity that was asked on behalf of a step replies.
    #[track_caller]
    pub fn replies(self, step: &str, reply: impl Serialize) -> Self {
        self.answer(step, StepAnswer::Replied(written(&reply)))
    }

    /// It rejects.
    #[track_caller]
    pub fn rejects(self, step: &str, rejection: impl Serialize) -> Self {
        self.answer(step, StepAnswer::Rejected(written(&rejection)))
    }

    /// It cannot process the command.
    #[track_caller]
    pub fn errs(self, step: &str, reason: &str) -> Self {
        self.answer(step, StepAnswer::Error(reason.to_owned()))
    }

    /// Time passes: timers fire in the order in which they are due.
    #[track_caller]
    pub fn passes(mut self, duration: Duration) -> Self {
        let until = self.now.saturating_add(duration);
        while let Some((due, timer)) = self.timers.first().copied()
            && due <= until
        {
            self.timers.pop_first();
            self.now = due;
            self = self.take(Input::Timer { timer });
        }
        self.now = until;
        self
    }

    /// A person acts.
    #[track_caller]
    pub fn operated(self, operation: Operation) -> Self {
        self.take(Input::Operate { operation })
    }

    /// It needs a person, and says why.
    #[track_caller]
    pub fn needs_help(self, reason: &str) -> Self {
        let status = self.state.status(&EntityKey::new("saga", "played"));
        let why = format!("{:?} {:?}", status.reason, status.steps);
        assert_eq!(status.state, "needs_help", "it needs no help");
        assert!(
            why.contains(reason),
            "it needs help for another reason: {why}"
        );
        self
    }

    /// It has ended in this way, and nothing is left unsaid or unanswered but what came too late.
    #[track_caller]
    pub fn ends(self, end: SagaEnd) -> Self {
        let status = self.state.status(&EntityKey::new("saga", "played"));
        assert_eq!(status.state, end.to_string(), "it is {status:?}");
        assert!(self.unseen.is_empty(), "it also asks {:?}", self.unseen);
        self
    }

    /// What it is about by now.
    #[track_caller]
    pub fn data(&self) -> D {
        let data = self.state.data.clone().unwrap_or_else(Json::null);
        match serde_json::from_str(data.as_str()) {
            Ok(data) => data,
            Err(error) => panic!("the data cannot be read back: {error}; {}", data.as_str()),
        }
    }

    #[track_caller]
    fn answer(mut self, step: &str, answer: StepAnswer) -> Self {
        let Some(place) = self.open.iter().position(|open| open.step == step) else {
            let open: Vec<&str> = self.open.iter().map(|open| &open.step[..]).collect();
            panic!("nobody was asked on behalf of {step:?}; open are {open:?}");
        };
        let Open {
            step,
            undo,
            attempt,
        } = self.open.remove(place);
        self.take(Input::Answer {
            step,
            undo,
            attempt,
            answer,
        })
    }

    #[track_caller]
    fn take(mut self, input: Input) -> Self {
        let events = match decide(&self.definitions, &self.state, &input) {
            Ok(Ok(events)) => events,
            Ok(Err(rejection)) => panic!("it was rejected: {rejection}"),
            Err(error) => panic!("{error}"),
        };
        for event in events {
            let event = through_the_log(&event);
            self.state.evolve(&event);
            self.follow(&event);
        }
        let snapshot = written(&self.state);
        let snapshot = snapshot.as_str();
        match serde_json::from_str::<Instance>(snapshot) {
            Ok(state) => assert_eq!(state, self.state, "the state changes when it is stored"),
            Err(error) => panic!("the state cannot be read back: {error}; {snapshot}"),
        }
        self
    }

    fn follow(&mut self, event: &SagaEvent) {
        match event {
            SagaEvent::Asked {
                step,
                undo,
                attempt,
                entity,
                command,
                body,
                ..
            } => {
                self.open.push(Open {
                    step: step.clone(),
                    undo: *undo,
                    attempt: *attempt,
                });
                self.unseen.push(Issued {
                    command: command.clone(),
                    entity: EntityKey::of_stream(entity),
                    json: serde_json::from_str(body.as_str()).unwrap_or_default(),
                    timer: None,
                });
            }
            SagaEvent::TimerSet { timer, millis, .. } => {
                let due = self.now.saturating_add(Duration::from_millis(*millis));
                self.timers.insert((due, *timer));
            }
            _ => {}
        }
    }
}

#[track_caller]
fn written(value: &impl Serialize) -> Json {
    match Json::of(value) {
        Ok(json) => json,
        Err(error) => panic!("a value cannot be written as JSON: {error}"),
    }
}
