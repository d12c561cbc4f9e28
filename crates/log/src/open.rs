//! From the files of a directory to what is known of a log.

use std::sync::Arc;

use bytes::Bytes;
use everfold_engine::World;
use everfold_engine::engine::{Epoch, Identity};
use everfold_engine::position::Incarnation;
use everfold_engine::record::Kind;
use everfold_engine::slot::Layout;

use crate::areas;
use crate::decode::Body;
use crate::disk::{Access, Aligned, BLOCK, Disk};
use crate::error::{Damage, OpenError};
use crate::frame::{FrameKind, HEADER, read_floor};
use crate::index::FramePlace;
use crate::journal::End;
use crate::options::Options;
use crate::partition::{Shard, State};
use crate::recovery::{Expectation, Found, Recovered, Verdict, next_data, recover};
use crate::segment::{self, BadHeader, NAME_LIMIT, SegmentHeader};

/// The file whose lock keeps a second process away.
pub(crate) const LOCK: &str = "lock";
/// The first segment while it is being made.
const CREATING: &str = "creating";
/// The most that a header takes.
const HEADER_LIMIT: u64 = 64 << 10;

/// What opening a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Segments in use.
    pub segments: u64,
    /// Records of all kinds.
    pub records: u64,
    /// Whether the log was closed in order.
    pub closed: bool,
    /// Remains of a last write that was never acknowledged, and were cut off: the file, where, and
    /// how many bytes.
    pub torn: Option<(String, u64, u64)>,
    /// Why the store of areas was emptied; they are made again from the log.
    pub areas_discarded: Option<String>,
}

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

/// Makes the first segment of a new log.
pub(crate) fn create(
    disk: &dyn Disk,
    world: &dyn World,
    options: &Options,
) -> Result<Segment, OpenError> {
    let layout = Layout::first(options.partitions.unwrap_or(16))
        .map_err(|error| OpenError::Invalid(error.to_string()))?;
    let name = |given: &Option<String>, default: &str| {
        let name = given.as_deref().unwrap_or(default);
        if name.is_empty() || name.len() > NAME_LIMIT {
            return Err(OpenError::Invalid(format!(
                "the name {name:?}: names of logs and sites have 1 to {NAME_LIMIT} bytes"
            )));
        }
        Ok(name.into())
    };
    let high = u128::from(world.random()) << 64;
    let capacity = options
        .capacity(1)
        .max(segment::header_bytes(layout.partitions) * 2);
    let header = SegmentHeader {
        identity: Identity {
            log: name(&options.log, "main")?,
            site: name(&options.site, "local")?,
            incarnation: Incarnation(high | u128::from(world.random())),
            layout,
            chained: options.chained.unwrap_or(true),
        },
        generation: 1,
        capacity,
        previous_end: 0,
        last_flush: 0,
        starts: layout.all().map(|_| Default::default()).collect(),
    };
    let target = segment::name(1);
    let write = || {
        let file = disk.open(CREATING, Access::Journal)?;
        let encoded = header.encode();
        let mut bytes = Aligned::zeroed(capacity as usize);
        bytes[..encoded.len()].copy_from_slice(&encoded);
        file.write_at(0, &bytes)?;
        file.sync()?;
        disk.rename(CREATING, &target)?;
        disk.sync_directory()
    };
    write().map_err(OpenError::io(&target))?;
    Ok(Segment {
        header,
        name: target,
        bytes: capacity,
        sealed_end: None,
    })
}

/// Refuses options that contradict an existing log.
pub(crate) fn check_options(
    identity: &Identity,
    options: &Options,
    directory: &str,
) -> Result<(), OpenError> {
    let differs = |what, actual: String, asked: Option<String>| match asked {
        Some(asked) if asked != actual => Err(OpenError::Different {
            directory: directory.to_owned(),
            what,
            actual,
            asked,
        }),
        _ => Ok(()),
    };
    differs("the name", identity.log.to_string(), options.log.clone())?;
    differs("the site", identity.site.to_string(), options.site.clone())?;
    let partitions = identity.layout.partitions.to_string();
    differs(
        "a partition count of",
        partitions,
        options.partitions.map(|count| count.to_string()),
    )?;
    differs(
        "the hash chain set to",
        identity.chained.to_string(),
        options.chained.map(|chained| chained.to_string()),
    )
}

/// Reads every segment, fills the partitions and says where the log goes on.
pub(crate) fn load(
    disk: &dyn Disk,
    segments: &[Segment],
    shards: &[Shard],
    report: &mut Report,
) -> Result<(End, Vec<u8>), OpenError> {
    let mut end = None;
    for segment in segments {
        check_starts(segment, shards)?;
        check_length(segment)?;
        let bytes = read_whole(disk, &segment.name)?;
        let recovered = recover(&bytes, &segment.expectation());
        for found in &recovered.frames {
            load_frame(segment, &bytes, found, shards, report)?;
        }
        if let Verdict::Damaged {
            at,
            expected,
            found,
        } = &recovered.verdict
        {
            return Err(segment.damage(*at, expected, found).into());
        }
        report.segments += 1;
        end = Some((segment, bytes, recovered));
    }
    let (segment, bytes, recovered) =
        end.ok_or_else(|| OpenError::Invalid("there is no segment".into()))?;
    for shard in shards {
        let mut state = shard.state();
        let last = state.at.last;
        state.tail.restart(last);
        drop(state);
        shard.head.send_modify(|head| head.offset = last);
    }
    cut(disk, segment, &bytes, &recovered, report)?;
    let base = recovered.end as usize / BLOCK * BLOCK;
    let partial = bytes[base..recovered.end as usize].to_vec();
    let last = recovered.frames.last();
    report.closed = last.is_some_and(|found| found.header.kind == FrameKind::Close);
    let end = End {
        generation: segment.header.generation,
        position: recovered.end,
        capacity: (bytes.len() / BLOCK * BLOCK) as u64,
        flush: recovered.last_flush,
        closed: report.closed,
    };
    Ok((end, partial))
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

/// What a segment says it begins with has to be what the ones before ended with.
fn check_starts(segment: &Segment, shards: &[Shard]) -> Result<(), OpenError> {
    for (partition, (shard, start)) in shards.iter().zip(&segment.header.starts).enumerate() {
        let at = shard.state().at;
        if at != *start {
            return Err(segment
                .damage(
                    0,
                    format!("partition {partition} to go on after offset {}", at.last),
                    format!("a header for after offset {}", start.last),
                )
                .into());
        }
    }
    Ok(())
}

fn load_frame(
    segment: &Segment,
    bytes: &Bytes,
    found: &Found,
    shards: &[Shard],
    report: &mut Report,
) -> Result<(), OpenError> {
    let header = &found.header;
    let wrong = |expected: String, seen: String| {
        OpenError::Damaged(segment.damage(found.position, expected, seen))
    };
    if header.kind == FrameKind::Close {
        return Ok(());
    }
    let Some(shard) = shards.get(header.partition.index()) else {
        let seen = format!("one of partition {}", header.partition);
        return Err(wrong(
            format!("a frame of {} partitions", shards.len()),
            seen,
        ));
    };
    let start = found.position as usize;
    let frame = bytes.slice(start..start + header.length as usize);
    let mut state = shard.state();
    if header.kind == FrameKind::Floor {
        let floor = read_floor(&frame[HEADER..])
            .ok_or_else(|| wrong("a floor".into(), "fewer bytes".into()))?;
        state.at.floor = state.at.floor.max(floor);
        return Ok(());
    }
    check_order(&state, found).map_err(|(expected, seen)| wrong(expected, seen))?;
    let identity = &segment.header.identity;
    let (records, link) = Body::of(&frame, header)
        .and_then(|body| body.records_without_links(header, &identity.origin(), identity.chained))
        .map_err(|error| wrong("records".into(), error))?;
    if records.iter().any(|record| record.kind == Kind::Claim) {
        state.at.epoch = Epoch(header.epoch);
    }
    let place = FramePlace {
        first: header.first,
        generation: segment.header.generation as u32,
        position: found.position as u32,
        length: header.length,
    };
    report.records += records.len() as u64;
    let records: Vec<_> = records.into_iter().map(Arc::new).collect();
    state.index(&records, place);
    state.at.link = link;
    Ok(())
}

/// Offsets have no holes, and epochs change by claims only.
fn check_order(state: &State, found: &Found) -> Result<(), (String, String)> {
    let header = &found.header;
    let next = state.at.last.0 + 1;
    if header.first.0 != next || header.count == 0 {
        return Err((
            format!("offset {next} of partition {}", header.partition),
            format!("{} records from offset {}", header.count, header.first),
        ));
    }
    Ok(())
}

/// Clears what a torn write left behind the end, so that no later frame can come to lie before it.
fn cut(
    disk: &dyn Disk,
    segment: &Segment,
    bytes: &[u8],
    recovered: &Recovered,
    report: &mut Report,
) -> Result<(), OpenError> {
    let Verdict::Torn { until } = recovered.verdict else {
        return Ok(());
    };
    let base = recovered.end as usize / BLOCK * BLOCK;
    let length = (until as usize).next_multiple_of(BLOCK) - base;
    let partial = recovered.end as usize - base;
    let mut cleared = Aligned::zeroed(length);
    cleared[..partial].copy_from_slice(&bytes[base..base + partial]);
    let write = || {
        let file = disk.open(&segment.name, Access::Journal)?;
        file.write_at(base as u64, &cleared)?;
        file.sync()
    };
    write().map_err(OpenError::io(&segment.name))?;
    let remains = until - recovered.end;
    report.torn = Some((segment.name.clone(), recovered.end, remains));
    Ok(())
}
