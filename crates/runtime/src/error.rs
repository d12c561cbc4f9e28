//! How commands and queries fail.

use std::time::Duration;

use everfold_engine::Text;
use everfold_engine::engine::ReadError;
use everfold_engine::name::BadName;
use everfold_engine::position::ForeignPosition;
use everfold_engine::slot::Partition;
use serde::{Deserialize, Serialize};

/// A command that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError<Rejection> {
    /// Understood and refused.
    #[error("rejected: {0:?}")]
    Rejected(Rejection),
    /// It could not be processed.
    #[error(transparent)]
    Failed(#[from] CommandError),
}

/// A command that could not be processed.
// The order of the variants is what nodes tell each other: new ones come last.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CommandError {
    /// The entity's name cannot be stored.
    #[error(transparent)]
    BadName(#[from] BadName),
    /// The application has no such entity type.
    #[error("this application has no entity type {0:?}: add `.entity::<...>()`")]
    UnknownEntity(String),
    /// Nothing happened: its events exceed a limit of the log.
    #[error("not done: its events are too large ({0}); send less at once")]
    TooLarge(String),
    /// Nothing happened: a statement that the decision carried failed in the store.
    #[error(
        "not done: a statement for a table beside the log failed: {0}; correct the statement or its data and send the command again"
    )]
    Statement(String),
    /// Nothing happened: the decision carried statements, and the engine keeps no tables.
    #[error(
        "not done: its decision changes tables beside the log, and this engine keeps none; open the application on PostgreSQL (`postgres://...`)"
    )]
    NoTables,
    /// Nothing happened: the store takes no writes now.
    #[error("not done: partition {partition} is unavailable: {reason}; try again later")]
    Unavailable {
        /// The entity's partition.
        partition: Partition,
        /// What the store said.
        reason: String,
    },
    /// Nothing happened: another node owns the entity now.
    #[error("not done: partition {0} has a newer owner; send it there")]
    Fenced(Partition),
    /// It may or may not have happened.
    #[error("it is not known whether it was done: {0}; ask again with the same command id")]
    Unknown(String),
    /// The command id was used for another command.
    #[error("command id {0} was used for another command before; use a new id for a new command")]
    IdReused(everfold_engine::Uuid),
    /// The command id is too old or from the future: whether it was done before is not known.
    #[error(
        "command id {id} lies outside the window in which repeats are recognised ({reason}); use a new id if the command was never sent"
    )]
    IdExpired {
        /// The id.
        id: everfold_engine::Uuid,
        /// Which side of the window.
        reason: Text,
    },
    /// Nothing happened now: a handler's command was finished before, and its answer is forgotten.
    #[error("command {0} of a handler was finished before")]
    Settled(everfold_engine::Uuid),
    /// Nothing happened: the condition on the boundary or the expected version did not hold.
    #[error("not done: {0}; read again and decide anew")]
    Conflict(String),
    /// Nothing happened: the entities of one command live in different partitions.
    #[error(
        "not done: {0} and {1} do not share a {{tag}}, so they cannot change in one command; give their ids the same tag or use a reactor"
    )]
    NotTogether(String, String),
    /// Nothing happened: a stored event cannot be read by this build, so the state is not known.
    #[error("not done: the history of {entity} cannot be read: {reason}")]
    History {
        /// The entity.
        entity: String,
        /// Why.
        reason: String,
    },
    /// Nothing happened: application code panicked.
    #[error("not done: the application panicked while deciding on {0}; see its log")]
    Panicked(String),
    /// Nothing happened: a value cannot be written as JSON.
    #[error("not done: a value cannot be written as JSON: {0}")]
    Encoding(String),
    /// Nothing happened: an instance of a saga keeps to a definition that is not there.
    #[error(
        "version {0} of the saga's definition is not part of the application: add it with `.saga(...)`, then retry"
    )]
    NoDefinition(u32),
    /// What follows from an answer asks for a timer.
    #[error(
        "a timer can be set or cancelled only in the reaction to an event itself, not in what follows from a rejection"
    )]
    MisplacedTimer,
    /// Nothing happened: too much waits already.
    #[error(
        "not done: partition {partition} is overloaded; slow down, and try again in {} ms",
        .retry_after.as_millis()
    )]
    Overloaded {
        /// The entity's partition.
        partition: Partition,
        /// When there is likely to be room, judged by how much waits where it was refused and how fast
        /// that gets done; 10 ms to 5 s.
        retry_after: Duration,
    },
    /// The node is closing or closed.
    #[error("the node is shutting down; send it to another one or try again later")]
    Closed,
    /// The answer did not come in time; it may or may not have happened.
    #[error("no answer within the deadline; ask again with the same command id")]
    Deadline,
    /// Nothing happened: the command cannot be carried to the node that decides it.
    #[error(
        "not done: {command} cannot be sent from another node than the one that owns {entity}: name it in `#[entity(commands(...))]`, or add `.together::<...>()` to the application"
    )]
    NotCarried {
        /// Whom it is for.
        entity: String,
        /// The command.
        command: String,
    },
    /// It may or may not have happened: the node that decides it was not reached in time.
    #[error(
        "no owner of partition {partition} has answered: {reason}; ask again with the same command id"
    )]
    NoOwner {
        /// The partition.
        partition: Partition,
        /// What was in the way.
        reason: String,
    },
    /// Nothing happened: a build that is later than those of all nodes that could be asked has written
    /// what it depends on.
    #[error("not done: {entity} was written by a later build: {reason}; start nodes of that build")]
    NewerBuild {
        /// The entity.
        entity: String,
        /// What cannot be read.
        reason: String,
    },
}

impl CommandError {
    /// Whether another try, at the owner of then, may have an answer.
    pub(crate) fn is_moving(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::Fenced(_)
                | Self::Unknown(_)
                | Self::Closed
                | Self::NewerBuild { .. }
        )
    }

    /// When to try again, if too much waited where it was refused. Whoever comes earlier is likely to be
    /// refused again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// Whether it is trouble of the store or of the node, which passes.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::Overloaded { .. }
                | Self::Fenced(_)
                | Self::Unknown(_)
                | Self::Deadline
                | Self::Closed
                | Self::NoOwner { .. }
                | Self::NewerBuild { .. }
        )
    }
}

/// A query that has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The view has not reached the token in time.
    #[error(
        "view {view} is behind by {behind} records after waiting; try again or ask without the token"
    )]
    Behind {
        /// The view.
        view: String,
        /// How many records of the partitions asked for are missing.
        behind: u64,
    },
    /// A partition has not reached the token in time.
    #[error(
        "partition {partition} is behind the token by {behind} records after waiting; try again or ask without the token"
    )]
    NotReached {
        /// The partition.
        partition: Partition,
        /// How many of its records are missing.
        behind: u64,
    },
    /// The token is of another log.
    #[error(transparent)]
    ForeignPosition(#[from] ForeignPosition),
    /// No such view runs here.
    #[error("this application runs no view {0:?}: add `.view(...)`")]
    UnknownView(String),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The owner could not answer.
    #[error(transparent)]
    Owner(#[from] CommandError),
}

impl QueryError {
    /// As [`CommandError::retry_after`].
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Owner(error) => error.retry_after(),
            _ => None,
        }
    }
}
