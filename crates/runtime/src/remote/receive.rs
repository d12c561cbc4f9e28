//! Work that has come from another node: made again from what was sent, done, and answered.

use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use everfold_engine::engine::BoxFuture;
use everfold_engine::{Bytes, EntityKey, Offset, Text};
use serde::Serialize;
use tokio::sync::oneshot;

use super::Duty;
use super::wire::{Outcome, Request, Response, What, decode, encode};
use crate::entity::{Command, Decide, Entity};
use crate::error::{CommandError, SendError};
use crate::node::Node;
use crate::owner::{Envelope, Shown, Single, Work, to_json};
use crate::query::history_here;
use crate::saga::SagaWork;
use crate::schema::Registry;
use crate::stream::Append;

/// Work as it was sent, and what will become of it.
pub(crate) type Carried = (Box<dyn Work>, BoxFuture<'static, Outcome>);

/// Makes a command of one type again.
pub(crate) type Accept = fn(EntityKey, &[u8], Envelope) -> Result<Carried, CommandError>;

/// Commands that an entity takes from other nodes; derived from `#[entity(commands(...))]`.
pub struct Accepting<E> {
    pub(crate) known: Vec<(Text, Accept)>,
    entity: PhantomData<fn() -> E>,
}

impl<E: Entity> Accepting<E> {
    pub(crate) fn nothing() -> Self {
        Self {
            known: Vec::new(),
            entity: PhantomData,
        }
    }

    /// And this command.
    pub fn and<C: Command>(&mut self)
    where
        E: Decide<C>,
    {
        let accept: Accept = |entity, body, envelope| {
            let command = C::decode(body).map_err(crate::owner::not_json)?;
            let (work, answer) = Single::<E, C>::new(entity, command, envelope);
            Ok((Box::new(work), Box::pin(told(answer))))
        };
        self.known.push((Text::from_static(C::NAME), accept));
    }
}

type Told<Reply, Rejection> = Result<(Reply, Offset), SendError<Rejection>>;

/// The answer to a typed command, to be sent back.
pub(crate) async fn told<Reply: Serialize, Rejection: Serialize>(
    answer: oneshot::Receiver<Told<Reply, Rejection>>,
) -> Outcome {
    let closed = Err(SendError::Failed(CommandError::Closed));
    let done = |body: Result<Bytes, CommandError>, rejected, offset| match body {
        Ok(body) => Outcome::Done {
            body,
            rejected,
            offset,
        },
        Err(error) => Outcome::Failed(error),
    };
    match answer.await.unwrap_or(closed) {
        Ok((reply, offset)) => done(to_json(&reply), false, offset),
        Err(SendError::Rejected(rejection)) => done(to_json(&rejection), true, Offset(0)),
        Err(SendError::Failed(error)) => Outcome::Failed(error),
    }
}

/// Makes the work of a request again.
fn work_of(node: &Node, request: Request) -> Result<Carried, CommandError> {
    let envelope = request.envelope;
    match request.what {
        What::Command { entity, name, body } => {
            let kind = node.registry.of(&entity);
            let accept = kind.accepts.iter().find(|(known, _)| *known == name);
            let (_, accept) = accept.ok_or_else(|| not_carried(&entity.to_string(), &name))?;
            accept(entity, &body, envelope)
        }
        What::Together { name, body } => {
            let accept = node.registry.together(&name);
            let accept = accept.ok_or_else(|| not_carried("its members", &name))?;
            accept(&body, envelope)
        }
        What::Append {
            entity,
            events,
            expected,
            condition,
            statements,
        } => {
            let append = Append {
                entity,
                events,
                expected,
                condition,
                statements,
            };
            let (work, answer) = append.into_work(envelope)?;
            let outcome = async move {
                match answer.await.unwrap_or(Err(CommandError::Closed)) {
                    Ok((version, offset)) => Outcome::Done {
                        body: Bytes::from(version.to_string()),
                        rejected: false,
                        offset,
                    },
                    Err(error) => Outcome::Failed(error),
                }
            };
            Ok((Box::new(work), Box::pin(outcome)))
        }
        What::Saga { entity, input } => {
            let definitions = node.sagas.get(&entity.kind[..]).cloned();
            let definitions =
                definitions.ok_or_else(|| CommandError::UnknownEntity(entity.kind.to_string()))?;
            let input = serde_json::from_slice(&input).map_err(crate::owner::not_json)?;
            let world = node.world();
            let (work, answer) = SagaWork::new(definitions, entity, input, envelope, world);
            let outcome = async move {
                let closed = Err(SendError::Failed(CommandError::Closed));
                let (rejection, offset) = match answer.await.unwrap_or(closed) {
                    Ok(offset) => (None, offset),
                    Err(SendError::Rejected(rejection)) => (Some(rejection), Offset(0)),
                    Err(SendError::Failed(error)) => return Outcome::Failed(error),
                };
                let rejected = rejection.is_some();
                match to_json(&rejection) {
                    Ok(body) => Outcome::Done {
                        body,
                        rejected,
                        offset,
                    },
                    Err(error) => Outcome::Failed(error),
                }
            };
            Ok((Box::new(work), Box::pin(outcome)))
        }
        What::Look {
            entity,
            strength,
            beyond,
        } => {
            let (work, answer) = Shown::new(node.registry.of(&entity), entity, strength, beyond);
            let outcome = async move {
                match answer.await.unwrap_or(Err(CommandError::Closed)) {
                    Ok((state, version, offset)) => Outcome::State {
                        state,
                        version,
                        offset,
                    },
                    Err(error) => Outcome::Failed(error),
                }
            };
            Ok((Box::new(work), Box::pin(outcome)))
        }
        // Asked without work for an owner's loop.
        What::Survey(_) | What::Rows(_) | What::History { .. } => Err(CommandError::Closed),
    }
}

/// What is asked of the node itself.
fn question(node: &Node, request: &Request) -> Option<BoxFuture<'static, Outcome>> {
    match &request.what {
        What::Survey(asked) => {
            let source = node.source.clone();
            let (at, asked) = (request.partition, asked.clone());
            Some(Box::pin(async move {
                match source.answer(at, asked).await {
                    Ok(page) => Outcome::Surveyed(page),
                    Err(error) => Outcome::Failed(error),
                }
            }))
        }
        What::Rows(asked) => Some(node.rows_here(asked.clone())),
        What::History {
            entity,
            after,
            limit,
        } => {
            let (engine, entity) = (node.engine.clone(), entity.clone());
            Some(Box::pin(history_here(engine, entity, *after, *limit)))
        }
        _ => None,
    }
}

fn not_carried(entity: &str, command: &str) -> CommandError {
    CommandError::NotCarried {
        entity: entity.to_owned(),
        command: command.to_owned(),
    }
}

/// Answers another node's request.
pub(crate) fn receive(node: &Node, request: &[u8]) -> BoxFuture<'static, Bytes> {
    let heard = Arc::new(OnceLock::new());
    let bytes = request.len();
    let begun = decode::<Request>(request).and_then(|mut request| {
        let partition = request.partition;
        let mine = node
            .router
            .remote()
            .is_none_or(|remote| remote.duty(partition) == Duty::Own);
        if !mine && !request.relayed && !request.what.is_for_anyone() {
            return Ok(None);
        }
        if let Some(outcome) = question(node, &request) {
            return Ok(Some(outcome));
        }
        if request.hears {
            request.envelope.heard = Some(heard.clone());
        }
        let (work, outcome) = work_of(node, request)?;
        node.router.submit_sized(partition, work, Some(bytes));
        Ok(Some(outcome))
    });
    Box::pin(async move {
        let outcome = match begun {
            Ok(Some(outcome)) => outcome.await,
            Ok(None) => Outcome::Elsewhere,
            Err(error) => Outcome::Failed(error),
        };
        let heard = heard.get().cloned();
        let response = encode(&Response { outcome, heard });
        response.unwrap_or_default()
    })
}

/// Keeps registered commands over several entities apart from those of one.
pub(crate) type AcceptTogether = fn(&[u8], Envelope) -> Result<Carried, CommandError>;

impl Registry {
    fn together(&self, name: &str) -> Option<AcceptTogether> {
        let known = self.together.iter().find(|(known, _)| &known[..] == name);
        known.map(|(_, accept)| *accept)
    }
}
