//! Where a measurement puts its files, and how it says what it found.

use std::fmt::Display;
use std::path::PathBuf;

use serde::Serialize;

/// What every measurement is asked.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Output {
    /// Print one line of JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Measure in a fresh directory below this one, on a disk; removed at the end.
    #[arg(long)]
    pub data: Option<PathBuf>,
}

impl Output {
    /// Prints a report to standard output.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub(crate) fn print<R: Serialize>(
        &self,
        report: &R,
        table: impl FnOnce(&R) -> String,
    ) -> anyhow::Result<()> {
        match self.json {
            true => println!("{}", serde_json::to_string(report)?),
            false => print!("{}", table(report)),
        }
        Ok(())
    }
}

/// Tells who waits how far a measurement is: on standard error, for standard output has the report.
pub(crate) fn say(progress: impl Display) {
    eprintln!("{progress}");
}
