//! Which segments a directory holds, and whether they belong together.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{CREATING, LOCK};
use crate::areas;
use crate::disk::{Access, BLOCK, Disk};
use crate::error::{Damage, OpenError};
use crate::recovery::{Expectation, next_data};
use crate::sealed;
use crate::segment::{self, BadHeader, SegmentHeader};
use crate::segments::Form;
use crate::trim::{MARKER, Marker};

/// What a directory holds.
pub(crate) struct Survey {
    /// Every file.
    pub(crate) names: Vec<String>,
    /// The segments in use, in the form to read them in.
    pub(crate) forms: BTreeMap<u64, Form>,
    /// Where history begins, if some was trimmed.
    pub(crate) trimmed: Option<Marker>,
    /// The segment that was written last.
    pub(crate) active: Segment,
}

/// The most that a header takes.
const HEADER_LIMIT: u64 = 64 << 10;

/// A segment in use.
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// Where its frames end, if the next segment says so.
    pub(crate) sealed_end: Option<u64>,
}

impl Segment {
    pub(crate) fn expectation(&self) -> Expectation {
        Expectation {
            incarnation: self.header.identity.incarnation.0,
            generation: self.header.generation,
            first_frame: self.header.first_frame(),
            last_flush: self.header.last_flush,
            sealed_end: self.sealed_end,
        }
    }

    pub(crate) fn damage(
        &self,
        at: u64,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Damage {
        Damage {
            passing: false,
            file: self.name.clone(),
            at,
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// Refuses a directory that holds something, and no segment.
pub(crate) fn refuse_foreign(directory: &str, names: &[String]) -> Result<(), OpenError> {
    if !super::forms(names).is_empty() {
        return Ok(());
    }
    let ours = [LOCK, CREATING, "lost+found", ".probe"];
    match names.iter().find(|name| !ours.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) if name == areas::FILE => Err(missing(1)),
        Some(file) => Err(OpenError::Foreign {
            directory: directory.to_owned(),
            file: file.clone(),
        }),
    }
}

/// Looks at the names of a directory, and at the headers of its last segments; `None` if there is no
/// log yet.
pub(crate) fn survey(disk: &dyn Disk) -> Result<Option<Survey>, OpenError> {
    let directory = disk.description().path;
    let names = disk.list().map_err(OpenError::io(&directory))?;
    let mut forms = super::forms(&names);
    if forms.is_empty() {
        refuse_foreign(&directory, &names)?;
        return Ok(None);
    }
    let trimmed = match names.iter().any(|name| name == MARKER) {
        true => Some(Marker::read(disk)?),
        false => None,
    };
    let first = trimmed.as_ref().map_or(1, |marker| marker.first);
    // What is left of trimmed segments is on its way out.
    forms = forms.split_off(&first);
    for (expected, found) in (first..).zip(forms.keys()) {
        if expected != *found {
            return Err(missing(expected));
        }
    }
    let Some(mut last) = forms.keys().next_back().copied() else {
        return Err(missing(first));
    };
    let mut before = header_before(disk, &forms, last)?;
    let mut active = match forms[&last] {
        Form::Plain => read_header(disk, last, before.as_ref())?,
        // What is sealed was followed by another segment.
        Form::Sealed => return Err(missing(last + 1)),
    };
    if active.is_none() && last > first {
        // It was prepared, and not begun.
        forms.remove(&last);
        last -= 1;
        if forms[&last] == Form::Sealed {
            return Err(missing(last + 1));
        }
        before = header_before(disk, &forms, last)?;
        active = Some(segment_of(disk, last)?);
    }
    let active = active.ok_or_else(|| missing(last))?;
    if let Some(before) = &before {
        check_neighbours(before, &active)?;
    }
    let identity = &active.header.identity;
    if let Some(marker) = &trimmed
        && marker.incarnation != identity.incarnation
    {
        return Err(OpenError::MixedLogs {
            file: MARKER.into(),
            expected: identity.incarnation,
            found: marker.incarnation,
        });
    }
    Ok(Some(Survey {
        names,
        forms,
        trimmed,
        active,
    }))
}

fn missing(generation: u64) -> OpenError {
    OpenError::MissingSegment {
        missing: segment::name(generation),
    }
}

/// The header of the segment before, if there is one.
fn header_before(
    disk: &dyn Disk,
    forms: &BTreeMap<u64, Form>,
    generation: u64,
) -> Result<Option<SegmentHeader>, OpenError> {
    let before = generation - 1;
    match forms.get(&before) {
        Some(Form::Plain) => header_of(disk, before).map(Some),
        Some(Form::Sealed) => sealed::header_of(disk, before).map(|header| Some(header.segment)),
        None => Ok(None),
    }
}

/// The header of a plain segment that has to have one.
pub(crate) fn header_of(disk: &dyn Disk, generation: u64) -> Result<SegmentHeader, OpenError> {
    segment_of(disk, generation).map(|segment| segment.header)
}

/// A plain segment that has to have a header.
pub(crate) fn segment_of(disk: &dyn Disk, generation: u64) -> Result<Segment, OpenError> {
    let segment = read_header(disk, generation, None)?;
    segment.ok_or_else(|| missing(generation))
}

/// A segment's header, or `None` if the segment was prepared but not begun.
fn read_header(
    disk: &dyn Disk,
    generation: u64,
    before: Option<&SegmentHeader>,
) -> Result<Option<Segment>, OpenError> {
    let name = segment::name(generation);
    let read = || {
        let file = disk.open(&name, Access::Read)?;
        let bytes = file.len()?;
        let mut header = vec![0; bytes.min(HEADER_LIMIT + BLOCK as u64) as usize];
        file.read_at(0, &mut header)?;
        Ok((bytes, header))
    };
    let (bytes, start) = read().map_err(OpenError::io(&name))?;
    let bad = match SegmentHeader::decode(&start) {
        Ok(header) if header.generation == generation => {
            return Ok(Some(Segment {
                header,
                name,
                bytes,
                sealed_end: None,
            }));
        }
        Ok(_) => BadHeader::Damaged,
        Err(bad) => bad,
    };
    if let BadHeader::Newer(found) = bad {
        return Err(OpenError::Newer {
            file: name,
            found,
            known: segment::FORMAT,
        });
    }
    // Frames follow a header only after it is durable: a bad header without frames was torn.
    // They begin where headers end, so of a segment that holds nothing but zeros there and before
    // the rest need not be read.
    if let Some(before) = before {
        let first = before.first_frame() as usize;
        let prepared = bad == BadHeader::Zero && next_data(&start, 0).is_none();
        let unused = match prepared && start.len() >= first + BLOCK {
            true => true,
            false => next_data(&read_whole(disk, &name)?, first).is_none(),
        };
        if unused {
            return Ok(None);
        }
    }
    Err(match bad {
        BadHeader::Foreign => OpenError::NotASegment { file: name },
        _ => OpenError::Damaged(Damage {
            passing: false,
            file: name,
            at: 0,
            expected: "a segment's header".into(),
            found: "one that is cut or changed".into(),
        }),
    })
}

/// Two segments that follow each other have to be of one log.
pub(crate) fn check_neighbours(before: &SegmentHeader, after: &Segment) -> Result<(), OpenError> {
    let (old, new) = (&before.identity, &after.header.identity);
    if old.incarnation != new.incarnation {
        return Err(OpenError::MixedLogs {
            file: after.name.clone(),
            expected: old.incarnation,
            found: new.incarnation,
        });
    }
    if old != new {
        return Err(after
            .damage(
                24,
                "the names, layout and chain of the segment before",
                "others",
            )
            .into());
    }
    Ok(())
}

/// A file's bytes.
pub(crate) fn read_whole(disk: &dyn Disk, name: &str) -> Result<Bytes, OpenError> {
    let read = || {
        let file = disk.open(name, Access::Read)?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_at(0, &mut bytes)?;
        Ok(bytes.into())
    };
    read().map_err(OpenError::io(name))
}

/// A segment has its whole length before it is used.
pub(crate) fn check_length(segment: &Segment) -> Result<(), Damage> {
    if segment.bytes >= segment.header.capacity {
        return Ok(());
    }
    Err(segment.damage(
        segment.bytes,
        format!("a file of {} bytes", segment.header.capacity),
        "its end",
    ))
}
