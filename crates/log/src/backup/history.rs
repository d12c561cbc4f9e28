//! Whether a log is the one that an earlier backup was made of, and has all that it had.

use std::sync::Arc;

use super::copy::Moment;
use super::manifest::{Manifest, Stored};
use super::view::View;
use super::{BackupError, read_pieces};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::open::{header_of, segment_in_any_form};
use crate::prefix::look_again;

/// A backup is gone on with only if the log holds all that it holds.
pub(super) fn check_history(
    source: &dyn Disk,
    target: &Arc<dyn Disk>,
    before: &Manifest,
    moment: &Moment,
) -> Result<(), BackupError> {
    let directory = target.description().path;
    let (ours, theirs) = (&moment.survey.active.header.identity, &before.identity);
    if ours != theirs {
        let name = |identity: &everfold_engine::engine::Identity| {
            format!(
                "log {} of site {}, incarnation {}",
                identity.log, identity.site, identity.incarnation
            )
        };
        return Err(BackupError::OtherLog {
            directory,
            theirs: name(theirs),
            ours: name(ours),
        });
    }
    let ahead = before
        .ends
        .iter()
        .zip(&moment.ends)
        .any(|(then, now)| then.last > now.last);
    if ahead {
        return Err(BackupError::Ahead { directory });
    }
    // The last segment's header says how every partition stood, links included; its frames go on
    // from there.
    let Some(last) = before.segments.last() else {
        return Ok(());
    };
    let active = &moment.survey.active.header;
    let view = View::new(Arc::clone(target), std::slice::from_ref(last));
    let copied = header_of(&view, last.generation);
    let copied = copied.map_err(|error| BackupError::Damaged(broken(last, &error)))?;
    let same = if last.generation == active.generation {
        copied == *active && starts_with(target, last, &moment.bytes)?
    } else {
        match look_again(|| segment_in_any_form(source, last.generation)) {
            Ok(found) => found.header == copied,
            // It was trimmed away: nothing of the backup is kept.
            Err(OpenError::MissingSegment { .. } | OpenError::Io { .. }) => {
                last.generation < active.generation
            }
            Err(error) => return Err(error.into()),
        }
    };
    if same {
        Ok(())
    } else {
        Err(BackupError::Ahead { directory })
    }
}

/// Whether a segment's bytes begin as they were copied.
fn starts_with(target: &Arc<dyn Disk>, part: &Stored, bytes: &[u8]) -> Result<bool, BackupError> {
    let mut same = true;
    let read = read_pieces(&**target, &part.name, part.part, &mut |at, piece| {
        same &= bytes.get(at as usize..at as usize + piece.len()) == Some(piece);
        Ok(())
    });
    read.map_err(BackupError::io(&part.name))?;
    Ok(same)
}

fn broken(stored: &Stored, error: &OpenError) -> crate::error::Damage {
    crate::error::Damage {
        passing: false,
        file: stored.name.clone(),
        at: 0,
        expected: "the copy of a segment".into(),
        found: error.to_string(),
    }
}
