//! Questions to a view, with a token or without.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::ops::RangeBounds;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use everfold_engine::slot::Partition;
use everfold_engine::{Offset, Position, Text};

use super::Row;
use super::runner::RunningView;
use crate::error::{CommandError, QueryError};
use crate::key::Key;
use crate::owner::{not_json, to_json};
use crate::query::{Filter, RowsAsked, RowsPage};

/// How long a question with a token waits unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// A view of a node, to be asked.
pub struct ViewRef<K, R> {
    pub(crate) view: Result<Arc<RunningView<R>>, QueryError>,
    pub(crate) keys: PhantomData<fn() -> K>,
}

impl<K: Key, R: Row> ViewRef<K, R> {
    /// The row of a key.
    pub fn get(&self, key: &K) -> Ask<R, Option<R>> {
        let key = key.clone();
        self.ask(move |view| {
            let layout = view.ground.engine.identity().layout;
            let part = view.rows.part(layout.partition(key.as_text()));
            part.row(key.as_text()).cloned()
        })
    }

    /// The rows that `wanted` says yes to, ascending by key.
    pub fn select(&self, wanted: impl Fn(&K, &R) -> bool + Send + 'static) -> Ask<R, Vec<(K, R)>> {
        self.ask(move |view| {
            let mut found = Vec::new();
            for partition in view.rows.partitions() {
                for (key, row) in view.rows.part(partition).rows() {
                    let key = K::from_text(key);
                    if wanted(&key, row) {
                        found.push((key, row.clone()));
                    }
                }
            }
            found.sort_by(|a, b| a.0.cmp(&b.0));
            found
        })
    }

    /// The rows of a range of keys, ascending by key. All rows are looked at.
    pub fn range(&self, keys: impl RangeBounds<K> + Send + 'static) -> Ask<R, Vec<(K, R)>> {
        self.select(move |key, _| keys.contains(key))
    }

    /// The rows that a filter lets through, ascending by key.
    pub fn matching(&self, filter: Filter) -> Ask<R, Vec<(K, R)>> {
        self.select(move |_, row| serde_json::to_value(row).is_ok_and(|row| filter.matches(&row)))
    }

    /// Folds all rows into one answer without copying them.
    pub fn fold<T: Send + 'static>(
        &self,
        start: T,
        mut with: impl FnMut(&mut T, &K, &R) + Send + 'static,
    ) -> Ask<R, T> {
        self.ask(move |view| {
            let mut answer = start;
            for partition in view.rows.partitions() {
                for (key, row) in view.rows.part(partition).rows() {
                    with(&mut answer, &K::from_text(key), row);
                }
            }
            answer
        })
    }

    fn ask<T>(&self, question: impl FnOnce(&RunningView<R>) -> T + Send + 'static) -> Ask<R, T> {
        Ask {
            view: self.view.clone(),
            after: None,
            patience: PATIENCE,
            question: Box::new(question),
        }
    }
}

type Question<R, T> = Box<dyn FnOnce(&RunningView<R>) -> T + Send>;

/// A question to a view; await it.
#[must_use = "a question is asked when it is awaited"]
pub struct Ask<R, T> {
    view: Result<Arc<RunningView<R>>, QueryError>,
    after: Option<Position>,
    patience: Duration,
    question: Question<R, T>,
}

impl<R: Row, T: Send + 'static> Ask<R, T> {
    /// Answer with everything up to a token, or not at all.
    pub fn after(mut self, position: &Position) -> Self {
        self.after = Some(position.clone());
        self
    }

    /// Wait this long for the token; 10 s unless set.
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The answer together with what it reflects: by partition, up to where events are in it.
    pub fn positioned(self) -> Positioned<R, T> {
        Positioned(self)
    }

    async fn answer(self) -> Result<(T, Position), QueryError> {
        let view = self.view?;
        let position = self
            .after
            .unwrap_or_else(|| view.ground.engine.identity().start());
        position.check(&view.ground.engine.identity().start())?;
        let ready = async {
            view.whole().await;
            view.reach(&position).await;
        };
        if !view.is_ready(&position) {
            let mut deadline = view.ground.world.sleep(self.patience);
            tokio::select! { biased;
                () = ready => {}
                () = &mut deadline => {
                    let behind = view.behind(&position);
                    return Err(QueryError::Behind { view: view.name.to_owned(), behind });
                }
            }
        }
        let answer = {
            let _whole_units = view.rows.looking();
            let position = view.position();
            ((self.question)(&view), position)
        };
        // The view may have begun anew while it was asked.
        match view.behind(&position) {
            0 => Ok(answer),
            behind => Err(QueryError::Behind {
                view: view.name.to_owned(),
                behind,
            }),
        }
    }
}

impl<R: Row, T: Send + 'static> IntoFuture for Ask<R, T> {
    type Output = Result<T, QueryError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { Ok(self.answer().await?.0) })
    }
}

/// A question whose answer comes with its position; await it.
#[must_use = "a question is asked when it is awaited"]
pub struct Positioned<R, T>(Ask<R, T>);

impl<R: Row, T: Send + 'static> IntoFuture for Positioned<R, T> {
    type Output = Result<(T, Position), QueryError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.0.answer())
    }
}

impl<R: Row> RunningView<R> {
    /// What all rows reflect.
    fn position(&self) -> Position {
        let start = self.ground.engine.identity().start();
        let read = self.rows.vector().into_iter().zip(self.rows.partitions());
        read.fold(start, |position, (offset, source)| {
            position.with(source, offset)
        })
    }

    /// Rows for somebody elsewhere.
    pub(super) async fn answer_page(
        self: Arc<Self>,
        asked: RowsAsked,
        after: Option<Position>,
    ) -> Result<RowsPage, QueryError> {
        /// Bytes of rows in one answer; at least one row is in it.
        const MOST_BYTES: usize = 1 << 20;
        const MOST_ROWS: usize = 10_000;
        let (after, patience) = (after, asked.patience);
        let question = move |view: &Self| {
            let mut keys: Vec<Text> = Vec::new();
            for partition in view.rows.partitions() {
                let part = view.rows.part(partition);
                match &asked.key {
                    Some(key) => keys.extend(part.row(key).map(|_| key.clone())),
                    None => {
                        let names = part.rows().map(|(key, _)| key);
                        keys.extend(names.filter(|key| asked.has(key)).cloned());
                    }
                }
            }
            keys.sort_unstable();
            let layout = view.ground.engine.identity().layout;
            let (mut rows, mut bytes, most) = (Vec::new(), 0, asked.most as usize);
            for key in keys {
                if rows.len() >= most.min(MOST_ROWS) || bytes >= MOST_BYTES {
                    return Ok((rows, true));
                }
                let part = view.rows.part(layout.partition(&key));
                let Some(row) = part.row(&key) else {
                    continue;
                };
                let row = serde_json::to_value(row).map_err(not_json)?;
                if asked.filter.matches(&row) {
                    let row = to_json(&row)?;
                    bytes += row.len();
                    rows.push((key, row));
                }
            }
            Ok((rows, false))
        };
        let ask = Ask {
            view: Ok(self),
            after,
            patience,
            question: Box::new(question),
        };
        let (found, position): (Result<_, CommandError>, _) = ask.answer().await?;
        let (rows, more) = found?;
        let position = position.to_string().into();
        Ok(RowsPage {
            rows,
            more,
            position,
        })
    }

    fn behind(&self, position: &Position) -> u64 {
        let read = self.rows.vector();
        let missing = |(source, offset): (Partition, Offset)| {
            let read = read.get(source.index()).copied().unwrap_or_default();
            offset.0.saturating_sub(read.0)
        };
        position.offsets().map(missing).sum()
    }

    /// Whether rows can be looked at now, and reflect a position.
    fn is_ready(&self, position: &Position) -> bool {
        let agreed = match &*self.loaded() {
            Some(furthest) => self
                .rows
                .vector()
                .iter()
                .zip(furthest)
                .all(|(read, far)| read >= far),
            None => false,
        };
        agreed && self.behind(position) == 0
    }

    /// Waits until the view reflects a position.
    async fn reach(&self, position: &Position) {
        for (source, offset) in position.offsets() {
            let reached = match self.rows.reached(source) {
                Some(mut reached) => reached.wait_for(|reached| *reached >= offset).await.is_ok(),
                None => false,
            };
            if !reached {
                // No such partition, or nobody reads on: the deadline will say so.
                std::future::pending::<()>().await;
            }
        }
    }
}
