//! Entities of one type, found by range and filter.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use everfold_engine::{Position, Text};

use super::Filter;
use super::gather::Source;
use super::survey::Asked;
use crate::entity::Entity;
use crate::error::{CommandError, QueryError};
use crate::key::Key;

/// How long a question waits unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(10);
/// Entities in one answer unless told otherwise, and at most.
const LIMIT: (u32, u32) = (1000, 10_000);

/// A question about the entities of one type, whichever nodes own them; await it.
///
/// All of them are looked at, in memory or not, in the order of the text of their ids. The owner of a
/// partition reads its log once to learn the names of its entities, at the first question after it
/// took over; from then on only what is new.
#[must_use = "a question is asked when it is awaited"]
pub struct Entities<S> {
    source: Source,
    asked: Asked,
    after: Option<Position>,
    patience: Duration,
    shown: PhantomData<fn() -> S>,
}

/// Entities that were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<I, S> {
    /// In the order of the text of their ids.
    pub entities: Vec<One<I, S>>,
    /// By partition, up to where everything is in this answer. Single entities may be newer.
    pub position: Position,
    /// There may be more: ask again, [`beyond`](Entities::beyond) the last one.
    pub more: bool,
}

/// One entity that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct One<I, S> {
    /// Its id.
    pub id: I,
    /// Its durable state.
    pub state: S,
    /// The version that the state is after.
    pub version: u64,
}

/// Entities whose type is known by its name only, their states as JSON.
pub struct Named;

impl<S> Entities<S> {
    pub(crate) fn new(source: Source, kind: Text) -> Self {
        let asked = Asked {
            kind,
            from: None,
            before: None,
            above: None,
            filter: Filter::everything(),
            linearizable: false,
            most: LIMIT.0,
        };
        Self {
            source,
            asked,
            after: None,
            patience: PATIENCE,
            shown: PhantomData,
        }
    }

    /// Only ids from this one on.
    pub fn from(mut self, id: &str) -> Self {
        self.asked.from = Some(id.into());
        self
    }

    /// Only ids before this one.
    pub fn before(mut self, id: &str) -> Self {
        self.asked.before = Some(id.into());
        self
    }

    /// Only ids behind this one: goes on where an answer ended.
    pub fn beyond(mut self, id: &str) -> Self {
        self.asked.above = Some(id.into());
        self
    }

    /// Only states that a filter lets through; looked at by the owners, so that nothing else travels.
    pub fn matching(mut self, filter: Filter) -> Self {
        self.asked.filter = self.asked.filter.and(filter);
        self
    }

    /// At most so many; 1,000 unless set, 10,000 at most.
    pub fn limit(mut self, limit: u32) -> Self {
        self.asked.most = limit.clamp(1, LIMIT.1);
        self
    }

    /// Every owner proves after the question came that it owns its partition.
    ///
    /// Without it an answer has everything that was durable when the question came, too; an owner
    /// that knows less than the log then proves itself, the others are believed.
    pub fn linearizable(mut self) -> Self {
        self.asked.linearizable = true;
        self
    }

    /// Answer with everything up to a token, or not at all.
    pub fn after(mut self, position: &Position) -> Self {
        self.after = Some(position.clone());
        self
    }

    /// Wait this long for all owners and for the token; 10 s unless set.
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    async fn ask<I, T>(
        self,
        show: impl Fn(&str, &[u8]) -> Result<(I, T), serde_json::Error>,
    ) -> Result<Found<I, T>, QueryError> {
        let kind = self.asked.kind.clone();
        let gathered = self
            .source
            .gather(self.asked, self.after, self.patience)
            .await?;
        let one = |entry: super::survey::Entry| {
            let unread = |error: serde_json::Error| CommandError::History {
                entity: format!("{kind}-{}", entry.id),
                reason: format!("the state that its owner sent cannot be read: {error}"),
            };
            let (id, state) = show(&entry.id, &entry.state).map_err(unread)?;
            let version = entry.version;
            Ok(One { id, state, version })
        };
        let entities: Result<_, CommandError> = gathered.entries.into_iter().map(one).collect();
        Ok(Found {
            entities: entities?,
            position: gathered.position,
            more: gathered.more,
        })
    }
}

type Asking<I, S> = Pin<Box<dyn Future<Output = Result<Found<I, S>, QueryError>> + Send>>;

impl<E: Entity> IntoFuture for Entities<E> {
    type Output = Result<Found<E::Id, E>, QueryError>;
    type IntoFuture = Asking<E::Id, E>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.ask(|id, state| Ok((E::Id::from_text(id), E::decode_state(state)?))))
    }
}

impl IntoFuture for Entities<Named> {
    type Output = Result<Found<Text, serde_json::Value>, QueryError>;
    type IntoFuture = Asking<Text, serde_json::Value>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.ask(|id, state| Ok((id.into(), serde_json::from_slice(state)?))))
    }
}
