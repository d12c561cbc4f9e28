//! What was found.

use std::fmt;

/// A place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// From the root of the repository.
    pub path: String,
    /// From 1; 0 if it is about the whole file.
    pub line: usize,
    /// The rule's name, as exceptions give it.
    pub rule: &'static str,
    /// What is there, and what should be.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            rule,
            what,
        } = self;
        write!(f, "{path}:{line}: {rule}: {what}")
    }
}
