//! What the names of a directory's files say.

use std::collections::BTreeMap;

use super::{Segment, header_of, read_whole, segment_of};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::recovery::next_data;
use crate::sealed;
use crate::segment::{self, SegmentHeader};
use crate::segments::Form;

/// What a backup holds.
pub(crate) const MANIFEST: &str = "backup.manifest";
/// There while a log is being restored.
pub(crate) const RESTORING: &str = "restoring";

/// The segments among some files, in the form to read them in.
pub(crate) fn forms(names: &[String]) -> BTreeMap<u64, Form> {
    let plain = names.iter().filter_map(|name| segment::generation(name));
    let mut forms: BTreeMap<u64, Form> =
        plain.map(|generation| (generation, Form::Plain)).collect();
    let packed = names.iter().filter_map(|name| sealed::generation(name));
    forms.extend(packed.map(|generation| (generation, Form::Sealed)));
    forms
}

/// Refuses what looks like a log, or part of one, and is none.
pub(crate) fn refuse_unfinished(directory: &str, names: &[String]) -> Result<(), OpenError> {
    let directory = directory.to_owned();
    if names.iter().any(|name| name == RESTORING) {
        return Err(OpenError::Unfinished { directory });
    }
    if names.iter().any(|name| name == MANIFEST) {
        return Err(OpenError::Backup { directory });
    }
    Ok(())
}

/// The header of the last segment that has one which can be read.
pub(crate) fn header_somewhere(
    disk: &dyn Disk,
    forms: &BTreeMap<u64, Form>,
) -> Option<SegmentHeader> {
    let header = |(generation, form): (&u64, &Form)| match form {
        Form::Plain => header_of(disk, *generation).ok(),
        Form::Sealed => sealed::header_of(disk, *generation)
            .ok()
            .map(|header| header.segment),
    };
    forms.iter().rev().find_map(header)
}

/// Whether a segment was written to, rather than prepared only: frames follow a header after it is
/// durable, so a bad header without frames was torn.
pub(crate) fn is_begun(
    disk: &dyn Disk,
    generation: u64,
    first_frame: u64,
) -> Result<bool, OpenError> {
    if segment_of(disk, generation).is_ok() {
        return Ok(true);
    }
    let bytes = read_whole(disk, &segment::name(generation))?;
    Ok(next_data(&bytes, first_frame as usize).is_some())
}

/// A segment however it is stored, as far as its header says.
pub(crate) fn segment_in_any_form(disk: &dyn Disk, generation: u64) -> Result<Segment, OpenError> {
    segment_of(disk, generation).or_else(|plain| match sealed::header_of(disk, generation) {
        Ok(header) => Ok(Segment {
            header: header.segment,
            name: sealed::name(generation),
            bytes: 0,
            sealed_end: None,
        }),
        Err(OpenError::Io { .. }) => Err(plain),
        Err(sealed) => Err(sealed),
    })
}
