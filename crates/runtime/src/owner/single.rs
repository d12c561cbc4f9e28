//! A command to one entity.

use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use everfold_engine::record::JSON;
use everfold_engine::{Bytes, EntityKey, Offset, Text};
use serde::Serialize;
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_128;

use super::work::{Answer, Decided, Desk, Draft, Envelope, Ruling, Work};
use crate::decision::{Context, Verdict};
use crate::entity::{Command, Decide};
use crate::error::{CommandError, SendError};
use crate::event::Event;
use crate::owner::Residents;
use crate::remote::What;

/// What a typed command is answered: a reply and how far the log reaches with it.
pub(crate) type Answered<E, C> =
    Result<(<E as Decide<C>>::Reply, Offset), SendError<<E as Decide<C>>::Rejection>>;

pub(crate) struct Single<E: Decide<C>, C: Command> {
    envelope: Envelope,
    entity: [EntityKey; 1],
    command: C,
    events: Vec<E::Event>,
    verdict: Option<Result<E::Reply, E::Rejection>>,
    answer: oneshot::Sender<Answered<E, C>>,
    types: PhantomData<fn() -> E>,
}

impl<E: Decide<C>, C: Command> Single<E, C> {
    pub(crate) fn new(
        entity: EntityKey,
        command: C,
        envelope: Envelope,
    ) -> (Self, oneshot::Receiver<Answered<E, C>>) {
        let (answer, receiver) = oneshot::channel();
        let single = Self {
            envelope,
            entity: [entity],
            command,
            events: Vec::new(),
            verdict: None,
            answer,
            types: PhantomData,
        };
        (single, receiver)
    }
}

impl<E: Decide<C>, C: Command> Work for Single<E, C> {
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    fn carried(&self) -> Result<What, CommandError> {
        let mut body = Vec::new();
        self.command.encode(&mut body).map_err(not_json)?;
        Ok(What::Command {
            entity: self.entity[0].clone(),
            name: Text::from_static(C::NAME),
            body: body.into(),
        })
    }

    fn entities(&self) -> &[EntityKey] {
        &self.entity
    }

    fn digest(&self) -> Result<u128, CommandError> {
        digest_of(&self.command, &self.entity)
    }

    fn decide(&mut self, desk: &Desk<'_>) -> Result<Ruling, CommandError> {
        let key = &self.entity[0];
        let (state, version) = desk.residents.state::<E>(key)?;
        let context = context(desk, key, version, &self.envelope);
        let verdict = guard(key, || state.decide(&self.command, &context))?;
        let remembered = self.envelope.id.is_some();
        match verdict {
            Verdict::Accepted {
                events,
                statements,
                reply,
            } => {
                let drafts = events
                    .iter()
                    .map(|event| draft(key.clone(), event))
                    .collect::<Result<_, _>>()?;
                let body = remembered.then(|| to_json(&reply)).transpose()?;
                self.events = events;
                self.verdict = Some(Ok(reply));
                Ok(Ruling::Decided(Decided {
                    drafts,
                    statements,
                    rejected: false,
                    reply: body,
                }))
            }
            Verdict::Rejected(rejection) => {
                let body = remembered.then(|| to_json(&rejection)).transpose()?;
                self.events.clear();
                self.verdict = Some(Err(rejection));
                Ok(Ruling::Decided(Decided {
                    rejected: true,
                    reply: body,
                    ..Decided::default()
                }))
            }
        }
    }

    fn evolve(&mut self, residents: &mut Residents) -> Result<(), CommandError> {
        let key = &self.entity[0];
        let state = residents.state_mut::<E>(key)?;
        guard(key, || {
            self.events.drain(..).for_each(|event| state.evolve(&event))
        })
    }

    fn answer(self: Box<Self>, answer: Answer) {
        let result = match (answer, self.verdict) {
            (Answer::Durable(offset), Some(Ok(reply))) => Ok((reply, offset)),
            (Answer::Durable(_), Some(Err(rejection))) => Err(SendError::Rejected(rejection)),
            (Answer::Durable(_), None) => Err(SendError::Failed(CommandError::Closed)),
            (Answer::Again(reply, offset), _) => {
                repeated::<E, C>(&reply.body, reply.rejected, offset)
            }
            (Answer::Failed(error), _) => Err(SendError::Failed(error)),
        };
        let _ = self.answer.send(result);
    }
}

fn repeated<E: Decide<C>, C: Command>(
    body: &[u8],
    rejected: bool,
    offset: Offset,
) -> Answered<E, C> {
    let failed = |error: serde_json::Error| {
        let reason = format!("it was done before, but its answer cannot be read: {error}");
        SendError::Failed(CommandError::Unknown(reason))
    };
    if rejected {
        Err(SendError::Rejected(
            serde_json::from_slice(body).map_err(failed)?,
        ))
    } else {
        Ok((serde_json::from_slice(body).map_err(failed)?, offset))
    }
}

/// The digest that tells commands of one id apart.
/// What tells a repeated command from another one with the same id.
pub(crate) fn digest_of<C: Command>(
    command: &C,
    entities: &[EntityKey],
) -> Result<u128, CommandError> {
    with_scratch(|bytes| {
        put_identity(bytes, C::NAME, entities);
        command.encode(bytes).map_err(not_json)?;
        Ok(xxh3_128(bytes))
    })
}

pub(crate) fn command_digest(name: &str, entities: &[EntityKey], body: &[u8]) -> u128 {
    with_scratch(|bytes| {
        put_identity(bytes, name, entities);
        bytes.extend_from_slice(body);
        xxh3_128(bytes)
    })
}

fn put_identity(bytes: &mut Vec<u8>, name: &str, entities: &[EntityKey]) {
    for entity in entities {
        for part in [&entity.tenant, &entity.kind, &entity.id] {
            bytes.extend_from_slice(part.as_bytes());
            bytes.push(0);
        }
    }
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
}

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends an empty buffer that keeps its memory: what is encoded once per command would otherwise
/// grow a new one step by step.
fn with_scratch<T>(with: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    const KEPT: usize = 1 << 20;
    let mut bytes = SCRATCH.take();
    bytes.clear();
    let result = with(&mut bytes);
    if bytes.capacity() <= KEPT {
        SCRATCH.set(bytes);
    }
    result
}

/// What a decision on `entity` may know.
pub(crate) fn context(
    desk: &Desk<'_>,
    entity: &EntityKey,
    version: u64,
    envelope: &Envelope,
) -> Context {
    Context {
        entity: entity.id.clone(),
        version,
        effective: envelope.effective.unwrap_or(desk.recorded),
        now: desk.now,
        principal: envelope.principal.clone(),
        seed: envelope.id.unwrap_or(desk.seed),
    }
}

/// Runs application code; a panic fails this command alone.
pub(crate) fn guard<T>(entity: &EntityKey, code: impl FnOnce() -> T) -> Result<T, CommandError> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|_| CommandError::Panicked(entity.to_string()))
}

/// An event of `entity`, encoded.
pub(crate) fn draft<V: Event>(entity: EntityKey, event: &V) -> Result<Draft, CommandError> {
    let payload = with_scratch(|bytes| {
        event.encode(bytes)?;
        Ok(Bytes::copy_from_slice(bytes))
    });
    let payload = payload.map_err(not_json)?;
    let labels = event.labels();
    Ok(Draft {
        entity,
        event_id: None,
        event_type: Text::from_static(event.event_type()),
        schema_version: event.schema_version(),
        labels: labels
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        content_type: Text::from_static(JSON),
        metadata: Bytes::new(),
        payload,
    })
}

pub(crate) fn to_json(value: &impl Serialize) -> Result<Bytes, CommandError> {
    with_scratch(|bytes| {
        serde_json::to_writer(&mut *bytes, value).map_err(not_json)?;
        Ok(Bytes::copy_from_slice(bytes))
    })
}

pub(crate) fn not_json(error: serde_json::Error) -> CommandError {
    CommandError::Encoding(error.to_string())
}
