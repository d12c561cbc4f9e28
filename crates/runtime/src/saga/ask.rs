//! Commands of sagas, and what their answers mean.

use std::future::IntoFuture;
use std::sync::Arc;

use everfold_engine::engine::BoxFuture;
use everfold_engine::{EntityKey, Text};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::event::Json;
use super::step::{Next, StepAnswer, done, fail, help};
use crate::entity::{Command, Decide, Entity};
use crate::error::{CommandError, SendError};
use crate::owner::{Envelope, Router, not_json};
use crate::reactor::Outbound;
use crate::sending::Sending;
use crate::together::{Combined, DecideTogether};

/// A command that a saga sends on behalf of a step; made of a [`Question`].
pub struct Asks<D>(pub(super) Arc<dyn Asking<D>>);

/// A command as it is written into a stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Written {
    pub(crate) entity: EntityKey,
    pub(crate) command: &'static str,
    pub(crate) body: Json,
}

/// What a sent command will have led to.
pub(crate) type Answering = BoxFuture<'static, Result<StepAnswer, CommandError>>;

/// A command of any type.
pub(crate) trait Asking<D>: Send + Sync {
    fn write(&self, data: &D) -> Result<Written, CommandError>;

    /// Sends a command that was written before.
    fn send(
        &self,
        router: &Router,
        envelope: Envelope,
        entity: EntityKey,
        body: &Json,
    ) -> Answering;

    /// What an answer means.
    fn judge(&self, data: &mut D, answer: &StepAnswer, undo: bool) -> Result<Next, CommandError>;

    /// The type of entity that decides it, where that is known beforehand.
    fn kind(&self) -> Option<&'static str>;
}

type Write<D> = Box<dyn Fn(&D) -> Result<Written, CommandError> + Send + Sync>;
type Deliver = fn(&Router, Envelope, EntityKey, &Json) -> Answering;
type Means<D, A> = Box<dyn Fn(&mut D, A) -> Next + Send + Sync>;

/// A command to an entity, or to several of one tag, and what its answers mean for the saga; made by
/// [`ask`] and [`ask_together`].
pub struct Question<D, Reply, Rejection> {
    write: Write<D>,
    send: Deliver,
    kind: Option<&'static str>,
    replied: Option<Means<D, Reply>>,
    rejected: Option<Means<D, Rejection>>,
}

/// A saga asks an entity. A reply means that the step is done and a rejection that it has failed,
/// unless [`Question::replied`] and [`Question::rejected`] say otherwise.
pub fn ask<D, E: Decide<C>, C: Command>(
    make: impl Fn(&D) -> Outbound<E, C> + Send + Sync + 'static,
) -> Question<D, E::Reply, E::Rejection> {
    let write = move |data: &D| {
        let (entity, command) = make(data).into_parts();
        written(entity, &command)
    };
    Question {
        write: Box::new(write),
        send: |router, envelope, entity, body| match read_command::<C>(body) {
            Ok(command) => {
                let sent = router.send::<E, C>(entity, command, envelope);
                Box::pin(async move { answer(sent.await.map(|sent| sent.reply)) })
            }
            Err(error) => unreadable(&error),
        },
        kind: Some(<E as Entity>::NAME),
        replied: None,
        rejected: None,
    }
}

/// A saga asks several entities that share a tag, as one. Answers mean what they mean for [`ask`].
pub fn ask_together<D, C: DecideTogether>(
    make: impl Fn(&D) -> C + Send + Sync + 'static,
) -> Question<D, C::Reply, C::Rejection> {
    let write = move |data: &D| {
        let command = make(data);
        let first = command.members().first().cloned();
        let nobody = || EntityKey::new("", Text::new());
        written(first.unwrap_or_else(nobody), &command)
    };
    Question {
        write: Box::new(write),
        send: |router, envelope, _, body| match read_command::<C>(body) {
            Ok(command) => {
                let mut sending = Sending::new(router, Combined::of(command));
                sending.envelope = envelope;
                let sent = sending.into_future();
                Box::pin(async move { answer(sent.await.map(|sent| sent.reply)) })
            }
            Err(error) => unreadable(&error),
        },
        kind: None,
        replied: None,
        rejected: None,
    }
}

impl<D, Reply, Rejection> Question<D, Reply, Rejection> {
    /// What a reply means. May change the saga's data. Pure, like a decision.
    #[must_use]
    pub fn replied(
        mut self,
        means: impl Fn(&mut D, Reply) -> Next + Send + Sync + 'static,
    ) -> Self {
        self.replied = Some(Box::new(means));
        self
    }

    /// What a rejection means. May change the saga's data. Pure, like a decision.
    #[must_use]
    pub fn rejected(
        mut self,
        means: impl Fn(&mut D, Rejection) -> Next + Send + Sync + 'static,
    ) -> Self {
        self.rejected = Some(Box::new(means));
        self
    }
}

impl<D, Reply, Rejection> From<Question<D, Reply, Rejection>> for Asks<D>
where
    D: 'static,
    Reply: DeserializeOwned + 'static,
    Rejection: DeserializeOwned + 'static,
{
    fn from(question: Question<D, Reply, Rejection>) -> Self {
        Self(Arc::new(question))
    }
}

impl<D, Reply, Rejection> Asking<D> for Question<D, Reply, Rejection>
where
    Reply: DeserializeOwned,
    Rejection: DeserializeOwned,
{
    fn write(&self, data: &D) -> Result<Written, CommandError> {
        (self.write)(data)
    }

    fn send(
        &self,
        router: &Router,
        envelope: Envelope,
        entity: EntityKey,
        body: &Json,
    ) -> Answering {
        (self.send)(router, envelope, entity, body)
    }

    fn judge(&self, data: &mut D, answer: &StepAnswer, undo: bool) -> Result<Next, CommandError> {
        Ok(match answer {
            StepAnswer::Replied(reply) => match &self.replied {
                Some(replied) => replied(data, read(reply)?),
                None => done(),
            },
            StepAnswer::Rejected(rejection) => match &self.rejected {
                Some(rejected) => rejected(data, read(rejection)?),
                None if undo => help(format!("rejected: {}", rejection.as_str())),
                None => fail(format!("rejected: {}", rejection.as_str())),
            },
            StepAnswer::Error(reason) => Next::Again(reason.clone()),
        })
    }

    fn kind(&self) -> Option<&'static str> {
        self.kind
    }
}

fn read<T: DeserializeOwned>(json: &Json) -> Result<T, CommandError> {
    serde_json::from_str(json.as_str()).map_err(not_json)
}

fn read_command<C: Command>(body: &Json) -> Result<C, CommandError> {
    C::decode(body.as_str().as_bytes()).map_err(not_json)
}

fn unreadable(error: &CommandError) -> Answering {
    let answer = StepAnswer::Error(error.to_string());
    Box::pin(std::future::ready(Ok(answer)))
}

fn written<C: Command>(entity: EntityKey, command: &C) -> Result<Written, CommandError> {
    let mut body = Vec::new();
    command.encode(&mut body).map_err(not_json)?;
    Ok(Written {
        entity,
        command: C::NAME,
        body: Json::written(body).map_err(not_json)?,
    })
}

/// An answer as the saga's stream keeps it; an error if it is not known whether anything was done.
fn answer<Reply: Serialize, Rejection: Serialize>(
    answer: Result<Reply, SendError<Rejection>>,
) -> Result<StepAnswer, CommandError> {
    match answer {
        Ok(reply) => Json::of(&reply).map(StepAnswer::Replied).map_err(not_json),
        Err(SendError::Rejected(rejection)) => Json::of(&rejection)
            .map(StepAnswer::Rejected)
            .map_err(not_json),
        Err(SendError::Failed(error)) if error.is_passing() => Err(error),
        Err(SendError::Failed(error @ CommandError::Settled(_))) => Err(error),
        Err(SendError::Failed(error)) => Ok(StepAnswer::Error(error.to_string())),
    }
}
