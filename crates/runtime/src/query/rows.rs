//! Rows of a view, asked from outside of its nodes.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use everfold_engine::Position;

use super::Filter;
use super::anyone::{self, RowsAsked};
use crate::error::{CommandError, QueryError};
use crate::key::Key;
use crate::owner::Router;
use crate::view::{Row, View};

/// A question to a view that other nodes run; await it. Every node has all rows, so any one answers.
#[must_use = "a question is asked when it is awaited"]
pub struct RowsRef<K, R> {
    router: Router,
    asked: RowsAsked,
    types: PhantomData<fn() -> (K, R)>,
}

/// Rows that were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRows<K, R> {
    /// In the order of the text of their keys.
    pub rows: Vec<(K, R)>,
    /// By partition, up to where events are in these rows.
    pub position: Position,
    /// There may be more: ask again, [`beyond`](RowsRef::beyond) the last one.
    pub more: bool,
}

impl<K: Key, R: Row> RowsRef<K, R> {
    pub(crate) fn new(router: &Router, view: &View<K, R>) -> Self {
        let asked = RowsAsked {
            view: view.name.into(),
            version: view.version,
            key: None,
            from: None,
            before: None,
            above: None,
            filter: Filter::everything(),
            after: None,
            patience: Duration::from_secs(5),
            most: 1000,
        };
        Self {
            router: router.clone(),
            asked,
            types: PhantomData,
        }
    }

    /// The row of a key.
    ///
    /// # Errors
    /// As for the question itself.
    pub async fn get(mut self, key: &K) -> Result<Option<R>, QueryError> {
        self.asked.key = Some(key.as_text().into());
        let found = self.await?;
        Ok(found.rows.into_iter().next().map(|(_, row)| row))
    }

    /// Only keys whose text is this or behind it.
    pub fn from(mut self, key: &str) -> Self {
        self.asked.from = Some(key.into());
        self
    }

    /// Only keys whose text is before this.
    pub fn before(mut self, key: &str) -> Self {
        self.asked.before = Some(key.into());
        self
    }

    /// Only keys whose text is behind this: goes on where an answer ended.
    pub fn beyond(mut self, key: &str) -> Self {
        self.asked.above = Some(key.into());
        self
    }

    /// Only rows that a filter lets through; the others do not travel.
    pub fn matching(mut self, filter: Filter) -> Self {
        self.asked.filter = self.asked.filter.and(filter);
        self
    }

    /// At most so many; 1,000 unless set.
    pub fn limit(mut self, limit: u32) -> Self {
        self.asked.most = limit.max(1);
        self
    }

    /// Answer with everything up to a token, or not at all.
    pub fn after(mut self, position: &Position) -> Self {
        self.asked.after = Some(position.to_string().into());
        self
    }

    /// Wait this long for the token; 5 s unless set.
    pub fn within(mut self, patience: Duration) -> Self {
        self.asked.patience = patience;
        self
    }

    async fn ask(self) -> Result<FoundRows<K, R>, QueryError> {
        let page = anyone::rows(&self.router, self.asked).await?;
        let unread = |reason: String| {
            CommandError::Encoding(format!("what another node sent cannot be read: {reason}"))
        };
        let mut rows = Vec::with_capacity(page.rows.len());
        for (key, row) in &page.rows {
            let row = serde_json::from_slice(row).map_err(|error| unread(error.to_string()))?;
            rows.push((K::from_text(key), row));
        }
        let position = page.position.parse::<Position>();
        Ok(FoundRows {
            rows,
            position: position.map_err(|error| unread(error.to_string()))?,
            more: page.more,
        })
    }
}

impl<K: Key, R: Row> IntoFuture for RowsRef<K, R> {
    type Output = Result<FoundRows<K, R>, QueryError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.ask())
    }
}
