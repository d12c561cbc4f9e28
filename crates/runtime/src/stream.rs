//! Streams without code: raw appends and reads, through the same owner as every command.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use everfold_engine::engine::{Parameter, ReadError, Statement};
use everfold_engine::record::{JSON, Portable};
use everfold_engine::{Bytes, EntityKey, Offset, Record, Text, Uuid};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::boundary::{BoundaryIndex, Condition};
use crate::error::CommandError;
use crate::event::{DecodeError, Event};
use crate::node::Node;
use crate::owner::{Answer, Decided, Desk, Draft, Envelope, Residents, Ruling, Sent, Work};
use crate::owner::{command_digest, draft, to_json};
use crate::remote::What;
use crate::sending::Sending;

/// An event to append as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        let draft = draft(EntityKey::new("", ""), event)?;
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

    fn write(&self, parts: &mut Parts) {
        parts.part(self.id.as_ref().map_or(&[], |id| id.as_bytes()));
        parts.part(self.event_type.as_bytes());
        parts.number(u64::from(self.schema_version));
        parts.number(self.labels.len() as u64);
        for (name, value) in &self.labels {
            parts.part(name.as_bytes());
            parts.part(value.as_bytes());
        }
        parts.part(self.content_type.as_bytes());
        parts.part(&self.metadata);
        parts.part(&self.payload);
    }
}

/// Values written one after the other so that no two lists of them give the same bytes.
#[derive(Default)]
pub(crate) struct Parts {
    bytes: Vec<u8>,
}

impl Parts {
    pub(crate) fn number(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    pub(crate) fn part(&mut self, part: &[u8]) {
        self.number(part.len() as u64);
        self.bytes.extend_from_slice(part);
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// What must be true of a stream for an append to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Appends events when it is awaited: all of them or none. Replies with the stream's new
    /// version; fails with [`CommandError::Conflict`] if the stream is not as expected.
    pub fn append(&self, events: Vec<NewEvent>, expected: Expected) -> Sending<Append> {
        let append = Append {
            entity: self.entity.clone(),
            events,
            expected,
            condition: None,
            statements: Vec::new(),
        };
        Sending::new(&self.node.router, append)
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
pub struct Append {
    pub(crate) entity: EntityKey,
    pub(crate) events: Vec<NewEvent>,
    pub(crate) expected: Expected,
    pub(crate) condition: Option<Condition>,
    pub(crate) statements: Vec<Statement>,
}

impl Sending<Append> {
    /// And a table beside the log changes with the events; see
    /// [`Emit::beside`](crate::Emit::beside).
    pub fn beside(mut self, statement: Statement) -> Self {
        self.what.statements.push(statement);
        self
    }
}

impl Append {
    /// The work, after a look for mistakes.
    pub(crate) fn into_work(self, envelope: Envelope) -> Result<Submitted, CommandError> {
        self.check()?;
        let (answer, receiver) = oneshot::channel();
        let work = Appending {
            envelope,
            entity: [self.entity],
            events: self.events,
            expected: self.expected,
            condition: self.condition,
            statements: self.statements,
            version: 0,
            answer,
        };
        Ok((work, receiver))
    }

    fn check(&self) -> Result<(), CommandError> {
        const LONGEST_NAME: usize = 512;
        self.entity.check()?;
        if self.events.is_empty() {
            let reason = "an append needs at least one event";
            return Err(CommandError::Conflict(reason.into()));
        }
        let longest = self.events.iter().flat_map(|event| {
            let names = [&event.event_type, &event.content_type];
            names.map(|name| name.len())
        });
        match longest.max() {
            Some(bytes) if bytes > LONGEST_NAME => Err(CommandError::TooLarge(format!(
                "an event type or content type of {bytes} bytes, the limit is {LONGEST_NAME}"
            ))),
            _ => Ok(()),
        }
    }
}

impl IntoFuture for Sending<Append> {
    type Output = Result<Sent<u64>, CommandError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let (router, append) = (self.router, self.what);
        let partition = router.partition(&append.entity.id);
        let submitted = append.into_work(self.envelope).map(|(work, answer)| {
            router.submit(partition, Box::new(work));
            answer
        });
        Box::pin(async move {
            let (version, offset) = submitted?.await.unwrap_or(Err(CommandError::Closed))?;
            Ok(Sent::new(version, router.position(partition, offset)))
        })
    }
}

/// What an append was answered: the stream's version, and how far the log reaches with it.
type Appended = Result<(u64, Offset), CommandError>;
pub(crate) type Submitted = (Appending, oneshot::Receiver<Appended>);

pub(crate) struct Appending {
    envelope: Envelope,
    entity: [EntityKey; 1],
    events: Vec<NewEvent>,
    expected: Expected,
    condition: Option<Condition>,
    statements: Vec<Statement>,
    version: u64,
    answer: oneshot::Sender<Appended>,
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

fn write(statement: &Statement, parts: &mut Parts) {
    parts.part(statement.text.as_bytes());
    parts.number(statement.parameters.len() as u64);
    for parameter in &statement.parameters {
        let mut put = |kind, value: &[u8]| {
            parts.number(kind);
            parts.part(value);
        };
        match parameter {
            Parameter::Null => put(0, &[]),
            Parameter::Bool(value) => put(1, &[u8::from(*value)]),
            Parameter::Integer(value) => put(2, &value.to_le_bytes()),
            Parameter::Float(value) => put(3, &value.to_le_bytes()),
            Parameter::Text(value) => put(4, value.as_bytes()),
            Parameter::Bytes(value) => put(5, value),
            Parameter::Time(value) => put(6, &value.0.to_le_bytes()),
            Parameter::Uuid(value) => put(7, value.as_bytes()),
        }
    }
}

impl Work for Appending {
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    fn carried(&self) -> Result<What, CommandError> {
        Ok(What::Append {
            entity: self.entity[0].clone(),
            events: self.events.clone(),
            expected: self.expected,
            condition: self.condition.clone(),
            statements: self.statements.clone(),
        })
    }

    fn entities(&self) -> &[EntityKey] {
        &self.entity
    }

    fn digest(&self) -> Result<u128, CommandError> {
        let mut parts = Parts::default();
        match self.expected {
            Expected::Any => parts.number(0),
            Expected::Nothing => parts.number(1),
            Expected::Something => parts.number(2),
            Expected::Version(version) => {
                parts.number(3);
                parts.number(version);
            }
        }
        parts.number(u64::from(self.condition.is_some()));
        if let Some(condition) = &self.condition {
            condition.write(&mut parts);
        }
        parts.number(self.events.len() as u64);
        self.events.iter().for_each(|event| event.write(&mut parts));
        self.statements.iter().for_each(|it| write(it, &mut parts));
        Ok(command_digest("append", &self.entity, &parts.bytes))
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
            check(&self.portable(event)).map_err(|error| match error {
                // A later build knows it, perhaps.
                DecodeError::NewerVersion { .. } => CommandError::NewerBuild {
                    entity: key.to_string(),
                    reason: error.to_string(),
                },
                _ => CommandError::Encoding(format!("{} refuses the event: {error}", key.kind)),
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
        Ok(Ruling::Decided(Decided {
            drafts,
            statements: self.statements.clone(),
            reply,
            ..Decided::default()
        }))
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
