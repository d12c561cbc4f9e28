//! Data on standard output, everything else on standard error.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Nobody reads our output any more.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
pub struct Unread;

/// One line of data.
///
/// # Errors
/// [`Unread`] if the reader has gone, or what the system says.
pub fn line(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Unread.into()),
        other => other.context("standard output cannot be written"),
    }
}

/// One object as one line of data.
///
/// # Errors
/// As for [`line()`].
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// A line for people. Who does not listen misses it; that is no failure.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Text from a log on its way to a terminal: nothing in it may steer the terminal.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        // Besides control characters, those that turn the direction of writing around.
        let turns = matches!(character, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || turns {
            plain.extend(character.escape_unicode());
        } else {
            plain.push(character);
        }
    }
    plain
}

/// The same for text of several lines.
pub fn plain_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(plain).collect();
    lines.join("\n")
}

/// How far long work has come: a bar on a terminal, now and then a line elsewhere.
pub struct Progress {
    bar: ProgressBar,
    what: &'static str,
    said: Option<Mutex<Instant>>,
}

impl Progress {
    const PAUSE: Duration = Duration::from_secs(5);

    /// Work of this length.
    pub fn new(what: &'static str, length: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        let style = "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_message(what);
        let terminal = io::stderr().is_terminal();
        Self {
            bar,
            what,
            said: (!terminal).then(|| Mutex::new(Instant::now())),
        }
    }

    /// So much is done.
    pub fn reach(&self, position: u64) {
        self.bar.set_position(position);
        if let Some(said) = &self.said {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            if said.elapsed() >= Self::PAUSE {
                *said = Instant::now();
                let length = self.bar.length().unwrap_or_default();
                say(&format!("{}: {position} of {length}", self.what));
            }
        }
    }

    /// It turned out to be longer, or shorter.
    pub fn length(&self, length: u64) {
        self.bar.set_length(length);
    }

    /// All done.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
