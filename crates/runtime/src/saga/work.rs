//! A command to an instance of a saga.

use std::sync::Arc;

use everfold_engine::{EntityKey, Offset, World};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::definition::Definitions;
use super::event::{SagaEvent, StepOutcome};
use super::instance::{Instance, Phase};
use super::turn::{Input, decide};
use crate::error::{CommandError, SendError};
use crate::owner::{
    Answer, Decided, Desk, Envelope, Residents, Ruling, Work, command_digest, draft, guard,
    not_json, to_json,
};
use crate::remote::What;

/// Why an instance of a saga refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum SagaRejection {
    /// The id is taken.
    #[error("this instance was begun before, with other data; choose another id")]
    BegunDifferently,
    /// There is no such instance.
    #[error("there is no such instance: it was never begun")]
    NotBegun,
    /// It is over.
    #[error("this instance has ended: nothing can be done about it any more")]
    Ended,
    /// Nothing waits for a person.
    #[error("this instance needs no help: there is nothing to retry or to skip")]
    NeedsNoHelp,
    /// It is being undone.
    #[error("this instance is being undone already")]
    UndoneAlready,
    /// Its definition is not part of the application.
    #[error(
        "version {version} of its definition is not part of the application: add it with `.saga(...)`, or force the end"
    )]
    NoDefinition {
        /// The version that the instance keeps to.
        version: u32,
    },
}

pub(crate) type Answered = Result<Offset, SendError<SagaRejection>>;

pub(crate) struct SagaWork {
    envelope: Envelope,
    entity: [EntityKey; 1],
    definitions: Arc<Definitions>,
    input: Input,
    events: Vec<SagaEvent>,
    rejection: Option<SagaRejection>,
    answer: oneshot::Sender<Answered>,
    world: Arc<dyn World>,
}

impl SagaWork {
    pub(crate) fn new(
        definitions: Arc<Definitions>,
        entity: EntityKey,
        input: Input,
        envelope: Envelope,
        world: &Arc<dyn World>,
    ) -> (Self, oneshot::Receiver<Answered>) {
        let (answer, receiver) = oneshot::channel();
        let work = Self {
            envelope,
            entity: [entity],
            definitions,
            input,
            events: Vec::new(),
            rejection: None,
            answer,
            world: world.clone(),
        };
        (work, receiver)
    }
}

impl SagaWork {
    /// Names what seldom happens.
    fn tell_places(&self, state: &Instance, events: &[SagaEvent]) {
        if events.is_empty() {
            match (&self.input, &state.phase) {
                (Input::Answer { .. }, Phase::Ended(_)) => {
                    self.world.reached("saga: answer behind the end ignored");
                }
                (Input::Answer { .. }, _) => {
                    self.world.reached("saga: late or repeated answer ignored");
                }
                (Input::Timer { .. }, _) => {
                    self.world
                        .reached("saga: timer that nobody waits for ignored");
                }
                (Input::Begin { .. }, _) => self.world.reached("saga: begun again"),
                _ => {}
            }
        }
        for event in events {
            let place = match event {
                SagaEvent::Answered { outcome, .. } => match outcome {
                    StepOutcome::Failed => "saga: step failed",
                    StepOutcome::Again => "saga: step to be tried again",
                    StepOutcome::TimedOut => "saga: step timed out",
                    StepOutcome::Late => "saga: no answer in time, to be tried again",
                    StepOutcome::Done | StepOutcome::Skipped => continue,
                },
                SagaEvent::Asked { undo: true, .. } => "saga: step undone",
                SagaEvent::HelpNeeded { .. } => "saga: needs help",
                SagaEvent::Operated { .. } => "saga: a person has helped",
                _ => continue,
            };
            self.world.reached(place);
        }
    }
}

impl Work for SagaWork {
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    fn carried(&self) -> Result<What, CommandError> {
        let input = serde_json::to_vec(&self.input).map_err(not_json)?;
        Ok(What::Saga {
            entity: self.entity[0].clone(),
            input: input.into(),
        })
    }

    fn entities(&self) -> &[EntityKey] {
        &self.entity
    }

    fn digest(&self) -> Result<u128, CommandError> {
        let body = serde_json::to_vec(&self.input).map_err(not_json)?;
        Ok(command_digest("saga", &self.entity, &body))
    }

    fn decide(&mut self, desk: &Desk<'_>) -> Result<Ruling, CommandError> {
        let key = &self.entity[0];
        let (state, _) = desk.residents.state::<Instance>(key)?;
        let remembered = self.envelope.id.is_some();
        let decided = decide(&self.definitions, state, &self.input)?;
        if let Ok(events) = &decided {
            self.tell_places(state, events);
        }
        let (events, rejection) = match decided {
            Ok(events) => (events, None),
            Err(rejection) => (Vec::new(), Some(rejection)),
        };
        let drafts = events.iter().map(|event| draft(key.clone(), event));
        let drafts = drafts.collect::<Result<_, _>>()?;
        let reply = remembered.then(|| to_json(&rejection)).transpose()?;
        let rejected = rejection.is_some();
        (self.events, self.rejection) = (events, rejection);
        Ok(Ruling::Decided(Decided {
            drafts,
            rejected,
            reply,
            ..Decided::default()
        }))
    }

    fn evolve(&mut self, residents: &mut Residents) -> Result<(), CommandError> {
        let key = &self.entity[0];
        let state = residents.state_mut::<Instance>(key)?;
        guard(key, || {
            self.events.drain(..).for_each(|event| state.evolve(&event))
        })
    }

    fn answer(self: Box<Self>, answer: Answer) {
        let result = match (answer, self.rejection) {
            (Answer::Durable(offset), None) => Ok(offset),
            (Answer::Durable(_), Some(rejection)) => Err(SendError::Rejected(rejection)),
            (Answer::Again(reply, offset), _) => {
                match serde_json::from_slice::<Option<SagaRejection>>(&reply.body) {
                    Ok(None) => Ok(offset),
                    Ok(Some(rejection)) => Err(SendError::Rejected(rejection)),
                    Err(error) => Err(SendError::Failed(CommandError::Unknown(format!(
                        "it was done before, but its answer cannot be read: {error}"
                    )))),
                }
            }
            (Answer::Failed(error), _) => Err(SendError::Failed(error)),
        };
        let _ = self.answer.send(result);
    }
}
