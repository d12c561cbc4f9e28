//! What happened, as bytes to compare.

use std::fmt::{Arguments, Write};
use std::time::Duration;

/// Lines of a run. Past a limit only the hash goes on, so that long runs do not fill the memory.
pub(crate) struct Trace {
    lines: String,
    line: String,
    limit: usize,
    hash: u64,
}

/// What ran in a step.
pub(crate) struct Ran<'a> {
    pub(crate) label: &'static str,
    pub(crate) name: &'static str,
    pub(crate) number: u64,
    pub(crate) process: &'a str,
}

impl Trace {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            lines: String::new(),
            line: String::new(),
            limit,
            hash: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// Something that happened beside the steps.
    pub(crate) fn add(&mut self, step: u64, now: Duration, what: Arguments<'_>) {
        self.line.clear();
        // Writing to a string cannot fail.
        let _ = writeln!(self.line, "{step} {} {what}", now.as_micros());
        let bytes = self.line.bytes();
        self.hash = bytes.fold(self.hash, |hash, byte| mixed(hash, u64::from(byte)));
        if self.lines.len() < self.limit {
            self.lines.push_str(&self.line);
        }
    }

    /// A step. There are so many of them that no text is made of one that nobody will read.
    pub(crate) fn step(&mut self, step: u64, now: Duration, ran: Ran<'_>) {
        let Ran {
            label,
            name,
            number,
            process,
        } = ran;
        let numbers = [step, now.as_micros() as u64, number].into_iter();
        let texts = [label, name, process].into_iter().flat_map(str::bytes);
        self.hash = numbers.chain(texts.map(u64::from)).fold(self.hash, mixed);
        if self.lines.len() < self.limit {
            let now = now.as_micros();
            let _ = writeln!(self.lines, "{step} {now} {label} {name} {number} {process}");
        }
    }

    pub(crate) fn lines(&self) -> &str {
        &self.lines
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}

/// As FNV-1a does, 64 bits: detects a difference, resists nobody.
fn mixed(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x0100_0000_01b3)
}
