//! How the process ends.

use std::fmt::Display;
use std::process::ExitCode;

use everfold::engine::coordination::JoinError;
use everfold::engine::engine::OwnerError;
use everfold_cluster::{AuthorityError, ClusterError};
use everfold_log::{BackupError, OpenError};
use everfold_postgres::OpenError as DatabaseError;
use everfold_postgres::server::ServerError;

use crate::output::Unread;

/// For `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  not understood: see --help
  3  refused, or damage was found; `verify` has codes of its own";

/// Something that the program will not do, or damage that it found; the text says what to do next.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Damage that a verification found.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Damaged(pub String);

/// A verification that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("not verified")]
pub struct NotLookedAt;

/// An error that says what is refused and what to do next.
pub fn refused(reason: impl Display) -> anyhow::Error {
    Refused(reason.to_string()).into()
}

/// Whether a database was found and is none for us; away, it may come back.
fn refuses(error: &DatabaseError) -> bool {
    !matches!(
        error,
        DatabaseError::Unreachable { .. } | DatabaseError::Refused(_)
    )
}

/// Whether a cluster is none for this node; away, the store may come back.
fn is_no_member(error: &ClusterError) -> bool {
    match error {
        ClusterError::Join(JoinError::Unavailable(_)) => false,
        ClusterError::Clock { .. } | ClusterError::Alone { .. } | ClusterError::Join(_) => true,
        _ => false,
    }
}

fn is_in_the_way(error: &ServerError) -> bool {
    matches!(error, ServerError::InUse(_) | ServerError::Strange { .. })
}

/// Tells a person what went wrong, and the calling program by a code.
pub fn exit_code(outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    // Whoever read our output has what it wanted.
    if error.is::<Unread>() {
        return ExitCode::SUCCESS;
    }
    crate::output::say(&format!("error: {error:#}"));
    if error.is::<NotLookedAt>() {
        return ExitCode::from(2);
    }
    let refused = error.chain().any(|cause| {
        cause.is::<Refused>()
            || cause.is::<OpenError>()
            || cause.is::<OwnerError>()
            || cause.is::<BackupError>()
            || cause.is::<AuthorityError>()
            || cause.downcast_ref().is_some_and(refuses)
            || cause.downcast_ref().is_some_and(is_no_member)
            || cause.downcast_ref().is_some_and(is_in_the_way)
    });
    ExitCode::from(if refused { 3 } else { 1 })
}
