//! What clients do, and what has to hold of it at the end.

pub mod ledger;
pub mod register;
pub mod store;

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use everfold::engine::engine::{Engine, ReadLimit};
use everfold::engine::record::Kind as RecordKind;
use everfold::engine::{Offset, Record};
use everfold::{Application, CommandError, SendError};
use everfold_cluster::Client;
use everfold_world::Random;
use serde_json::Value;

use super::check::Violation;
use super::history::{Kind, Operation};

/// Something to be asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What.
    pub f: &'static str,
    /// Of what.
    pub key: String,
    /// The arguments.
    pub value: Value,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Done, not done, or unknown.
    pub kind: Kind,
    /// The result of what was done; else the arguments.
    pub value: Value,
    /// Why it was not done.
    pub error: Option<String>,
}

/// An application with clients that use it.
pub trait Workload: Send + Sync + 'static {
    /// What a client remembers.
    type Session: Send;

    /// Its name on the command line; that of the application too.
    fn name(&self) -> &'static str;

    /// What the nodes serve.
    fn application(&self) -> Application;

    /// What there has to be before anything goes wrong.
    fn prepare(&self, client: &Client) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// A client begins.
    fn session(&self, client: u64, random: Random) -> Self::Session;

    /// What a client asks for next.
    fn draw(&self, session: &mut Self::Session) -> Request;

    /// Asks for it, once.
    fn perform(&self, client: &Client, request: &Request) -> impl Future<Output = Answer> + Send;

    /// A client learns what came of it.
    fn learn(&self, session: &mut Self::Session, request: &Request, answer: &Answer);

    /// Judges the whole history, and the log where all nodes have ended.
    fn check(
        &self,
        engine: &Arc<dyn Engine>,
        operations: &[Operation],
    ) -> impl Future<Output = anyhow::Result<Vec<Violation>>> + Send;
}

impl Answer {
    /// It was done, with this result.
    pub fn done(value: Value) -> Self {
        Self {
            kind: Kind::Ok,
            value,
            error: None,
        }
    }

    /// Nobody knows.
    pub fn unknown(request: &Request, why: impl ToString) -> Self {
        Self {
            kind: Kind::Info,
            value: request.value.clone(),
            error: Some(why.to_string()),
        }
    }

    /// It was not done.
    pub fn refused(request: &Request, why: impl ToString) -> Self {
        Self {
            kind: Kind::Fail,
            value: request.value.clone(),
            error: Some(why.to_string()),
        }
    }

    /// What a command led to; `value` makes the result of one that was accepted.
    fn of<T, R: Debug>(
        request: &Request,
        outcome: Result<T, SendError<R>>,
        value: impl FnOnce(T) -> Value,
    ) -> Self {
        match outcome {
            Ok(reply) => Self::done(value(reply)),
            Err(SendError::Rejected(rejection)) => Self::refused(request, format!("{rejection:?}")),
            Err(SendError::Failed(error)) if happened_not(&error) => Self::refused(request, error),
            Err(SendError::Failed(error)) => Self::unknown(request, error),
        }
    }

    /// What a read led to: one without an answer has changed nothing.
    fn of_read(request: &Request, seen: Result<Value, CommandError>) -> Self {
        match seen {
            Ok(value) => Self::done(value),
            Err(error) => Self::refused(request, error),
        }
    }
}

/// Whether an error promises that nothing happened. What says nothing of it promises nothing.
fn happened_not(error: &CommandError) -> bool {
    matches!(
        error,
        CommandError::BadName(_)
            | CommandError::UnknownEntity(_)
            | CommandError::TooLarge(_)
            | CommandError::Statement(_)
            | CommandError::NoTables
            | CommandError::Unavailable { .. }
            | CommandError::Fenced(_)
            | CommandError::Conflict(_)
            | CommandError::NotTogether(..)
            | CommandError::History { .. }
            | CommandError::Panicked(_)
            | CommandError::Encoding(_)
            | CommandError::NoDefinition(_)
            | CommandError::Overloaded { .. }
            | CommandError::NewerBuild { .. }
            | CommandError::NotCarried { .. }
    )
}

/// All events of a log, partition after partition, each in its order.
async fn events(engine: &dyn Engine) -> anyhow::Result<Vec<Arc<Record>>> {
    let mut events = Vec::new();
    for partition in engine.identity().layout.all() {
        let head = engine.safe_head(partition).await?;
        let mut after = Offset(0);
        while after < head {
            let chunk = engine.read(partition, after, ReadLimit::default()).await?;
            let of_events = chunk.records.into_iter();
            events.extend(of_events.filter(|record| record.kind == RecordKind::Event));
            if chunk.next <= after {
                break;
            }
            after = chunk.next;
        }
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_promises_it_has_not_happened() {
        let request = Request {
            f: "write",
            key: "k".to_owned(),
            value: 3.into(),
        };
        let kind = |error: CommandError| {
            let outcome: Result<(), SendError<()>> = Err(error.into());
            Answer::of(&request, outcome, |()| Value::Null).kind
        };
        assert_eq!(kind(CommandError::Conflict(String::new())), Kind::Fail);
        assert_eq!(kind(CommandError::Unknown(String::new())), Kind::Info);
        assert_eq!(kind(CommandError::Deadline), Kind::Info);
        assert_eq!(kind(CommandError::Closed), Kind::Info);
        let read = Answer::of_read(&request, Err(CommandError::Deadline));
        assert_eq!(read.kind, Kind::Fail);
        let rejected: Result<(), _> = Err(SendError::Rejected(()));
        assert_eq!(
            Answer::of(&request, rejected, |()| Value::Null).kind,
            Kind::Fail
        );
    }
}
