//! Which segments a directory holds, and whether they belong together.

use bytes::Bytes;

use super::{CREATING, LOCK};
use crate::areas;
use crate::disk::{Access, Disk};
use crate::error::{Damage, OpenError};
use crate::recovery::{Expectation, next_data};
use crate::segment::{self, BadHeader, SegmentHeader};

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
            file: self.name.clone(),
            at,
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// The segments of a directory in order, none if it is empty.
pub(crate) fn survey(disk: &dyn Disk) -> Result<Vec<Segment>, OpenError> {
    let directory = disk.description().path;
    let names = disk.list().map_err(OpenError::io(&directory))?;
    let mut generations: Vec<u64> = names
        .iter()
        .filter_map(|name| segment::generation(name))
        .collect();
    generations.sort_unstable();
    if generations.is_empty() {
        let ours = [LOCK, CREATING, "lost+found", ".probe"];
        return match names.iter().find(|name| !ours.contains(&name.as_str())) {
            None => Ok(Vec::new()),
            Some(name) if name == areas::FILE => Err(OpenError::MissingSegment {
                missing: segment::name(1),
            }),
            Some(file) => Err(OpenError::Foreign {
                directory,
                file: file.clone(),
            }),
        };
    }
    for (expected, found) in (1..).zip(&generations) {
        if expected != *found {
            return Err(OpenError::MissingSegment {
                missing: segment::name(expected),
            });
        }
    }
    let mut segments: Vec<Segment> = Vec::new();
    for generation in &generations {
        let is_last = *generation == generations.len() as u64;
        let Some(segment) = read_header(disk, *generation, segments.last(), is_last)? else {
            break;
        };
        if let Some(before) = segments.last_mut() {
            check_neighbours(before, &segment)?;
            before.sealed_end = Some(segment.header.previous_end);
        }
        segments.push(segment);
    }
    Ok(segments)
}

/// A segment's header, or `None` if the segment was prepared but not begun.
fn read_header(
    disk: &dyn Disk,
    generation: u64,
    before: Option<&Segment>,
    is_last: bool,
) -> Result<Option<Segment>, OpenError> {
    let name = segment::name(generation);
    let read = || {
        let file = disk.open(&name, Access::Read)?;
        let bytes = file.len()?;
        let mut header = vec![0; bytes.min(HEADER_LIMIT) as usize];
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
    if let Some(before) = before.filter(|_| is_last) {
        let whole = read_whole(disk, &name)?;
        if next_data(&whole, before.header.first_frame() as usize).is_none() {
            return Ok(None);
        }
    }
    Err(match bad {
        BadHeader::Foreign => OpenError::NotASegment { file: name },
        _ => OpenError::Damaged(Damage {
            file: name,
            at: 0,
            expected: "a segment's header".into(),
            found: "one that is cut or changed".into(),
        }),
    })
}

fn check_neighbours(before: &Segment, after: &Segment) -> Result<(), OpenError> {
    let (old, new) = (&before.header.identity, &after.header.identity);
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
