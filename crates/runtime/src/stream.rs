//! Streams without code: raw appends and reads, through the same owner as every command.

use std::sync::Arc;

use everfold_engine::engine::ReadError;
use everfold_engine::record::{JSON, Portable};
use everfold_engine::{Bytes, EntityKey, Offset, Record, Text, Uuid};
use tokio::sync::oneshot;

use crate::boundary::{BoundaryIndex, Condition};
use crate::error::CommandError;
use crate::event::Event;
use crate::node::Node;
use crate::owner::{Answer, Desk, Draft, Envelope, Residents, Router, Ruling, Sent, Work};
use crate::owner::{command_digest, draft, to_json};

/// An event to append as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// The event's id; drawn if none is given.
    pub id: Option<Uuid>,
    /// The name of its type.
    pub event_type: Text,
    /// The version of its schema, from 1.
    pub schema_version: u32,
    /// Names and values to find it by; no personal data.
    pub labels: Vec<(Text, Text)>,
    /// Media type of the payload.
    pub content_type: Text,
    /// Opaque bytes beside the payload.
    pub metadata: Bytes,
    /// Comes back bit for bit.
    pub payload: Bytes,
}

impl NewEvent {
    /// A JSON event without labels.
    pub fn json(event_type: impl Into<Text>, payload: impl Into<Bytes>) -> Self {
        Self {
            id: None,
            event_type: event_type.into(),
            schema_version: 1,
            labels: Vec::new(),
            content_type: Text::from_static(JSON),
            metadata: Bytes::new(),
            payload: payload.into(),
        }
    }

    /// A typed event with its labels.
    ///
    /// # Errors
    /// [`CommandError::Encoding`] if a field cannot be written as JSON.
    pub fn of<V: Event>(event: &V) -> Result<Self, CommandError> {
        let draft = draft(&EntityKey::new("", ""), event)?;
        Ok(Self {
            id: None,
            event_type: draft.event_type,
            schema_version: draft.schema_version,
            labels: draft.labels,
            content_type: draft.content_type,
            metadata: draft.metadata,
            payload: draft.payload,
        })
    }

    /// The same with a label more.
    #[must_use]
    pub fn label(mut self, name: impl Into<Text>, value: impl Into<Text>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }
}

/// What must be true of a stream for an append to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    Any,
    /// It has no events.
    Nothing,
    /// It has events.
    Something,
    /// Its last event has this version.
    Version(u64),
}

/// A stream of a node.
pub struct StreamRef<'a> {
    pub(crate) node: &'a Node,
    pub(crate) entity: EntityKey,
}

impl StreamRef<'_> {
    /// Appends events: all of them or none. Replies with the stream's new version. A command id
    /// makes repeats recognisable.
    ///
    /// # Errors
    /// [`CommandError::Conflict`] if the stream is not as expected.
    pub async fn append(
        &self,
        events: Vec<NewEvent>,
        expected: Expected,
        id: Option<Uuid>,
    ) -> Result<Sent<u64>, CommandError> {
        let envelope = Envelope {
            id,
            ..Envelope::default()
        };
        let entity = self.entity.clone();
        Append {
            entity,
            events,
            expected,
            condition: None,
            envelope,
        }
        .send(&self.node.router)
        .await
    }

    /// Durable events with a version above `after`, at most `limit`.
    ///
    /// # Errors
    /// [`ReadError`] if the log cannot be read.
    pub async fn read(&self, after: u64, limit: usize) -> Result<Vec<Arc<Record>>, ReadError> {
        let partition = self.node.router.partition(&self.entity.id);
        self.node
            .engine
            .read_entity(partition, &self.entity, after, limit)
            .await
    }
}

/// An append of raw events.
pub(crate) struct Append {
    pub(crate) entity: EntityKey,
    pub(crate) events: Vec<NewEvent>,
    pub(crate) expected: Expected,
    pub(crate) condition: Option<Condition>,
    pub(crate) envelope: Envelope,
}

impl Append {
    pub(crate) async fn send(self, router: &Router) -> Result<Sent<u64>, CommandError> {
        self.entity.check()?;
        if self.events.is_empty() {
            return Err(CommandError::Conflict(
                "an append needs at least one event".into(),
            ));
        }
        let partition = router.partition(&self.entity.id);
        let (answer, receiver) = oneshot::channel();
        let work = Appending {
            envelope: self.envelope,
            entity: [self.entity],
            events: self.events,
            expected: self.expected,
            condition: self.condition,
            version: 0,
            answer,
        };
        router.submit(partition, Box::new(work));
        let (version, offset) = receiver.await.unwrap_or(Err(CommandError::Closed))?;
        Ok(Sent::new(version, router.position(partition, offset)))
    }
}

struct Appending {
    envelope: Envelope,
    entity: [EntityKey; 1],
    events: Vec<NewEvent>,
    expected: Expected,
    condition: Option<Condition>,
    version: u64,
    answer: oneshot::Sender<Result<(u64, Offset), CommandError>>,
}

impl Appending {
    fn portable(&self, event: &NewEvent) -> Portable {
        Portable {
            schema_version: event.schema_version,
            labels: event.labels.clone(),
            content_type: event.content_type.clone(),
            payload: event.payload.clone(),
            ..Portable::new(self.entity[0].clone(), event.event_type.clone())
        }
    }
}

impl Work for Appending {
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn entities(&self) -> &[EntityKey] {
        &self.entity
    }

    fn digest(&self) -> Result<u128, CommandError> {
        let mut body = Vec::new();
        for event in &self.events {
            body.extend_from_slice(event.event_type.as_bytes());
            body.extend_from_slice(&event.payload);
            body.extend_from_slice(&event.metadata);
        }
        Ok(command_digest("append", &self.entity, &body))
    }

    fn decide(&mut self, desk: &Desk<'_>) -> Result<Ruling, CommandError> {
        let key = &self.entity[0];
        let resident = desk.residents.get(key)?;
        let version = resident.version;
        let holds = match self.expected {
            Expected::Any => true,
            Expected::Nothing => version == 0,
            Expected::Something => version > 0,
            Expected::Version(expected) => version == expected,
        };
        if !holds {
            let expected = self.expected;
            let reason = format!("{key} is at version {version}, expected was {expected:?}");
            return Err(CommandError::Conflict(reason));
        }
        if let Some(condition) = &self.condition {
            let (index, _) = desk.residents.state::<BoundaryIndex>(key)?;
            if let Some(version) = index.matching(&condition.query, condition.marker).first() {
                let reason = format!("version {version} of {key} matches the condition's query");
                return Err(CommandError::Conflict(reason));
            }
        }
        let check = resident.kind.check;
        let mut drafts = Vec::with_capacity(self.events.len());
        for event in &self.events {
            check(&self.portable(event)).map_err(|error| {
                CommandError::Encoding(format!("{} refuses the event: {error}", key.kind))
            })?;
            drafts.push(Draft {
                entity: key.clone(),
                event_id: event.id,
                event_type: event.event_type.clone(),
                schema_version: event.schema_version,
                labels: event.labels.clone(),
                content_type: event.content_type.clone(),
                metadata: event.metadata.clone(),
                payload: event.payload.clone(),
            });
        }
        self.version = version + drafts.len() as u64;
        let reply = self
            .envelope
            .id
            .is_some()
            .then(|| to_json(&self.version))
            .transpose()?;
        Ok(Ruling::Decided {
            drafts,
            rejected: false,
            reply,
        })
    }

    fn evolve(&mut self, residents: &mut Residents) -> Result<(), CommandError> {
        let key = &self.entity[0];
        let resident = residents.get_mut(key)?;
        for event in &self.events {
            let portable = self.portable(event);
            let evolve = resident.kind.evolve;
            let state = resident.state.as_mut();
            let folded = crate::owner::guard(key, || evolve(state, &portable))?;
            folded.map_err(|error| CommandError::Encoding(error.to_string()))?;
        }
        Ok(())
    }

    fn answer(self: Box<Self>, answer: Answer) {
        let result = match answer {
            Answer::Durable(offset) => Ok((self.version, offset)),
            Answer::Again(reply, offset) => match serde_json::from_slice(&reply.body) {
                Ok(version) => Ok((version, offset)),
                Err(error) => Err(CommandError::Unknown(error.to_string())),
            },
            Answer::Failed(error) => Err(error),
        };
        let _ = self.answer.send(result);
    }
}
