//! Reads of entities in three strengths, and waiting for a state.

use std::marker::PhantomData;

use everfold_engine::{EntityKey, Offset};
use tokio::sync::oneshot;

use super::work::{Answer, Desk, Envelope, Ruling, Work};
use crate::error::CommandError;
use crate::owner::Residents;

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strength {
    /// Ownership is proven after the question arrived.
    Linearizable,
    /// At least what the log had at this offset; ownership is proven if this node has not come so
    /// far, for then another node has written it.
    After(Offset),
    /// Whatever this node has; durable, but perhaps not the newest.
    Eventual,
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
                fenced: match self.strength {
                    Strength::Linearizable => true,
                    Strength::After(offset) => desk.durable < offset,
                    Strength::Eventual => false,
                },
            },
            None => Ruling::Wait,
        })
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
