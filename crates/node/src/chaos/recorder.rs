//! Writes a history while it happens.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use super::history::{Entry, Kind};
use super::workload::{Answer, Request};

/// A history that grows. Lines stand in the order of their times, whoever they are of.
pub struct Recorder {
    began: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    entries: Vec<Entry>,
    file: Option<BufWriter<File>>,
    failed: Option<std::io::Error>,
    processes: u64,
}

impl Recorder {
    /// An empty history, kept in a file too if one is named. Time begins now.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new(path: Option<&Path>) -> anyhow::Result<Self> {
        let file = path.map(|path| {
            let made = File::create(path);
            made.with_context(|| format!("the history {} cannot be made", path.display()))
        });
        Ok(Self {
            began: Instant::now(),
            inner: Mutex::new(Inner {
                entries: Vec::new(),
                file: file.transpose()?.map(BufWriter::new),
                failed: None,
                processes: 0,
            }),
        })
    }

    /// Since time began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// A number that no process has had.
    pub fn process(&self) -> u64 {
        let mut inner = self.inner();
        inner.processes += 1;
        inner.processes - 1
    }

    /// Somebody asks.
    pub fn invoke(&self, process: u64, request: &Request) {
        self.note(process, Kind::Invoke, request, request.value.clone(), None);
    }

    /// Somebody was answered.
    pub fn answered(&self, process: u64, request: &Request, answer: &Answer) {
        let (value, error) = (answer.value.clone(), answer.error.clone());
        self.note(process, answer.kind, request, value, error);
    }

    fn note(
        &self,
        process: u64,
        kind: Kind,
        request: &Request,
        value: Value,
        error: Option<String>,
    ) {
        let mut inner = self.inner();
        // Under the lock, so that the order of the lines is that of the times.
        let entry = Entry {
            process,
            kind,
            f: request.f.to_owned(),
            key: request.key.clone(),
            value,
            time: self.began.elapsed().as_nanos() as u64,
            error,
        };
        if let Some(file) = &mut inner.file {
            let line = serde_json::to_string(&entry).unwrap_or_default();
            if let Err(error) = writeln!(file, "{line}") {
                inner.failed = Some(error);
            }
        }
        inner.entries.push(entry);
    }

    /// All lines.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn finish(&self) -> anyhow::Result<Vec<Entry>> {
        let mut inner = self.inner();
        if let Some(mut file) = inner.file.take() {
            file.flush().context("the history cannot be written")?;
        }
        match inner.failed.take() {
            Some(error) => Err(error).context("the history cannot be written"),
            None => Ok(std::mem::take(&mut inner.entries)),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
