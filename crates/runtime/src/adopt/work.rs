//! The command that makes a row an entity's beginning.

use std::sync::Arc;

use everfold_engine::{EntityKey, Timestamp};
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_128;

use super::{Adopted, FirstEvents};
use crate::entity::Evolve;
use crate::error::CommandError;
use crate::owner::{
    Answer, Decided, Desk, Envelope, Residents, Ruling, Work, command_digest, draft, guard, to_json,
};
use crate::remote::What;
use crate::stream::Parts;

pub(super) struct Adopting<E: Evolve> {
    envelope: Envelope,
    entity: [EntityKey; 1],
    /// Of table and key. The content is no part of it: a row that has changed between two runs is
    /// still the same row.
    identity: Vec<u8>,
    first: Arc<FirstEvents<E>>,
    adopted: bool,
    answer: oneshot::Sender<Adopted>,
}

impl<E: Evolve> Adopting<E> {
    pub(super) fn new(
        entity: EntityKey,
        first: Arc<FirstEvents<E>>,
        (table, key, now): (&str, &str, Timestamp),
    ) -> (Self, oneshot::Receiver<Adopted>) {
        let mut identity = Parts::default();
        for part in ["adopt", table, key] {
            identity.part(part.as_bytes());
        }
        let identity = identity.into_bytes();
        let id = everfold_engine::name_based_id(xxh3_128(&identity).to_le_bytes());
        let (answer, receiver) = oneshot::channel();
        let work = Self {
            envelope: Envelope {
                id: Some(id),
                issued: Some(now),
                effective: first.effective,
                ..Envelope::default()
            },
            entity: [entity],
            identity,
            first,
            adopted: false,
            answer,
        };
        (work, receiver)
    }
}

impl<E: Evolve> Work for Adopting<E> {
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    fn carried(&self) -> Result<What, CommandError> {
        Err(CommandError::NotCarried {
            entity: self.entity[0].to_string(),
            command: "the adoption of a row".to_owned(),
        })
    }

    fn entities(&self) -> &[EntityKey] {
        &self.entity
    }

    fn digest(&self) -> Result<u128, CommandError> {
        Ok(command_digest("adopt", &self.entity, &self.identity))
    }

    fn decide(&mut self, desk: &Desk<'_>) -> Result<Ruling, CommandError> {
        let key = &self.entity[0];
        let (_, version) = desk.residents.state::<E>(key)?;
        let first = &self.first.events;
        if first.events.is_empty() {
            let reason = format!("{key} cannot begin without an event");
            return Err(CommandError::Conflict(reason));
        }
        self.adopted = version == 0;
        let mut decided = Decided {
            reply: Some(to_json(&self.adopted)?),
            ..Decided::default()
        };
        if self.adopted {
            let drafts = first.events.iter().map(|event| draft(key.clone(), event));
            decided.drafts = drafts.collect::<Result<_, _>>()?;
            decided.statements = first.statements.clone();
        }
        Ok(Ruling::Decided(decided))
    }

    fn evolve(&mut self, residents: &mut Residents) -> Result<(), CommandError> {
        if !self.adopted {
            return Ok(());
        }
        let key = &self.entity[0];
        let state = residents.state_mut::<E>(key)?;
        let events = &self.first.events.events;
        guard(key, || events.iter().for_each(|event| state.evolve(event)))
    }

    fn answer(self: Box<Self>, answer: Answer) {
        let result = match answer {
            Answer::Durable(_) => Ok(self.adopted),
            Answer::Again(reply, _) => serde_json::from_slice(&reply.body)
                .map_err(|error| CommandError::Unknown(error.to_string())),
            Answer::Failed(error) => Err(error),
        };
        let _ = self.answer.send(result);
    }
}
