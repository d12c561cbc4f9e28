//! Verification: every checksum, every record, every link of the chain, every version, every index.

mod check;
mod indexes;

use std::collections::BTreeMap;

use crate::disk::{Access, Disk};
use crate::error::{Damage, OpenError};
use crate::open::{LOCK, forms, header_somewhere, is_begun, refuse_unfinished};
use crate::sealed;
use crate::segment;
use crate::segments::Form;
use crate::trim::{MARKER, Marker};

pub(crate) use check::Check;
pub(crate) use indexes::Indexes;

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Records of all kinds.
    pub records: u64,
    /// Events among them.
    pub events: u64,
    /// Records that were trimmed, and of which only digests are left.
    pub trimmed: u64,
    /// Segments in use.
    pub segments: u64,
    /// Bytes looked at.
    pub bytes: u64,
    /// Remains of a last write that was never acknowledged: the file, where, and how many bytes.
    /// Opening the log cuts them off.
    pub torn: Option<(String, u64, u64)>,
    /// What is not as it was written; empty if all is well.
    pub damage: Vec<Damage>,
    /// Indexes that do not say what the segments do. Nothing is lost: one that is removed is made
    /// again when the log is opened.
    pub indexes: Vec<Damage>,
}

/// How often progress is told.
const STEP: u64 = 1 << 20;

/// Checks all of a log without changing it, while nobody else has it open. `progress` is told bytes
/// done and bytes in all.
///
/// # Errors
/// [`OpenError`] where there is no log to look at; what is wrong with one is in the answer.
pub fn verify(disk: &dyn Disk, progress: &mut dyn FnMut(u64, u64)) -> Result<Verified, OpenError> {
    let directory = disk.description().path;
    let names = disk.list().map_err(OpenError::io(&directory))?;
    refuse_unfinished(&directory, &names)?;
    if forms(&names).is_empty() {
        return Err(OpenError::Invalid(format!(
            "there is no log in {directory}"
        )));
    }
    let lock = disk.lock(LOCK).map_err(OpenError::io(LOCK))?;
    let _lock = lock.ok_or(OpenError::InUse { directory })?;
    whole(disk, progress).map(|check| check.found)
}

/// The same for a directory that nobody else can change.
pub(crate) fn whole(
    disk: &dyn Disk,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Check, OpenError> {
    let directory = disk.description().path;
    let names = disk.list().map_err(OpenError::io(&directory))?;
    let mut check = Check::default();
    let first = match names.iter().any(|name| name == MARKER) {
        true => check.begins_behind(Marker::read(disk)),
        false => 1,
    };
    let forms = in_use(disk, forms(&names).split_off(&first), first, &mut check)?;
    let mut total = 0;
    for (generation, form) in &forms {
        total += bytes_of(disk, *generation, *form).unwrap_or_default();
    }
    if let Some(identity) = header_somewhere(disk, &forms).map(|header| header.identity) {
        let mut indexes = Indexes::open(disk, &names, identity.incarnation);
        indexes.expect(&forms);
        check.indexes = Some(indexes);
    }
    let mut expected = None;
    for (generation, form) in &forms {
        if expected.is_some_and(|expected| expected != *generation) {
            check.skipped(generation - 1);
        }
        expected = Some(generation + 1);
        let before = check.found.bytes;
        let has_next = forms.contains_key(&(generation + 1));
        let mut tell = |done| progress(before + done, total);
        check.segment(disk, *generation, *form, has_next, &mut tell)?;
        check.found.bytes = before + bytes_of(disk, *generation, *form).unwrap_or_default();
        progress(check.found.bytes, total);
    }
    check.compare_indexes();
    Ok(check)
}

/// Leaves out a segment that was prepared and not begun, and reports those that are missing.
fn in_use(
    disk: &dyn Disk,
    mut forms: BTreeMap<u64, Form>,
    first: u64,
    check: &mut Check,
) -> Result<BTreeMap<u64, Form>, OpenError> {
    let mut missing = Vec::new();
    let mut expected = first;
    for found in forms.keys() {
        missing.extend(expected..*found);
        expected = found + 1;
    }
    let last = expected - 1;
    if let Some(before) = header_somewhere(disk, &forms)
        && forms.len() > 1
        && forms.get(&last) == Some(&Form::Plain)
        && !is_begun(disk, last, before.first_frame())?
    {
        forms.remove(&last);
    }
    if let Some((last, Form::Sealed)) = forms.last_key_value() {
        // What is sealed was followed by another segment.
        missing.push(last + 1);
    }
    for generation in missing {
        check.damaged(Damage {
            passing: false,
            file: segment::name(generation),
            at: 0,
            expected: "a segment, since others belong behind or before it".into(),
            found: "no file".into(),
        });
    }
    Ok(forms)
}

/// The file of a segment; that of generation 0 says that history was trimmed.
pub(crate) fn file_name(generation: u64, form: Form) -> String {
    match form {
        _ if generation == 0 => MARKER.to_owned(),
        Form::Plain => segment::name(generation),
        Form::Sealed => sealed::name(generation),
    }
}

pub(crate) fn bytes_of(disk: &dyn Disk, generation: u64, form: Form) -> Result<u64, OpenError> {
    let name = file_name(generation, form);
    let length = || disk.open(&name, Access::Read)?.len();
    length().map_err(OpenError::io(&name))
}
