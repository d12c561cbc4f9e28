//! Builds that break a promise: a checker is trusted once such a build makes it fail.

use std::str::FromStr;

/// A broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// The store appends whoever asks.
    EpochUnchecked,
    /// The store answers before what it answers is durable: its flushes do nothing.
    AnswerBeforeDurability,
    /// A new owner reads a log that does not say which commands were decided.
    IdsForgotten,
    /// The store keeps rows and checkpoints of whoever asks, and compares no revisions.
    CheckpointUnfenced,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::EpochUnchecked,
        Self::AnswerBeforeDurability,
        Self::IdsForgotten,
        Self::CheckpointUnfenced,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::EpochUnchecked => "epoch-unchecked",
            Self::AnswerBeforeDurability => "answer-before-durability",
            Self::IdsForgotten => "ids-forgotten",
            Self::CheckpointUnfenced => "checkpoint-unfenced",
        }
    }
}

/// Text that names no mutation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no mutation: choose `epoch-unchecked`, `answer-before-durability`, `ids-forgotten` or `checkpoint-unfenced`"
)]
pub struct BadMutation(String);

impl FromStr for Mutation {
    type Err = BadMutation;

    fn from_str(text: &str) -> Result<Self, BadMutation> {
        let named = Self::ALL
            .into_iter()
            .find(|mutation| mutation.name() == text);
        named.ok_or_else(|| BadMutation(text.to_owned()))
    }
}
