//! What a decision may say.

use everfold_engine::engine::Statement;
use everfold_engine::{Text, Timestamp, Uuid};

use crate::entity::{Command, Decide, Entity};

/// Accepted with events and a reply, or rejected.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict<Event, Reply, Rejection> {
    /// What happened, and the answer.
    Accepted {
        /// In the order they happened; may be empty.
        events: Vec<Event>,
        /// Changes of tables beside the log, in order: done together with the events, or neither.
        statements: Vec<Statement>,
        /// The answer.
        reply: Reply,
    },
    /// Understood and refused; nothing happened.
    Rejected(Rejection),
}

/// What `E` decided on a command `C`; made by [`emit`], [`reply`] and [`reject`].
#[allow(type_alias_bounds, reason = "the bounds tell a reader what fits")]
pub type Decision<E: Decide<C>, C: Command> =
    Verdict<<E as Entity>::Event, <E as Decide<C>>::Reply, <E as Decide<C>>::Rejection>;

/// Something happened. More may follow; a reply ends it.
///
/// ```
/// # use everfold_runtime::{Verdict, emit};
/// let verdict: Verdict<&str, u8, ()> = emit("opened").and("greeted").reply(1);
/// let Verdict::Accepted { events, reply, .. } = verdict else { panic!("rejected") };
/// assert_eq!((events, reply), (vec!["opened", "greeted"], 1));
/// ```
pub fn emit<Event>(event: Event) -> Emit<Event> {
    Emit {
        events: vec![event],
        statements: Vec::new(),
    }
}

/// A table beside the log changes, and nothing happens to the entity. More may follow; a reply ends
/// it.
///
/// ```
/// # use everfold_runtime::{Statement, Verdict, beside};
/// let seen = Statement::new("update invoice set seen = now() where id = $1").with("i-1");
/// let verdict: Verdict<&str, (), ()> = beside(seen).reply(());
/// assert!(matches!(verdict, Verdict::Accepted { statements, .. } if statements.len() == 1));
/// ```
pub fn beside<Event>(statement: Statement) -> Emit<Event> {
    Emit {
        events: Vec::new(),
        statements: vec![statement],
    }
}

/// Accepted, and there is nothing new to say.
pub fn reply<Event, Reply, Rejection>(reply: Reply) -> Verdict<Event, Reply, Rejection> {
    Verdict::Accepted {
        events: Vec::new(),
        statements: Vec::new(),
        reply,
    }
}

/// Understood and refused.
pub fn reject<Event, Reply, Rejection>(rejection: Rejection) -> Verdict<Event, Reply, Rejection> {
    Verdict::Rejected(rejection)
}

/// Events, and statements beside them, on their way into a decision.
#[must_use = "events count only with a reply: `.reply(...)`"]
#[derive(Clone, Debug)]
pub struct Emit<Event> {
    pub(crate) events: Vec<Event>,
    pub(crate) statements: Vec<Statement>,
}

impl<Event> Emit<Event> {
    /// And then this happened.
    pub fn and(mut self, event: Event) -> Self {
        self.events.push(event);
        self
    }

    /// And then all these happened.
    pub fn and_all(mut self, events: impl IntoIterator<Item = Event>) -> Self {
        self.events.extend(events);
        self
    }

    /// And a table beside the log changes with it: the statement runs in the transaction that
    /// appends the events, before them and in the order of the calls. If it fails, nothing of the
    /// command has happened, and it alone fails with
    /// [`CommandError::Statement`](crate::CommandError::Statement).
    ///
    /// A decision stays pure: what a statement reads or returns is not seen. Statements and events
    /// count together against the limit of a command, and a command with statements has a
    /// transaction to itself, so it costs one round trip that it shares with no other.
    ///
    /// Only on engines that keep tables beside the log (PostgreSQL); elsewhere the command fails
    /// with [`CommandError::NoTables`](crate::CommandError::NoTables).
    ///
    /// ```
    /// # use everfold_runtime::{Statement, Verdict, emit};
    /// let invoice = Statement::new("insert into invoice (id, total) values ($1, $2::numeric)");
    /// let verdict: Verdict<&str, u8, ()> =
    ///     emit("billed").beside(invoice.with("i-1").with("12.50")).reply(1);
    /// assert!(matches!(verdict, Verdict::Accepted { statements, .. } if statements.len() == 1));
    /// ```
    pub fn beside(mut self, statement: Statement) -> Self {
        self.statements.push(statement);
        self
    }

    /// And so do these.
    pub fn beside_all(mut self, statements: impl IntoIterator<Item = Statement>) -> Self {
        self.statements.extend(statements);
        self
    }

    /// The answer to the command.
    pub fn reply<Reply, Rejection>(self, reply: Reply) -> Verdict<Event, Reply, Rejection> {
        Verdict::Accepted {
            events: self.events,
            statements: self.statements,
            reply,
        }
    }
}

/// All that a decision may know beside state and command.
#[derive(Clone, Debug)]
pub struct Context {
    pub(crate) entity: Text,
    pub(crate) version: u64,
    pub(crate) effective: Timestamp,
    pub(crate) now: Timestamp,
    pub(crate) principal: Text,
    pub(crate) seed: Uuid,
}

impl Context {
    /// A context for a decision that no owner makes: over the events of a boundary, for instance.
    pub fn outside(entity: impl Into<Text>, version: u64, now: Timestamp) -> Self {
        Self {
            entity: entity.into(),
            version,
            effective: now,
            now,
            principal: Text::new(),
            seed: Uuid::nil(),
        }
    }

    /// The id of the entity that decides.
    pub fn entity_id(&self) -> &str {
        &self.entity
    }

    /// How many events the entity has had.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Business time of the command; its events carry it.
    pub fn effective(&self) -> Timestamp {
        self.effective
    }

    /// When the command is being decided.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Who asked; empty if nobody said.
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// A fresh id; another one for each `index`.
    pub fn new_id(&self, index: u64) -> Uuid {
        let mixed = xxhash_rust::xxh3::xxh3_64_with_seed(self.seed.as_bytes(), index);
        let high = xxhash_rust::xxh3::xxh3_64_with_seed(self.seed.as_bytes(), !index);
        everfold_engine::uuid7(self.now, high, mixed)
    }
}
