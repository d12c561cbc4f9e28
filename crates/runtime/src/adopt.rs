//! Moving the rows of an existing table over: each becomes the first events of an entity.

mod work;

use std::collections::VecDeque;
use std::fmt::{Debug, Display};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use everfold_engine::{EntityKey, Text, Timestamp};
use tokio::sync::oneshot;

use crate::decision::Emit;
use crate::entity::{Entity, Evolve};
use crate::error::CommandError;
use crate::key::Key;
use crate::node::Node;
use crate::owner::{Answer, Work};
use work::Adopting;

/// A row that meets trouble of the store is tried so often.
const ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// What a row becomes: the first events of an entity.
#[derive(Clone, Debug)]
pub struct FirstEvents<E: Entity> {
    id: E::Id,
    events: Emit<E::Event>,
    effective: Option<Timestamp>,
}

impl<E: Entity> FirstEvents<E> {
    /// These events for this entity. Statements beside them run in the same transaction: there a row
    /// is marked as moved, so that whoever writes the table leaves it alone from then on.
    pub fn of(id: E::Id, events: Emit<E::Event>) -> Self {
        Self {
            id,
            events,
            effective: None,
        }
    }

    /// Business time of the events: when the row came to be. Now unless set.
    #[must_use]
    pub fn at(mut self, effective: Timestamp) -> Self {
        self.effective = Some(effective);
        self
    }
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowOutcome {
    /// The entity begins with this row's events.
    Adopted,
    /// The entity had events already; nothing happened.
    Present,
    /// Nothing happened: the code that makes events of rows says why.
    Refused(String),
    /// Nothing happened; [`CommandError::Statement`] if a statement failed, because the row has
    /// changed since it was read, for instance.
    Failed(CommandError),
}

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdoptReport {
    /// Rows whose entities begin with them.
    pub adopted: u64,
    /// Rows whose entities had events already.
    pub present: u64,
    /// Rows that were refused or failed; another run tries them again.
    pub failed: u64,
    /// The key of the last row.
    pub last: Option<String>,
}

/// A run that stopped before it was through. It may be repeated, from the start or behind the row
/// named here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError<S: Debug + Display> {
    /// The rows could not be read.
    #[error("rows could not be read: {error}; run it again after {after:?}")]
    Rows {
        /// The key of the last row that was done.
        after: Option<String>,
        /// What the source of the rows said.
        error: S,
    },
    /// The source of the rows gave the same page again.
    #[error(
        "the rows end with {0:?} again: a page holds the rows after the key that it is asked for"
    )]
    Again(String),
    /// The store could not be reached for some time, or the node is closing.
    #[error("row {key:?} could not be adopted: {error}; run it again after {after:?}")]
    Stopped {
        /// The key of the last row that was done.
        after: Option<String>,
        /// The row's key.
        key: String,
        /// Why.
        error: CommandError,
    },
}

type Making<'a, E, R> = Box<dyn Fn(&str, R) -> Result<FirstEvents<E>, String> + Send + Sync + 'a>;
type Telling<'a> = Box<dyn FnMut(&str, &RowOutcome) + Send + 'a>;

/// Rows on their way to become entities; made by [`Node::adopt`], run by [`Adoption::rows`].
#[must_use = "rows are read when `.rows(...)` is awaited"]
pub struct Adoption<'a, E: Entity, R> {
    node: &'a Node,
    table: Text,
    make: Making<'a, E, R>,
    at_once: usize,
    after: Option<String>,
    each: Telling<'a>,
    report: AdoptReport,
}

impl Node {
    /// Moves rows of an existing table over: `make` turns the key and the content of a row into the
    /// first events of an entity. An entity that has events already keeps them, so a run may be
    /// stopped and repeated at will, and while it goes on both worlds serve: rows that have not moved
    /// through the table, the others through their entities.
    ///
    /// The command of a row has an id made of table and key, which its events carry.
    ///
    /// Where the table lies beside the log (PostgreSQL), statements join both worlds. One marks the
    /// row as moved in the transaction of its first events, and fails if the row is not as it was
    /// read; who writes the table by itself skips rows so marked. From then on the entity's commands
    /// keep the row up to date by statements beside their events, for those who still read it. See
    /// `docs/beside-tables.md`.
    ///
    /// ```no_run
    /// # use everfold_runtime::*;
    /// # fn show<Customer: Evolve>(
    /// #     node: &Node,
    /// #     opened: fn(String) -> Customer::Event,
    /// # ) -> impl Future<Output = Result<AdoptReport, AdoptError<String>>>
    /// # where Customer::Id: From<String> {
    /// # struct OldCustomer { name: String, version: i64 }
    /// # async fn page(after: Option<String>) -> Result<Vec<(String, OldCustomer)>, String> { Ok(vec![]) }
    /// // `moved` may not be null: if the version is another one, the statement fails.
    /// const MOVED: &str =
    ///     "update customer set moved = case when version = $2 then true end where id = $1";
    /// let adoption = node.adopt::<Customer, _>("customer", move |key, row: OldCustomer| {
    ///     let moved = Statement::new(MOVED).with(key).with(row.version);
    ///     let events = emit(opened(row.name)).beside(moved);
    ///     Ok(FirstEvents::of(key.to_owned().into(), events))
    /// });
    /// # async move {
    /// let report = adoption
    ///     .each(|key, outcome| println!("{key}: {outcome:?}"))
    ///     .rows(|after| page(after)) // "... where id > $1 order by id limit 1000"
    ///     .await?;
    /// # Ok(report) }
    /// # }
    /// ```
    pub fn adopt<'a, E: Evolve, R>(
        &'a self,
        table: &str,
        make: impl Fn(&str, R) -> Result<FirstEvents<E>, String> + Send + Sync + 'a,
    ) -> Adoption<'a, E, R> {
        Adoption {
            node: self,
            table: table.into(),
            make: Box::new(make),
            at_once: 64,
            after: None,
            each: Box::new(|_, _| {}),
            report: AdoptReport::default(),
        }
    }
}

/// A row that was sent, or needed not be.
struct Underway<E: Entity> {
    key: String,
    state: State<E>,
}

enum State<E: Entity> {
    Over(RowOutcome),
    Sent(Arc<FirstEvents<E>>, oneshot::Receiver<Adopted>),
}

/// Whether the entity begins with the row.
type Adopted = Result<bool, CommandError>;

impl<'a, E: Evolve, R> Adoption<'a, E, R> {
    /// So many rows are on their way at the same time; 64 unless set.
    pub fn at_once(mut self, rows: usize) -> Self {
        self.at_once = rows.max(1);
        self
    }

    /// Begins behind the row with this key, where an earlier run has ended.
    pub fn after(mut self, key: impl Into<String>) -> Self {
        self.after = Some(key.into());
        self
    }

    /// Is told of every row in order, once it is done.
    pub fn each(mut self, each: impl FnMut(&str, &RowOutcome) + Send + 'a) -> Self {
        self.each = Box::new(each);
        self
    }

    /// Adopts row by row until a page is empty. A page holds the rows after a key (from the first on,
    /// if there is none), in an order that stays the same; its size is up to the source.
    ///
    /// A row that fails does not stop the others; the report counts it, and [`Adoption::each`] says
    /// why. Trouble of the store is waited for, about twelve seconds a row at most.
    ///
    /// # Errors
    /// [`AdoptError`]: the rows cannot be read, or the store cannot be reached for long. Run it
    /// again.
    pub async fn rows<S, F>(
        mut self,
        mut page: impl FnMut(Option<String>) -> F,
    ) -> Result<AdoptReport, AdoptError<S>>
    where
        S: Debug + Display,
        F: Future<Output = Result<Vec<(String, R)>, S>>,
    {
        self.report.last = self.after.clone();
        let mut underway = VecDeque::new();
        loop {
            let rows = match page(self.after.clone()).await {
                Ok(rows) => rows,
                Err(error) => {
                    self.settle(&mut underway, 0).await?;
                    let after = self.report.last;
                    return Err(AdoptError::Rows { after, error });
                }
            };
            let Some((last, _)) = rows.last() else {
                self.settle(&mut underway, 0).await?;
                return Ok(self.report);
            };
            if self.after.as_ref() == Some(last) {
                let last = last.clone();
                self.settle(&mut underway, 0).await?;
                return Err(AdoptError::Again(last));
            }
            self.after = Some(last.clone());
            for (key, row) in rows {
                self.settle(&mut underway, self.at_once - 1).await?;
                let state = match (self.make)(&key, row) {
                    Ok(first) => self.send(&key, Arc::new(first)),
                    Err(reason) => State::Over(RowOutcome::Refused(reason)),
                };
                underway.push_back(Underway { key, state });
            }
        }
    }

    fn send(&self, key: &str, first: Arc<FirstEvents<E>>) -> State<E> {
        let router = &self.node.router;
        let entity = EntityKey::new(Text::from_static(E::NAME), first.id.as_text());
        let (partition, refused) = (router.partition(&entity.id), entity.check().err());
        let place = (&*self.table, key, router.world().now());
        let (work, answer) = Adopting::new(entity, first.clone(), place);
        match refused {
            None => router.submit(partition, Box::new(work)),
            Some(error) => Box::new(work).answer(Answer::Failed(error.into())),
        }
        State::Sent(first, answer)
    }

    /// Waits until at most so many rows are underway.
    async fn settle<S: Debug + Display>(
        &mut self,
        underway: &mut VecDeque<Underway<E>>,
        left: usize,
    ) -> Result<(), AdoptError<S>> {
        while underway.len() > left
            && let Some(Underway { key, state }) = underway.pop_front()
        {
            let outcome = match self.end(&key, state).await {
                Ok(outcome) => outcome,
                Err(error) => {
                    let after = self.report.last.take();
                    return Err(AdoptError::Stopped { after, key, error });
                }
            };
            match outcome {
                RowOutcome::Adopted => self.report.adopted += 1,
                RowOutcome::Present => self.report.present += 1,
                RowOutcome::Refused(_) | RowOutcome::Failed(_) => self.report.failed += 1,
            }
            (self.each)(&key, &outcome);
            self.report.last = Some(key);
        }
        Ok(())
    }

    /// What became of a row; an error if the store does not come back.
    async fn end(&mut self, key: &str, mut state: State<E>) -> Result<RowOutcome, CommandError> {
        let (mut attempt, mut pause) = (1, FIRST_PAUSE);
        loop {
            let (first, answer) = match state {
                State::Over(outcome) => return Ok(outcome),
                State::Sent(first, answer) => (first, answer),
            };
            let error = match answer.await.unwrap_or(Err(CommandError::Closed)) {
                Ok(true) => return Ok(RowOutcome::Adopted),
                Ok(false) => return Ok(RowOutcome::Present),
                Err(error) if !error.is_passing() => return Ok(RowOutcome::Failed(error)),
                Err(error) => error,
            };
            if attempt == ATTEMPTS || error == CommandError::Closed {
                return Err(error);
            }
            let room = error.retry_after().unwrap_or_default();
            self.node.world().sleep(pause.max(room)).await;
            (attempt, pause) = (attempt + 1, pause * 2);
            state = self.send(key, first);
        }
    }
}
