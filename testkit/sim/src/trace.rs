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

impl Trace {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            lines: String::new(),
            line: String::new(),
            limit,
            hash: 0xcbf2_9ce4_8422_2325,
        }
    }

    pub(crate) fn add(&mut self, step: u64, now: Duration, what: Arguments<'_>) {
        self.line.clear();
        // Writing to a string cannot fail.
        let _ = writeln!(self.line, "{step} {} {what}", now.as_micros());
        // FNV-1a, 64 bits: detects a difference, resists nobody.
        for byte in self.line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.lines.len() < self.limit {
            self.lines.push_str(&self.line);
        }
    }

    pub(crate) fn lines(&self) -> &str {
        &self.lines
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}
