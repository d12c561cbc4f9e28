//! Reads of entities in three strengths, and waiting for a state.

use std::marker::PhantomData;
use std::sync::Arc;

use everfold_engine::{Bytes, EntityKey, Offset};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::work::{Answer, Desk, Envelope, Ruling, Work};
use crate::error::CommandError;
use crate::owner::Residents;
use crate::remote::What;
use crate::schema::{AnyState, EntityType};

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Strength {
    /// Ownership is proven after the question arrived.
    Linearizable,
    /// At least what the log had at this offset; ownership is proven if this node has not come so
    /// far, for then another node has written it.
    After(Offset),
    /// Whatever this node has; durable, but perhaps not the newest.
    Eventual,
}

impl Strength {
    /// Whether the answer must wait for a proof of ownership, with so much of the log durable.
    pub(crate) fn asks_for_proof(self, durable: Offset) -> bool {
        match self {
            Self::Linearizable => true,
            Self::After(offset) => durable < offset,
            Self::Eventual => false,
        }
    }
}

/// What was looked for, and how far the log reaches with it.
type Seen<T> = Result<(T, Offset), CommandError>;

/// Looks at an entity once `look` gives an answer.
pub(crate) struct Watch<E, T, F> {
    envelope: Envelope,
    entity: [EntityKey; 1],
    strength: Strength,
    look: F,
    seen: Option<T>,
    answer: Option<oneshot::Sender<Seen<T>>>,
    types: PhantomData<fn() -> E>,
}

impl<E, T, F> Watch<E, T, F>
where
    E: 'static,
    T: Send + 'static,
    F: FnMut(&E, u64) -> Option<T> + Send + 'static,
{
    /// `look` is given state and version, and says `None` to be asked again after the next change.
    pub(crate) fn new(
        entity: EntityKey,
        strength: Strength,
        look: F,
    ) -> (Self, oneshot::Receiver<Seen<T>>) {
        let (answer, receiver) = oneshot::channel();
        let watch = Self {
            envelope: Envelope::default(),
            entity: [entity],
            strength,
            look,
            seen: None,
            answer: Some(answer),
            types: PhantomData,
        };
        (watch, receiver)
    }
}

impl<E, T, F> Work for Watch<E, T, F>
where
    E: 'static,
    T: Send + 'static,
    F: FnMut(&E, u64) -> Option<T> + Send + 'static,
{
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    fn carried(&self) -> Result<What, CommandError> {
        Ok(What::Look {
            entity: self.entity[0].clone(),
            strength: self.strength,
            beyond: None,
        })
    }

    fn entities(&self) -> &[EntityKey] {
        &self.entity
    }

    fn digest(&self) -> Result<u128, CommandError> {
        Ok(0)
    }

    fn decide(&mut self, desk: &Desk<'_>) -> Result<Ruling, CommandError> {
        let (state, version) = desk.residents.state::<E>(&self.entity[0])?;
        self.seen = super::guard(&self.entity[0], || (self.look)(state, version))?;
        Ok(match self.seen {
            Some(_) => Ruling::Read {
                fenced: self.strength.asks_for_proof(desk.durable),
            },
            None => Ruling::Wait,
        })
    }

    fn look(&mut self, state: &AnyState, version: u64) -> Result<bool, CommandError> {
        let key = &self.entity[0];
        let state = state.downcast_ref::<E>();
        let state = state.ok_or_else(|| CommandError::UnknownEntity(key.kind.to_string()))?;
        self.seen = super::guard(key, || (self.look)(state, version))?;
        Ok(self.seen.is_some())
    }

    fn evolve(&mut self, _: &mut Residents) -> Result<(), CommandError> {
        Ok(())
    }

    fn is_abandoned(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn answer(mut self: Box<Self>, answer: Answer) {
        let result = match (answer, self.seen.take()) {
            (Answer::Durable(offset), Some(seen)) => Ok((seen, offset)),
            (Answer::Failed(error), _) => Err(error),
            (Answer::Durable(_) | Answer::Again(..), _) => Err(CommandError::Closed),
        };
        if let Some(sender) = self.answer.take() {
            let _ = sender.send(result);
        }
    }
}

/// A state with its version, and how far the log reaches with it.
pub(crate) type StateAt = (Bytes, u64, Offset);

/// Writes down an entity's state for another node, once its version is above what that one has.
pub(crate) struct Shown {
    envelope: Envelope,
    kind: Arc<EntityType>,
    entity: [EntityKey; 1],
    strength: Strength,
    beyond: Option<u64>,
    state: (Bytes, u64),
    answer: Option<oneshot::Sender<Result<StateAt, CommandError>>>,
}

impl Shown {
    pub(crate) fn new(
        kind: Arc<EntityType>,
        entity: EntityKey,
        strength: Strength,
        beyond: Option<u64>,
    ) -> (Self, oneshot::Receiver<Result<StateAt, CommandError>>) {
        let (answer, receiver) = oneshot::channel();
        let shown = Self {
            envelope: Envelope::default(),
            kind,
            entity: [entity],
            strength,
            beyond,
            state: (Bytes::new(), 0),
            answer: Some(answer),
        };
        (shown, receiver)
    }

    fn write_down(&mut self, state: &AnyState, version: u64) -> Result<(), CommandError> {
        let mut bytes = Vec::new();
        let encode = || (self.kind.encode_state)(state, &mut bytes);
        super::guard(&self.entity[0], encode)?.map_err(super::not_json)?;
        self.state = (bytes.into(), version);
        Ok(())
    }
}

impl Work for Shown {
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    fn carried(&self) -> Result<What, CommandError> {
        Ok(What::Look {
            entity: self.entity[0].clone(),
            strength: self.strength,
            beyond: self.beyond,
        })
    }

    fn look(&mut self, state: &AnyState, version: u64) -> Result<bool, CommandError> {
        self.write_down(state, version)?;
        Ok(true)
    }

    fn entities(&self) -> &[EntityKey] {
        &self.entity
    }

    fn digest(&self) -> Result<u128, CommandError> {
        Ok(0)
    }

    fn decide(&mut self, desk: &Desk<'_>) -> Result<Ruling, CommandError> {
        let key = &self.entity[0];
        let resident = desk.residents.get(key)?;
        if self.beyond.is_some_and(|beyond| resident.version <= beyond) {
            return Ok(Ruling::Wait);
        }
        self.write_down(resident.state.as_ref(), resident.version)?;
        Ok(Ruling::Read {
            fenced: self.strength.asks_for_proof(desk.durable),
        })
    }

    fn evolve(&mut self, _: &mut Residents) -> Result<(), CommandError> {
        Ok(())
    }

    fn is_abandoned(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn answer(mut self: Box<Self>, answer: Answer) {
        let (state, version) = std::mem::take(&mut self.state);
        let result = match answer {
            Answer::Durable(offset) => Ok((state, version, offset)),
            Answer::Failed(error) => Err(error),
            Answer::Again(..) => Err(CommandError::Closed),
        };
        if let Some(sender) = self.answer.take() {
            let _ = sender.send(result);
        }
    }
}
