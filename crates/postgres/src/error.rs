//! What can go wrong, and what is known then of what was asked.

use everfold_engine::engine::{AppendError, OwnerError, PutError, ReadError, Refusal};
use everfold_engine::position::Incarnation;
use tokio_postgres::error::{DbError, Severity, SqlState};

/// A log that was not opened. Nothing of it was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Not an address of a database, or an option without a meaning.
    #[error(
        "{address:?} cannot be used: {reason}; write postgres://user:password@host:5432/database?schema=everfold"
    )]
    Address {
        /// Without its password.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// No connection, or it broke.
    #[error(
        "{address} cannot be reached: {reason}; see that the server runs, and that user, password and database are right"
    )]
    Unreachable {
        /// Without its password.
        address: String,
        /// What the driver says.
        reason: String,
        /// Nobody has answered who could say that something is wrong: it may be there later.
        passing: bool,
    },
    /// The server cannot keep a log.
    #[error("this server cannot keep a log: {0}")]
    Server(String),
    /// There is nothing to look at.
    #[error(
        "there is no log in the schema {0:?}: it is created when an application first opens it (`everfold migrate` only prepares the schema)"
    )]
    NoLog(String),
    /// The schema is somebody else's.
    #[error("the schema {0:?} exists and holds no log; name another one with ?schema=")]
    Foreign(String),
    /// Written by a newer version.
    #[error(
        "the schema {schema:?} has format {found}, this version knows up to {known}; use the version that wrote it, or a newer one"
    )]
    Newer {
        /// The schema.
        schema: String,
        /// Its format.
        found: i32,
        /// The newest known one.
        known: i32,
    },
    /// Written by an older version, and only to be looked at.
    #[error("the schema {schema:?} has the older format {found}; run `everfold migrate` first")]
    Older {
        /// The schema.
        schema: String,
        /// Its format.
        found: i32,
    },
    /// The log was made otherwise than asked for.
    #[error(
        "the log was made with {actual} partitions, not {asked}; leave the option out, or use another schema"
    )]
    Partitions {
        /// The log's.
        actual: u16,
        /// The option's.
        asked: u16,
    },
    /// A copy, or an earlier state, of the log that was written here.
    #[error(
        "the log in {schema:?} was restored or moved: {difference}. What was acknowledged after the copy was made is missing here, and another copy may still be written elsewhere. If this copy is to live on, run `everfold adopt`: it gets a new incarnation, and tokens and owners of the old one are refused"
    )]
    Restored {
        /// The schema.
        schema: String,
        /// How that was noticed.
        difference: String,
    },
    /// A statement failed.
    #[error("the database refused: {0}")]
    Refused(String),
}

/// A failed statement in one line, with what PostgreSQL adds to it.
pub(crate) fn told(error: &tokio_postgres::Error) -> String {
    let Some(error) = error.as_db_error() else {
        let source = std::error::Error::source(error);
        return source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    };
    let mut text = error.message().to_owned();
    for more in [error.detail(), error.hint()].into_iter().flatten() {
        text.push_str("; ");
        text.push_str(more);
    }
    text
}

/// Why an append failed, and whether that is known to have left nothing.
pub(crate) fn append_error(error: &tokio_postgres::Error) -> AppendError {
    match error.as_db_error().filter(|error| is_rolled_back(error)) {
        Some(answer) => refusal(answer, error).into(),
        None => AppendError::Unknown(told(error)),
    }
}

/// The server answered, and the session goes on: so the transaction was rolled back. A session that
/// was ended may have been told so after its commit.
pub(crate) fn is_rolled_back(error: &DbError) -> bool {
    error.parsed_severity() == Some(Severity::Error)
}

fn refusal(answer: &DbError, error: &tokio_postgres::Error) -> Refusal {
    let code = answer.code();
    let text = told(error);
    if *code == SqlState::DISK_FULL {
        Refusal::Full(text)
    } else if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        Refusal::ReadOnly(format!(
            "{text}: this is a replica, or the server was made read-only"
        ))
    } else if is_of_batch(code) {
        Refusal::Invalid(text)
    } else {
        // Time-outs, deadlocks, too many connections, rights that were taken away.
        Refusal::ReadOnly(text)
    }
}

/// Classes 22, 23 and 54 of the SQL standard's codes: data, constraints, limits.
fn is_of_batch(code: &SqlState) -> bool {
    ["22", "23", "54"]
        .iter()
        .any(|class| code.code().starts_with(class))
}

/// An operation that may simply be done again.
#[derive(Debug)]
pub(crate) enum Failed {
    Pool(String),
    Statement(tokio_postgres::Error),
    Damaged(String),
}

impl Failed {
    pub(crate) fn damaged(what: impl ToString) -> Self {
        Self::Damaged(what.to_string())
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pool(text) | Self::Damaged(text) => f.write_str(text),
            Self::Statement(error) => f.write_str(&told(error)),
        }
    }
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Statement(error)
    }
}

impl From<deadpool_postgres::PoolError> for Failed {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        match error {
            deadpool_postgres::PoolError::Backend(error) => Self::Statement(error),
            deadpool_postgres::PoolError::PostCreateHook(
                deadpool_postgres::HookError::Message(reason),
            ) => Self::Pool(reason.into_owned()),
            other => Self::Pool(other.to_string()),
        }
    }
}

impl From<Failed> for ReadError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Damaged(text) => Self::Damaged(text),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<Failed> for PutError {
    fn from(failed: Failed) -> Self {
        Self::Unavailable(failed.to_string())
    }
}

impl From<Failed> for OwnerError {
    fn from(failed: Failed) -> Self {
        if let Failed::Statement(error) = &failed
            && error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
        {
            return Self::ReadOnly(failed.to_string());
        }
        Self::Unavailable(failed.to_string())
    }
}

/// The incarnation that a database holds now, in the words of a refused connection.
pub(crate) fn replaced(expected: Incarnation) -> String {
    format!(
        "the log behind this address is no longer incarnation {expected}: it was restored or replaced; restart to read it anew"
    )
}
