//! A baseline: an entity's state as a record, to stand for the events up to its version.

use everfold_engine::record::{Kind, Portable};
use everfold_engine::{Bytes, EntityKey, Offset, Text, Timestamp};
use tokio::sync::oneshot;

use super::serve::Serving;
use super::work::{Answer, Desk, Envelope, Ruling, Work};
use crate::error::CommandError;
use crate::owner::Residents;
use crate::remote::What;

/// Has the owner of an entity append its baseline.
pub(crate) struct Stand {
    envelope: Envelope,
    entity: [EntityKey; 1],
    answer: Option<oneshot::Sender<Result<Offset, CommandError>>>,
}

impl Stand {
    pub(crate) fn new(
        entity: EntityKey,
    ) -> (Self, oneshot::Receiver<Result<Offset, CommandError>>) {
        let (answer, receiver) = oneshot::channel();
        let stand = Self {
            envelope: Envelope::default(),
            entity: [entity],
            answer: Some(answer),
        };
        (stand, receiver)
    }
}

impl Work for Stand {
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    fn carried(&self) -> Result<What, CommandError> {
        Err(CommandError::NotCarried {
            entity: self.entity[0].to_string(),
            command: "its baseline".to_owned(),
        })
    }

    fn entities(&self) -> &[EntityKey] {
        &self.entity
    }

    fn digest(&self) -> Result<u128, CommandError> {
        Ok(0)
    }

    fn decide(&mut self, desk: &Desk<'_>) -> Result<Ruling, CommandError> {
        let resident = desk.residents.get(&self.entity[0])?;
        let refused = |reason: String| CommandError::History {
            entity: self.entity[0].to_string(),
            reason,
        };
        if resident.version == 0 {
            return Err(refused("it has no events to stand for".into()));
        }
        if resident.kind.decode_state.is_none() {
            return Err(refused(
                "a boundary is made of its events; no state stands for them".into(),
            ));
        }
        let mut state = Vec::new();
        (resident.kind.encode_state)(resident.state.as_ref(), &mut state)
            .map_err(|error| refused(format!("its state cannot be written down: {error}")))?;
        Ok(Ruling::Baseline {
            state: state.into(),
            version: resident.version,
        })
    }

    fn evolve(&mut self, _: &mut Residents) -> Result<(), CommandError> {
        Ok(())
    }

    fn is_abandoned(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn answer(mut self: Box<Self>, answer: Answer) {
        let result = match answer {
            Answer::Durable(offset) => Ok(offset),
            Answer::Failed(error) => Err(error),
            Answer::Again(..) => Err(CommandError::Closed),
        };
        if let Some(sender) = self.answer.take() {
            let _ = sender.send(result);
        }
    }
}

impl Serving {
    /// Puts a baseline into the open batch; gives the work back if there is no room.
    pub(super) fn take_baseline(
        &mut self,
        work: Box<dyn Work>,
        state: Bytes,
        version: u64,
        now: Timestamp,
    ) -> Result<(), Box<dyn Work>> {
        let bytes = state.len();
        if bytes > self.limits.event_bytes {
            let limit = self.limits.event_bytes;
            let reason = format!("a state of {bytes} bytes, the limit is {limit}");
            work.answer(Answer::Failed(CommandError::TooLarge(reason)));
            return Ok(());
        }
        let over = self.open.bytes + bytes > self.limits.batch_bytes
            || self.open.records.len() >= self.limits.batch_records;
        if !self.open.records.is_empty() && over {
            return Err(work);
        }
        let entity = work.entities().first().cloned();
        let portable = Portable {
            event_id: everfold_engine::world::new_id(self.world.as_ref()),
            effective: self.next_stamp(work.envelope(), now).time(),
            payload: state,
            // The counters of events that it stands for are used up, also where these are gone.
            context: vec![(self.engine.identity().origin(), self.clock.counter)],
            ..Portable::new(
                entity.unwrap_or_else(|| EntityKey::new("", "")),
                Text::from_static("baseline"),
            )
        };
        self.append_record(
            Kind::Baseline,
            portable,
            version,
            None,
            work.envelope(),
            now,
        );
        self.open.bytes += bytes;
        self.push(work, None, false);
        Ok(())
    }
}
