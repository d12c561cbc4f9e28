//! What nodes say to each other about work. New variants and fields come last.

use everfold_engine::engine::Statement;
use everfold_engine::slot::Partition;
use everfold_engine::{Bytes, EntityKey, Offset, Text};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::boundary::Condition;
use crate::error::CommandError;
use crate::owner::{Envelope, Heard, Strength};
use crate::query::{Asked, Page, RowsAsked, RowsPage, Sheet};
use crate::stream::{Expected, NewEvent};

/// A piece of work, without the code that does it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum What {
    Command {
        entity: EntityKey,
        name: Text,
        body: Bytes,
    },
    Together {
        name: Text,
        body: Bytes,
    },
    Append {
        entity: EntityKey,
        events: Vec<NewEvent>,
        expected: Expected,
        condition: Option<Condition>,
        statements: Vec<Statement>,
    },
    /// To an instance of a saga; the input as JSON.
    Saga {
        entity: EntityKey,
        input: Bytes,
    },
    /// For the state of an entity, once its version is above `beyond`, if one is given.
    Look {
        entity: EntityKey,
        strength: Strength,
        beyond: Option<u64>,
    },
    /// For entities of a partition, by range and filter.
    Survey(Asked),
    /// For rows of a view; of any node.
    Rows(RowsAsked),
    /// For events of an entity; of any node.
    History {
        entity: EntityKey,
        after: u64,
        limit: u32,
    },
}

impl What {
    /// How much of it there is, roughly.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Command { body, .. } | Self::Together { body, .. } => body.len(),
            Self::Append {
                events, statements, ..
            } => {
                let of_event = |event: &NewEvent| event.payload.len() + event.metadata.len();
                let of_statement = |statement: &Statement| statement.text.len();
                let events = events.iter().map(of_event).sum::<usize>();
                events + statements.iter().map(of_statement).sum::<usize>()
            }
            Self::Saga { input, .. } => input.len(),
            Self::Look { .. } | Self::Survey(_) | Self::Rows(_) | Self::History { .. } => 0,
        }
    }

    /// Whether it may change something.
    pub(crate) fn is_command(&self) -> bool {
        match self {
            Self::Command { .. }
            | Self::Together { .. }
            | Self::Append { .. }
            | Self::Saga { .. } => true,
            Self::Look { .. } | Self::Survey(_) | Self::Rows(_) | Self::History { .. } => false,
        }
    }

    /// Whether every node can answer it.
    pub(crate) fn is_for_anyone(&self) -> bool {
        matches!(self, Self::Rows(_) | Self::History { .. })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) partition: Partition,
    pub(crate) envelope: Envelope,
    /// Whether the asker wants to know what the answer rests on.
    pub(crate) hears: bool,
    pub(crate) what: What,
    /// To be passed on by who does not own the partition.
    pub(crate) relayed: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Response {
    pub(crate) outcome: Outcome,
    pub(crate) heard: Option<Heard>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Done {
        body: Bytes,
        rejected: bool,
        offset: Offset,
    },
    State {
        state: Bytes,
        version: u64,
        offset: Offset,
    },
    Failed(CommandError),
    /// Nothing was done: the node does not own the partition.
    Elsewhere,
    Surveyed(Page),
    Rows(RowsPage),
    /// A view is behind a token by so many records.
    Behind(u64),
    UnknownView,
    History(Vec<Sheet>),
}

/// In the form that travels.
pub(crate) fn encode(value: &impl Serialize) -> Result<Bytes, CommandError> {
    let bytes = postcard::to_allocvec(value);
    bytes
        .map(Bytes::from)
        .map_err(|error| CommandError::Encoding(error.to_string()))
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CommandError> {
    postcard::from_bytes(bytes).map_err(|error| {
        CommandError::Encoding(format!("another node's message cannot be read: {error}"))
    })
}
