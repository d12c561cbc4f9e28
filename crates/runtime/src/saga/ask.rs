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

/// A command that a saga sends on behalf of a step; made of an [`AskEntity`] or an [`AskTogether`].
pub struct Asks<D>(pub(super) Arc<dyn Asking<D>>);

/// A command on its way into a stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Question {
    pub(crate) entity: EntityKey,
    pub(crate) command: &'static str,
    pub(crate) body: Json,
}

/// A command of any type.
pub(crate) trait Asking<D>: Send + Sync {
    fn question(&self, data: &D) -> Result<Question, CommandError>;

    /// Sends a command that was made before.
    fn send(
        &self,
        router: &Router,
        envelope: Envelope,
        entity: EntityKey,
        body: &Json,
    ) -> BoxFuture<'static, Result<StepAnswer, CommandError>>;

    /// What an answer means.
    fn judge(&self, data: &mut D, answer: &StepAnswer, undo: bool) -> Result<Next, CommandError>;

    /// The type of entity that decides it, where that is known beforehand.
    fn kind(&self) -> Option<&'static str>;
}

type Make<D, T> = Box<dyn Fn(&D) -> T + Send + Sync>;
type OnAnswer<D, A> = Box<dyn Fn(&mut D, A) -> Next + Send + Sync>;

struct Meaning<D, Reply, Rejection> {
    replied: Option<OnAnswer<D, Reply>>,
    rejected: Option<OnAnswer<D, Rejection>>,
}

impl<D, Reply: DeserializeOwned, Rejection: DeserializeOwned> Meaning<D, Reply, Rejection> {
    const DEFAULT: Self = Self {
        replied: None,
        rejected: None,
    };

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
}

fn read<T: DeserializeOwned>(json: &Json) -> Result<T, CommandError> {
    serde_json::from_str(json.as_str()).map_err(not_json)
}

fn write<C: Command>(command: &C) -> Result<Json, CommandError> {
    let mut body = Vec::new();
    command.encode(&mut body).map_err(not_json)?;
    Json::written(body).map_err(not_json)
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

/// A command to one entity, and what its answers mean for the saga.
pub struct AskEntity<D, E: Decide<C>, C: Command> {
    make: Make<D, Outbound<E, C>>,
    means: Meaning<D, E::Reply, E::Rejection>,
}

/// A saga asks an entity. A reply means that the step is done and a rejection that it has failed,
/// unless [`AskEntity::replied`] and [`AskEntity::rejected`] say otherwise.
pub fn ask<D, E: Decide<C>, C: Command>(
    make: impl Fn(&D) -> Outbound<E, C> + Send + Sync + 'static,
) -> AskEntity<D, E, C> {
    AskEntity {
        make: Box::new(make),
        means: Meaning::DEFAULT,
    }
}

impl<D, E: Decide<C>, C: Command> AskEntity<D, E, C> {
    /// What a reply means. May change the saga's data. Pure, like a decision.
    #[must_use]
    pub fn replied(
        mut self,
        means: impl Fn(&mut D, E::Reply) -> Next + Send + Sync + 'static,
    ) -> Self {
        self.means.replied = Some(Box::new(means));
        self
    }

    /// What a rejection means. May change the saga's data. Pure, like a decision.
    #[must_use]
    pub fn rejected(
        mut self,
        means: impl Fn(&mut D, E::Rejection) -> Next + Send + Sync + 'static,
    ) -> Self {
        self.means.rejected = Some(Box::new(means));
        self
    }
}

impl<D: 'static, E: Decide<C>, C: Command> From<AskEntity<D, E, C>> for Asks<D> {
    fn from(ask: AskEntity<D, E, C>) -> Self {
        Self(Arc::new(ask))
    }
}

impl<D, E: Decide<C>, C: Command> Asking<D> for AskEntity<D, E, C> {
    fn question(&self, data: &D) -> Result<Question, CommandError> {
        let (entity, command) = (self.make)(data).into_parts();
        Ok(Question {
            entity,
            command: C::NAME,
            body: write(&command)?,
        })
    }

    fn send(
        &self,
        router: &Router,
        envelope: Envelope,
        entity: EntityKey,
        body: &Json,
    ) -> BoxFuture<'static, Result<StepAnswer, CommandError>> {
        let sent = C::decode(body.as_str().as_bytes()).map_err(not_json);
        let sent = sent.map(|command| router.send::<E, C>(entity, command, envelope));
        Box::pin(async move {
            match sent {
                Ok(sent) => answer(sent.await.map(|sent| sent.reply)),
                Err(error) => Ok(StepAnswer::Error(error.to_string())),
            }
        })
    }

    fn judge(&self, data: &mut D, answer: &StepAnswer, undo: bool) -> Result<Next, CommandError> {
        self.means.judge(data, answer, undo)
    }

    fn kind(&self) -> Option<&'static str> {
        Some(<E as Entity>::NAME)
    }
}

/// A command to several entities of one tag, and what its answers mean for the saga.
pub struct AskTogether<D, C: DecideTogether> {
    make: Make<D, C>,
    means: Meaning<D, C::Reply, C::Rejection>,
}

/// A saga asks several entities that share a tag, as one. Answers mean what they mean for [`ask`].
pub fn ask_together<D, C: DecideTogether>(
    make: impl Fn(&D) -> C + Send + Sync + 'static,
) -> AskTogether<D, C> {
    AskTogether {
        make: Box::new(make),
        means: Meaning::DEFAULT,
    }
}

impl<D, C: DecideTogether> AskTogether<D, C> {
    /// What a reply means. May change the saga's data. Pure, like a decision.
    #[must_use]
    pub fn replied(
        mut self,
        means: impl Fn(&mut D, C::Reply) -> Next + Send + Sync + 'static,
    ) -> Self {
        self.means.replied = Some(Box::new(means));
        self
    }

    /// What a rejection means. May change the saga's data. Pure, like a decision.
    #[must_use]
    pub fn rejected(
        mut self,
        means: impl Fn(&mut D, C::Rejection) -> Next + Send + Sync + 'static,
    ) -> Self {
        self.means.rejected = Some(Box::new(means));
        self
    }
}

impl<D: 'static, C: DecideTogether> From<AskTogether<D, C>> for Asks<D> {
    fn from(ask: AskTogether<D, C>) -> Self {
        Self(Arc::new(ask))
    }
}

impl<D, C: DecideTogether> Asking<D> for AskTogether<D, C> {
    fn question(&self, data: &D) -> Result<Question, CommandError> {
        let command = (self.make)(data);
        let members = command.members();
        let first = members.first().cloned();
        Ok(Question {
            entity: first.unwrap_or_else(|| EntityKey::new("", Text::new())),
            command: C::NAME,
            body: write(&command)?,
        })
    }

    fn send(
        &self,
        router: &Router,
        envelope: Envelope,
        _: EntityKey,
        body: &Json,
    ) -> BoxFuture<'static, Result<StepAnswer, CommandError>> {
        let sent = C::decode(body.as_str().as_bytes()).map_err(not_json);
        let sent = sent.map(|command| {
            let mut sending = Sending::new(router, Combined::of(command));
            sending.envelope = envelope;
            sending.into_future()
        });
        Box::pin(async move {
            match sent {
                Ok(sent) => answer(sent.await.map(|sent| sent.reply)),
                Err(error) => Ok(StepAnswer::Error(error.to_string())),
            }
        })
    }

    fn judge(&self, data: &mut D, answer: &StepAnswer, undo: bool) -> Result<Next, CommandError> {
        self.means.judge(data, answer, undo)
    }

    fn kind(&self) -> Option<&'static str> {
        None
    }
}
