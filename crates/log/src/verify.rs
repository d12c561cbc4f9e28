//! Verification: every checksum, every record, every link of the chain, every version.

use std::hash::BuildHasher;

use bytes::Bytes;
use everfold_engine::map::{Map, seeded};
use everfold_engine::record::Kind;
use everfold_engine::{Partition, Record};

use crate::decode::Body;
use crate::disk::Disk;
use crate::error::{Damage, OpenError};
use crate::frame::{FrameKind, HEADER, read_floor};
use crate::open::{LOCK, Segment, check_length, read_whole, survey};
use crate::recovery::{Found, Verdict, recover};
use crate::segment::PartitionStart;

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Records of all kinds.
    pub records: u64,
    /// Events among them.
    pub events: u64,
    /// Segments in use.
    pub segments: u64,
    /// Bytes looked at.
    pub bytes: u64,
    /// Remains of a last write that was never acknowledged: the file, where, and how many bytes.
    /// Opening the log cuts them off.
    pub torn: Option<(String, u64, u64)>,
    /// What is not as it was written; empty if all is well.
    pub damage: Vec<Damage>,
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
    if survey(disk).is_ok_and(|segments| segments.is_empty()) {
        return Err(OpenError::Invalid(format!(
            "there is no log in {directory}"
        )));
    }
    let lock = disk.lock(LOCK).map_err(OpenError::io(LOCK))?;
    let _lock = lock.ok_or(OpenError::InUse { directory })?;
    let mut found = Verified::default();
    let segments = match survey(disk) {
        Ok(segments) => segments,
        Err(OpenError::Damaged(damage)) => {
            found.damage.push(damage);
            return Ok(found);
        }
        Err(error) => return Err(error),
    };
    let total = segments.iter().map(|segment| segment.bytes).sum();
    let mut check = Check {
        found,
        partitions: Vec::new(),
        versions: seeded(0),
        whole: true,
    };
    for segment in &segments {
        let before = check.found.bytes;
        check.segment(disk, segment, &mut |done| progress(before + done, total))?;
        check.found.bytes = before + segment.bytes;
        progress(check.found.bytes, total);
    }
    Ok(check.found)
}

struct Check {
    found: Verified,
    /// What the next frame of each partition has to go on after.
    partitions: Vec<PartitionStart>,
    /// The last version of each entity, by a hash of partition and key.
    versions: Map<u64, u64>,
    /// Whether every frame so far was read: what is not known cannot be compared with.
    whole: bool,
}

impl Check {
    fn segment(
        &mut self,
        disk: &dyn Disk,
        segment: &Segment,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), OpenError> {
        self.found.segments += 1;
        let starts = &segment.header.starts;
        if self.whole && !self.partitions.is_empty() && self.partitions != *starts {
            let expected = "what the segments before end with";
            self.damaged(segment.damage(0, expected, "a header for another place"));
        }
        self.partitions.clone_from(starts);
        if let Err(damage) = check_length(segment) {
            self.damaged(damage);
        }
        let bytes = read_whole(disk, &segment.name)?;
        let recovered = recover(&bytes, &segment.expectation());
        let mut told = 0;
        for found in &recovered.frames {
            if let Err((expected, seen)) = self.frame(segment, &bytes, found) {
                self.damaged(segment.damage(found.position, expected, seen));
            }
            if found.position >= told + STEP {
                told = found.position;
                progress(told);
            }
        }
        match recovered.verdict {
            Verdict::Clean => {}
            Verdict::Torn { until } => {
                let remains = until - recovered.end;
                self.found.torn = Some((segment.name.clone(), recovered.end, remains));
            }
            Verdict::Damaged {
                at,
                expected,
                found,
            } => self.damaged(segment.damage(at, expected, found)),
        }
        Ok(())
    }

    fn damaged(&mut self, damage: Damage) {
        self.found.damage.push(damage);
        self.whole = false;
        self.versions.clear();
    }

    /// Checks a frame whose checksum is right; an error says what was expected and found.
    fn frame(
        &mut self,
        segment: &Segment,
        bytes: &Bytes,
        found: &Found,
    ) -> Result<(), (String, String)> {
        let header = &found.header;
        if header.kind == FrameKind::Close {
            return Ok(());
        }
        let count = self.partitions.len();
        let Some(at) = self.partitions.get_mut(header.partition.index()) else {
            let seen = format!("partition {}", header.partition);
            return Err((format!("one of {count} partitions"), seen));
        };
        let start = found.position as usize;
        let frame = bytes.slice(start..start + header.length as usize);
        if header.kind == FrameKind::Floor {
            let floor = read_floor(&frame[HEADER..]).ok_or(("a floor", "none"));
            let floor = floor.map_err(|(expected, seen)| (expected.into(), seen.into()))?;
            at.floor = at.floor.max(floor);
            return Ok(());
        }
        let identity = &segment.header.identity;
        let before = *at;
        let body = Body::of(&frame, header).map_err(|seen| ("a batch".to_owned(), seen))?;
        if body.previous.is_some_and(|link| link != before.link) {
            return Err((format!("the link {}", before.link), "another one".into()));
        }
        let records = body
            .records(header, &identity.origin(), identity.chained)
            .map_err(|seen| ("records".to_owned(), seen))?;
        for record in &records {
            self.record(header.partition, record, identity.chained)?;
        }
        Ok(())
    }

    fn record(
        &mut self,
        partition: Partition,
        record: &Record,
        chained: bool,
    ) -> Result<(), (String, String)> {
        let (local, kind) = (&record.local, record.kind);
        self.found.records += 1;
        self.found.events += u64::from(kind == Kind::Event);
        let at = &mut self.partitions[partition.index()];
        let before = *at;
        at.last = local.offset;
        at.floor = at.floor.max(local.stamp);
        at.link = local.link;
        if kind == Kind::Claim {
            at.epoch.0 = local.epoch;
        }
        if local.offset.0 != before.last.0 + 1 {
            let seen = format!("offset {}", local.offset);
            return Err((format!("offset {}", before.last.0 + 1), seen));
        }
        if local.stamp <= before.floor {
            let seen = format!("{:?}", local.stamp);
            return Err((format!("a stamp above {:?}", before.floor), seen));
        }
        if chained && record.link_after(before.link) != local.link {
            let expected = format!("the link {}", record.link_after(before.link));
            return Err((
                expected,
                format!("{} at offset {}", local.link, local.offset),
            ));
        }
        self.version(partition, record)
    }

    fn version(&mut self, partition: Partition, record: &Record) -> Result<(), (String, String)> {
        let (key, version) = (&record.portable.entity, record.local.version);
        if !matches!(record.kind, Kind::Event | Kind::Baseline) || version == 0 {
            return Ok(());
        }
        let hash = self.versions.hasher().hash_one((partition, key));
        let before = self.versions.insert(hash, version);
        let expected = match before {
            _ if record.kind == Kind::Baseline => version,
            Some(before) => before + 1,
            None if self.whole => 1,
            None => version,
        };
        if version == expected {
            return Ok(());
        }
        Err((
            format!("version {expected} of {key}"),
            format!("version {version} at offset {}", record.local.offset),
        ))
    }
}
