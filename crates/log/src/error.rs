//! Why a log does not open, and what is wrong with a damaged one.

use everfold_engine::position::Incarnation;

/// Bytes that are not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} at byte {at}: expected {expected}, found {found}")]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where in the file.
    pub at: u64,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// Whether the device failed to read it. That may pass: nothing is known to be wrong with what is
    /// stored.
    pub passing: bool,
}

/// A log that was not opened. Nothing that was acknowledged was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "{directory} is in use by another process; stop that one first, or use another directory"
    )]
    InUse {
        /// The directory.
        directory: String,
    },
    /// Not a log's directory.
    #[error(
        "{directory} holds no log but the file {file:?}; give an empty directory, or that of a log"
    )]
    Foreign {
        /// The directory.
        directory: String,
        /// The unexpected file.
        file: String,
    },
    /// A segment of something else.
    #[error(
        "{file} at byte 0: expected a segment of a log, found something else; move the file away if it was put there by mistake, else restore the log from a backup"
    )]
    NotASegment {
        /// The file.
        file: String,
    },
    /// Written by a newer version.
    #[error(
        "{file} at byte 8: it has format {found}, this version reads up to {known}; use the version that wrote it, or a newer one"
    )]
    Newer {
        /// The file.
        file: String,
        /// Its format.
        found: u32,
        /// The newest known one.
        known: u32,
    },
    /// A gap between segments.
    #[error("{missing} is missing although later segments exist; restore it from a backup")]
    MissingSegment {
        /// The file that should exist.
        missing: String,
    },
    /// A segment of another log.
    #[error(
        "{file} at byte 24: expected incarnation {expected}, found {found}; the file is of another log, put the right one in its place"
    )]
    MixedLogs {
        /// The file.
        file: String,
        /// The log's incarnation.
        expected: Incarnation,
        /// The file's.
        found: Incarnation,
    },
    /// The log was made otherwise than asked for.
    #[error(
        "the log in {directory} was made with {what} {actual}, not {asked}; leave the option out, or use another directory"
    )]
    Different {
        /// The directory.
        directory: String,
        /// Which property.
        what: &'static str,
        /// The log's.
        actual: String,
        /// The option's.
        asked: String,
    },
    /// A restore that was cut short.
    #[error("a restore into {directory} was cut short; run it again, it begins anew")]
    Unfinished {
        /// The directory.
        directory: String,
    },
    /// A backup, which no log is written into.
    #[error(
        "{directory} is a backup, not a log; restore it into another directory with `everfold restore`"
    )]
    Backup {
        /// The directory.
        directory: String,
    },
    /// An option without a meaning.
    #[error("{0}")]
    Invalid(String),
    /// Acknowledged bytes are missing or wrong.
    #[error("damaged: {0}; run `everfold verify` and restore the file from a backup")]
    Damaged(#[from] Damage),
    /// What the system says.
    #[error("{file}: {source}; see that the directory can be read and written")]
    Io {
        /// The file.
        file: String,
        /// The system's error.
        source: std::io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(file: &str) -> impl FnOnce(std::io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Io { file, source }
    }
}
