//! From the files of a directory to what is known of a log.

mod files;
mod survey;

use std::sync::Arc;

use bytes::Bytes;
use everfold_engine::World;
use everfold_engine::engine::{Epoch, Identity};
use everfold_engine::position::Incarnation;
use everfold_engine::record::Kind;
use everfold_engine::slot::Layout;

use crate::decode::Body;
use crate::disk::{self, Access, Aligned, BLOCK, Disk};
use crate::error::{Damage, OpenError};
use crate::frame::{FrameKind, HEADER, read_floor};
use crate::index::FramePlace;
use crate::journal::End;
use crate::options::Options;
use crate::partition::{Shard, State};
use crate::recovery::{Found, Recovered, Verdict, recover};
use crate::segment::{self, NAME_LIMIT, SegmentHeader};

pub(crate) use files::{
    MANIFEST, RESTORING, forms, header_somewhere, is_begun, refuse_unfinished, segment_in_any_form,
};
pub(crate) use survey::{
    Segment, Survey, check_length, check_neighbours, header_of, read_whole, refuse_foreign,
    segment_of, survey,
};

/// The file whose lock keeps a second process away.
pub(crate) const LOCK: &str = "lock";
/// The first segment while it is being made.
const CREATING: &str = "creating";

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
    /// Full segments whose index was missing or damaged, and was made again.
    pub indexes_made: u64,
    /// What was wrong with indexes that were there.
    pub indexes_discarded: Vec<Damage>,
    /// Why the store of areas was emptied; they are made again from the log.
    pub areas_discarded: Option<String>,
}

impl Report {
    /// Tells a simulation what was seldom found.
    pub(crate) fn tell(&self, world: &dyn World) {
        let found = [
            (self.torn.is_some(), "log: opened with a torn write"),
            (
                self.indexes_made > 0,
                "log: opened with an index to make again",
            ),
            (
                !self.indexes_discarded.is_empty(),
                "log: opened with a damaged index",
            ),
            (
                self.areas_discarded.is_some(),
                "log: opened with areas emptied",
            ),
            (self.segments > 1, "log: opened with several segments"),
            (
                !self.closed && self.records > 0,
                "log: opened after a crash",
            ),
        ];
        for (_, place) in found.into_iter().filter(|(found, _)| *found) {
            world.reached(place);
        }
    }
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
        disk::publish(disk, CREATING, &target)
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

/// Reads one segment into the partitions: they start as its header says.
pub(crate) fn load(
    disk: &dyn Disk,
    segment: &Segment,
    shards: &[Shard],
) -> Result<(Bytes, Recovered), OpenError> {
    check_length(segment)?;
    for (shard, start) in shards.iter().zip(&segment.header.starts) {
        shard.state().restart(*start);
    }
    let bytes = read_whole(disk, &segment.name)?;
    let recovered = recover(&bytes, &segment.expectation());
    for found in &recovered.frames {
        let begin = found.position as usize;
        let frame = bytes.slice(begin..begin + found.header.length as usize);
        load_frame(segment, &frame, found, shards)?;
    }
    if let Verdict::Damaged {
        at,
        expected,
        found,
    } = &recovered.verdict
    {
        return Err(segment.damage(*at, expected, found).into());
    }
    Ok((bytes, recovered))
}

/// Reads a segment that another one follows, and checks that the two agree.
pub(crate) fn load_sealed(
    disk: &dyn Disk,
    generation: u64,
    shards: &[Shard],
) -> Result<(), OpenError> {
    let mut segment = segment_of(disk, generation)?;
    let next = segment_in_any_form(disk, generation + 1)?;
    check_neighbours(&segment.header, &next)?;
    segment.sealed_end = Some(next.header.previous_end);
    load(disk, &segment, shards)?;
    check_starts(&next, shards)
}

/// Nothing is cut off that was read wrong once: what looks torn is read until two readings agree.
fn load_twice(
    disk: &dyn Disk,
    segment: &Segment,
    shards: &[Shard],
) -> Result<(Bytes, Recovered), OpenError> {
    const READINGS: usize = 4;
    let mut found = load(disk, segment, shards)?;
    for _ in 1..READINGS {
        if found.1.verdict == Verdict::Clean {
            return Ok(found);
        }
        let again = load(disk, segment, shards)?;
        if again.1 == found.1 {
            return Ok(again);
        }
        found = again;
    }
    Err(OpenError::Io {
        file: segment.name.clone(),
        source: std::io::Error::other("it reads differently each time"),
    })
}

/// Reads the segment that is written, and says where it goes on.
pub(crate) fn load_active(
    disk: &dyn Disk,
    segment: &Segment,
    shards: &[Shard],
    report: &mut Report,
) -> Result<(End, Vec<u8>), OpenError> {
    let (bytes, recovered) = load_twice(disk, segment, shards)?;
    for shard in shards {
        let mut state = shard.state();
        let last = state.at.last;
        state.tail.restart(last);
        drop(state);
        report.records += last.0;
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

/// Takes a frame that follows all that a partition has.
pub(crate) fn load_frame(
    segment: &Segment,
    frame: &Bytes,
    found: &Found,
    shards: &[Shard],
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
    let mut state = shard.state();
    if header.kind == FrameKind::Floor {
        let floor = read_floor(&frame[HEADER..])
            .ok_or_else(|| wrong("a floor".into(), "fewer bytes".into()))?;
        state.at.floor = state.at.floor.max(floor);
        return Ok(());
    }
    check_order(&state, found).map_err(|(expected, seen)| wrong(expected, seen))?;
    let identity = &segment.header.identity;
    let (records, link) = Body::of(frame, header)
        .and_then(|body| body.records_without_links(header, identity))
        .map_err(|error| wrong("records".into(), error))?;
    if records.iter().any(|record| record.kind == Kind::Claim) {
        state.at.epoch = Epoch(header.epoch);
    }
    let place = FramePlace {
        first: header.first,
        stamp: records.first().map_or(0, |first| first.local.stamp.0),
        generation: segment.header.generation as u32,
        position: found.position as u32,
        length: header.length,
    };
    let records: Vec<_> = records.into_iter().map(Arc::new).collect();
    for record in &records {
        state.index(record);
    }
    if let Some(last) = records.last() {
        state.advance(last, place);
        // What is read from disk is looked for there.
        let last = state.at.last;
        state.tail.restart(last);
    }
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
/// The last flush is written again with it: the process that wrote it may have been told that it is
/// not durable, and has not told anybody.
fn cut(
    disk: &dyn Disk,
    segment: &Segment,
    bytes: &[u8],
    recovered: &Recovered,
    report: &mut Report,
) -> Result<(), OpenError> {
    let until = match recovered.verdict {
        Verdict::Torn { until } => until,
        _ => recovered.end,
    };
    let last = recovered.frames.last();
    let begin = last.map_or(recovered.end, |last| u64::from(last.header.flush_start));
    let base = begin as usize / BLOCK * BLOCK;
    let length = (until as usize).next_multiple_of(BLOCK) - base;
    let kept = recovered.end as usize - base;
    let mut cleared = Aligned::zeroed(length);
    cleared[..kept].copy_from_slice(&bytes[base..base + kept]);
    // Of a segment that has just been begun the same goes for the header.
    let first = recovered.frames.first();
    let is_young = first.map(|found| found.header.flush) == last.map(|found| found.header.flush);
    let mut header = Aligned::zeroed(segment.header.first_frame() as usize);
    header.copy_from_slice(&segment.header.encode());
    let write = || {
        let file = disk.open(&segment.name, Access::Journal)?;
        if is_young {
            file.write_at(0, &header)?;
        }
        file.write_at(base as u64, &cleared)?;
        file.sync()
    };
    write().map_err(OpenError::io(&segment.name))?;
    if until > recovered.end {
        let remains = until - recovered.end;
        report.torn = Some((segment.name.clone(), recovered.end, remains));
    }
    Ok(())
}
