//! What clients asked for and were told, in Jepsen's form: one JSON object a line, so that checkers
//! of others can read it too.
//!
//! The order of the lines is the order in which things happened. Whose outcome is not known ends
//! with `info`; it may take effect at any later moment, or never, and its client goes on under
//! another number, so that a process has one operation under way at most.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a line says of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is asked for.
    Invoke,
    /// It was done.
    Ok,
    /// It was not done, and will not be.
    Fail,
    /// Nobody knows.
    Info,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Who asks.
    pub process: u64,
    /// What this says of the operation.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What is asked for: `read`, `write`, `cas` and so on.
    pub f: String,
    /// Of what.
    pub key: String,
    /// The arguments; of an operation that was done, what came of it.
    pub value: Value,
    /// Nanoseconds since the history begins.
    pub time: u64,
    /// Why it failed or is not known; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was done, with this value.
    Done(Value),
    /// It was not done.
    Refused,
    /// It may take effect at any moment, or never.
    Unknown,
}

/// An operation from its beginning to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Who asked.
    pub process: u64,
    /// For what.
    pub f: String,
    /// Of what.
    pub key: String,
    /// The arguments.
    pub asked: Value,
    /// What became of it.
    pub outcome: Outcome,
    /// Its place among all lines.
    pub begun: usize,
    /// The place of its end; none if it has no known end.
    pub ended: Option<usize>,
    /// When it was asked for, in nanoseconds.
    pub begun_at: u64,
    /// When it ended, if it did.
    pub ended_at: Option<u64>,
}

impl Operation {
    /// What was asked and what came of it, for people.
    pub fn shown(&self) -> String {
        let millis = |time: u64| time / 1_000_000;
        let (f, key, asked) = (&self.f, &self.key, &self.asked);
        let from = millis(self.begun_at);
        let asked = match asked {
            Value::Null => String::new(),
            value => format!(" {value}"),
        };
        let what = format!("process {}: {f} {key}{asked}", self.process);
        match (&self.outcome, self.ended_at) {
            (Outcome::Done(value), Some(at)) => {
                format!("{what} -> {value} ({from} to {} ms)", millis(at))
            }
            (Outcome::Refused, Some(at)) => {
                format!("{what}, refused ({from} to {} ms)", millis(at))
            }
            _ => format!("{what}, outcome unknown (from {from} ms)"),
        }
    }
}

/// Lines that are no history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file.
    #[error("the history cannot be read: {0}")]
    Read(#[from] io::Error),
    /// One line.
    #[error("line {line} of the history is none of its form: {reason}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// Why.
        reason: String,
    },
    /// A process does two things at once, or ends what it has not begun.
    #[error("line {line} of the history: process {process} {what}")]
    Order {
        /// Which, from 1.
        line: usize,
        /// Who.
        process: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Reads lines.
///
/// # Errors
/// [`HistoryError::Read`] and [`HistoryError::Line`].
pub fn read(lines: impl BufRead) -> Result<Vec<Entry>, HistoryError> {
    let mut entries = Vec::new();
    for (index, line) in lines.lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let entry = serde_json::from_str(&line).map_err(|error| HistoryError::Line {
            line: index + 1,
            reason: error.to_string(),
        })?;
        entries.push(entry);
    }
    Ok(entries)
}

/// Puts beginnings and ends together, in the order of the beginnings. What has no end is unknown.
///
/// # Errors
/// [`HistoryError::Order`].
pub fn operations(entries: &[Entry]) -> Result<Vec<Operation>, HistoryError> {
    let mut operations: Vec<Operation> = Vec::new();
    let mut open: BTreeMap<u64, usize> = BTreeMap::new();
    for (place, entry) in entries.iter().enumerate() {
        let wrong = |what| HistoryError::Order {
            line: place + 1,
            process: entry.process,
            what,
        };
        if entry.kind == Kind::Invoke {
            let busy = open.insert(entry.process, operations.len());
            if busy.is_some() {
                return Err(wrong("begins something before it has ended another"));
            }
            operations.push(Operation {
                process: entry.process,
                f: entry.f.clone(),
                key: entry.key.clone(),
                asked: entry.value.clone(),
                outcome: Outcome::Unknown,
                begun: place,
                ended: None,
                begun_at: entry.time,
                ended_at: None,
            });
            continue;
        }
        let begun = open.remove(&entry.process);
        let operation = begun.and_then(|index| operations.get_mut(index));
        let operation = operation.ok_or_else(|| wrong("ends what it has not begun"))?;
        if (&operation.f, &operation.key) != (&entry.f, &entry.key) {
            return Err(wrong("ends something else than it has begun"));
        }
        operation.outcome = match entry.kind {
            Kind::Ok => Outcome::Done(entry.value.clone()),
            Kind::Fail => Outcome::Refused,
            Kind::Invoke | Kind::Info => continue,
        };
        operation.ended = Some(place);
        operation.ended_at = Some(entry.time);
    }
    Ok(operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(text: &str) -> Result<Vec<Operation>, HistoryError> {
        operations(&read(text.as_bytes())?)
    }

    const TWO: &str = r#"
{"process":0,"type":"invoke","f":"write","key":"k1","value":3,"time":10}
{"process":1,"type":"invoke","f":"cas","key":"k1","value":[3,4],"time":20}
{"process":0,"type":"ok","f":"write","key":"k1","value":3,"time":30}
{"process":1,"type":"info","f":"cas","key":"k1","value":[3,4],"time":40,"error":"deadline"}
{"process":2,"type":"invoke","f":"read","key":"k1","value":null,"time":50}
"#;

    #[test]
    fn beginnings_and_ends_are_put_together() {
        let operations = history(TWO).unwrap();
        let ended = |at: usize| (operations[at].ended, operations[at].outcome.clone());
        assert_eq!(ended(0), (Some(2), Outcome::Done(3.into())));
        // Neither an end that is not known nor none is an end.
        assert_eq!(ended(1), (None, Outcome::Unknown));
        assert_eq!(ended(2), (None, Outcome::Unknown));
    }

    #[test]
    fn lines_are_written_as_they_are_read() {
        let entries = read(TWO.as_bytes()).unwrap();
        let lines = entries.iter().map(|it| serde_json::to_string(it).unwrap());
        let lines: Vec<String> = lines.collect();
        assert_eq!(lines.join("\n"), TWO.trim());
    }

    #[test]
    fn what_is_no_history_is_refused() {
        let begin = r#"{"process":0,"type":"invoke","f":"read","key":"k","value":null,"time":1}"#;
        let end = r#"{"process":0,"type":"ok","f":"read","key":"k","value":1,"time":1}"#;
        let other = r#"{"process":0,"type":"ok","f":"read","key":"l","value":1,"time":1}"#;
        for lines in [
            format!("{begin}\n{begin}"),
            end.to_owned(),
            format!("{begin}\n{other}"),
            format!("{begin}\n{end}\n{end}"),
        ] {
            let refused = history(&lines);
            assert!(
                matches!(refused, Err(HistoryError::Order { .. })),
                "{lines}"
            );
        }
        let refused = history("{\"process\":0}");
        assert!(matches!(refused, Err(HistoryError::Line { line: 1, .. })));
    }
}
