//! The value of `--engine`.

use std::ffi::OsStr;
use std::fmt;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use everfold_postgres::without_password;

use super::PRIVATE;

/// Names the engine without showing it, and its password, to whoever lists processes.
pub const ENVIRONMENT: &str = "EVERFOLD_ENGINE";

/// How the address of a database begins.
pub(super) const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// An engine other than the embedded log. Neither `Display` nor `Debug` shows a password.
#[derive(Clone, PartialEq, Eq)]
pub enum Choice {
    /// A PostgreSQL server of its own, from the installed binaries.
    Private,
    /// The database at this address.
    Database(String),
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private => f.write_str(PRIVATE),
            Self::Database(address) => f.write_str(&without_password(address)),
        }
    }
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Choice {
    /// Whether it was not named in the arguments.
    pub(super) fn is_from_environment(&self) -> bool {
        let named = std::env::var(ENVIRONMENT).ok();
        let in_arguments =
            std::env::args().any(|word| word == "--engine" || word.starts_with("--engine="));
        !in_arguments
            && match self {
                Self::Private => named.as_deref() == Some(PRIVATE),
                Self::Database(address) => named.as_deref() == Some(address),
            }
    }
}

/// Understands what may follow `--engine`; what it refuses is not repeated, as there may be a
/// password in it.
#[derive(Clone, Copy, Debug)]
pub struct Parser;

impl TypedValueParser for Parser {
    type Value = Choice;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Choice, clap::Error> {
        match value.to_str() {
            Some(PRIVATE) => Ok(Choice::Private),
            Some(text) if SCHEMES.iter().any(|scheme| text.starts_with(scheme)) => {
                Ok(Choice::Database(text.to_owned()))
            }
            _ => Err(clap::Error::raw(
                ErrorKind::InvalidValue,
                "--engine, or EVERFOLD_ENGINE, is postgres://user:password@host:5432/database, or postgres for a private \
                 server; a directory goes with --data\n",
            )
            .with_cmd(command)),
        }
    }
}
