//! What clients asked and were answered, and when.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everfold::CommandError;
use everfold::engine::engine::BoxFuture;
use everfold::engine::{EntityKey, Offset, Partition, Record, Uuid};
use serde_json::Value;

use crate::door::Door;
use crate::ledger::Ticks;

/// What an entity's events fold to, as JSON; says what keeps it from folding.
pub type Fold = Arc<dyn Fn(&[Arc<Record>]) -> Result<Value, String> + Send + Sync>;

/// Decides a command anew on the events before it and compares events and answer with what was
/// recorded.
pub type Judge = Arc<dyn Fn(&Judged<'_>) -> Result<(), String> + Send + Sync>;

/// What a [`Judge`] looks at.
pub struct Judged<'a> {
    /// The entity's events before the command.
    pub before: &'a [Arc<Record>],
    /// The unit that the command led to.
    pub unit: &'a [Arc<Record>],
    /// What the client was answered.
    pub answer: &'a Answer,
}

/// Sends a command to whoever answers for the entities.
pub(crate) type Ask =
    Arc<dyn Fn(Door) -> BoxFuture<'static, Result<Answer, CommandError>> + Send + Sync>;

/// What a command was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it was understood and refused.
    pub rejected: bool,
    /// The reply or the rejection.
    pub body: Value,
    /// How far the log reaches with it; not known of rejections.
    pub offset: Option<Offset>,
}

/// How fresh the answer to a read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// Everything that was answered before it was asked.
    Linearizable,
    /// At least what lies up to this offset.
    Session(Offset),
    /// Anything that was ever true.
    Eventual,
}

/// What was asked of an entity.
#[derive(Clone)]
pub enum What {
    /// A command with an id, repeated until it was answered.
    Command {
        /// The id.
        id: Uuid,
        /// The command's name.
        name: &'static str,
        /// `None` if it was given up: it may or may not have been done.
        answer: Option<Answer>,
        /// `None` where only the recorded answer is compared.
        judge: Option<Judge>,
    },
    /// A read that was answered.
    Read {
        /// How fresh it had to be.
        strength: Strength,
        /// The version that was seen.
        version: u64,
        /// The state that was seen.
        state: Value,
        /// What state a version has.
        fold: Fold,
    },
}

/// One thing that a client asked of an entity.
#[derive(Clone)]
pub struct Operation {
    /// Its number in the run.
    pub number: u32,
    /// The entity; of a command to several, the first.
    pub entity: EntityKey,
    /// The entity's partition.
    pub partition: Partition,
    /// When it was asked, in the order of all questions and answers.
    pub asked: u64,
    /// When it was answered; `None` if it was given up.
    pub answered: Option<u64>,
    /// What.
    pub what: What,
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operation {} on {}: ", self.number, self.entity)?;
        match &self.what {
            What::Command {
                id, name, answer, ..
            } => match answer {
                Some(answer) => write!(f, "{name} {id} answered {}", answer.body),
                None => write!(f, "{name} {id} given up"),
            },
            What::Read {
                strength,
                version,
                state,
                ..
            } => write!(f, "read ({strength:?}) of version {version}: {state}"),
        }
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("{checker}: {what}")]
pub struct Violation {
    /// Which checker noticed.
    pub checker: &'static str,
    /// What it saw.
    pub what: String,
}

impl Violation {
    /// A violation that a checker noticed.
    pub fn new(checker: &'static str, what: impl Into<String>) -> Self {
        Self {
            checker,
            what: what.into(),
        }
    }
}

#[derive(Default)]
pub(crate) struct Book {
    pub(crate) operations: Vec<Operation>,
    /// How to ask for the answer of a command again.
    pub(crate) again: Vec<(usize, Ask)>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) view_reads: u64,
    pub(crate) given_up: u64,
}

/// What all clients write into.
pub(crate) struct History {
    book: Mutex<Book>,
    ticks: Ticks,
}

impl History {
    pub(crate) fn new(ticks: Ticks) -> Self {
        Self {
            book: Mutex::default(),
            ticks,
        }
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tick(&self) -> u64 {
        self.ticks.next()
    }

    pub(crate) fn note(&self, operation: Operation) -> usize {
        let mut book = self.book();
        book.operations.push(operation);
        book.operations.len() - 1
    }

    pub(crate) fn violated(&self, violation: Violation) {
        self.book().violations.push(violation);
    }
}
