//! Verification: every checksum, every record, every link of the chain, every version.

use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;
use everfold_engine::engine::Identity;
use everfold_engine::map::{Map, seeded};
use everfold_engine::record::Kind;
use everfold_engine::{Partition, Record};

use crate::cache::ReadCache;
use crate::decode::{Body, Husk, Slot};
use crate::disk::{Access, Disk};
use crate::error::{Damage, OpenError};
use crate::frame::{self, FrameHeader, FrameKind, HEADER, Place, read_floor};
use crate::open::{LOCK, check_length, read_whole, segment_of, survey};
use crate::recovery::{Verdict, recover};
use crate::sealed::{self, SealedFile, Walk};
use crate::segment::{self, PartitionStart};
use crate::segments::Form;

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
    if survey(disk).is_ok_and(|survey| survey.is_none()) {
        return Err(OpenError::Invalid(format!(
            "there is no log in {directory}"
        )));
    }
    let lock = disk.lock(LOCK).map_err(OpenError::io(LOCK))?;
    let _lock = lock.ok_or(OpenError::InUse { directory })?;
    let mut check = Check::default();
    let survey = match survey(disk) {
        Ok(survey) => survey,
        Err(OpenError::Damaged(damage)) => {
            check.found.damage.push(damage);
            return Ok(check.found);
        }
        Err(error) => return Err(error),
    };
    check.trimmed = survey
        .as_ref()
        .is_some_and(|survey| survey.trimmed.is_some());
    if let Some(marker) = survey.as_ref().and_then(|survey| survey.trimmed.as_ref()) {
        check.partitions.clone_from(&marker.starts);
    }
    let forms = survey.map(|survey| survey.forms).unwrap_or_default();
    let mut total = 0;
    for (generation, form) in &forms {
        total += bytes_of(disk, *generation, *form)?;
    }
    for (generation, form) in &forms {
        let before = check.found.bytes;
        let has_next = forms.contains_key(&(generation + 1));
        let mut tell = |done| progress(before + done, total);
        let checked = match form {
            Form::Plain => check.plain(disk, *generation, has_next, &mut tell),
            Form::Sealed => check.sealed(disk, *generation, &mut tell),
        };
        match checked {
            Err(OpenError::Damaged(damage)) => check.damaged(damage),
            checked => checked?,
        }
        check.found.bytes = before + bytes_of(disk, *generation, *form)?;
        progress(check.found.bytes, total);
    }
    Ok(check.found)
}

fn file_name(generation: u64, form: Form) -> String {
    match form {
        Form::Plain => segment::name(generation),
        Form::Sealed => sealed::name(generation),
    }
}

fn bytes_of(disk: &dyn Disk, generation: u64, form: Form) -> Result<u64, OpenError> {
    let name = file_name(generation, form);
    let length = || disk.open(&name, Access::Read)?.len();
    length().map_err(OpenError::io(&name))
}

struct Check {
    found: Verified,
    /// That of the first segment.
    identity: Option<Identity>,
    /// What the next frame of each partition has to go on after.
    partitions: Vec<PartitionStart>,
    /// The last version of each entity, by a hash of partition and key.
    versions: Map<u64, u64>,
    /// Whether some history was trimmed.
    trimmed: bool,
    /// Whether every frame so far was read: what is not known cannot be compared with.
    whole: bool,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            found: Verified::default(),
            identity: None,
            partitions: Vec::new(),
            versions: seeded(0),
            trimmed: false,
            whole: true,
        }
    }
}

impl Check {
    /// A segment begins where the ones before have ended.
    fn begins(&mut self, file: &str, identity: &Identity, starts: &[PartitionStart]) {
        self.found.segments += 1;
        let first = self.identity.get_or_insert_with(|| identity.clone());
        if *first != *identity {
            let expected = format!("incarnation {}", first.incarnation);
            self.damaged(Damage {
                file: file.to_owned(),
                at: 24,
                expected: format!("{expected}, its names, layout and chain"),
                found: format!(
                    "incarnation {}: a segment of another log",
                    identity.incarnation
                ),
            });
        }
        if self.whole && !self.partitions.is_empty() && self.partitions != *starts {
            self.damaged(Damage {
                file: file.to_owned(),
                at: 0,
                expected: "what the segments before end with".into(),
                found: "a header for another place".into(),
            });
        }
        self.partitions = starts.to_vec();
    }

    fn plain(
        &mut self,
        disk: &dyn Disk,
        generation: u64,
        has_next: bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), OpenError> {
        let mut segment = segment_of(disk, generation)?;
        if has_next {
            // Whether the next one is all right is told when it is its turn.
            let next = segment_of(disk, generation + 1).map(|next| next.header);
            let next =
                next.or_else(|_| sealed::header_of(disk, generation + 1).map(|next| next.segment));
            segment.sealed_end = next.ok().map(|next| next.previous_end);
        }
        let header = &segment.header;
        self.begins(&segment.name, &header.identity, &header.starts);
        if let Err(damage) = check_length(&segment) {
            self.damaged(damage);
        }
        let bytes = read_whole(disk, &segment.name)?;
        let recovered = recover(&bytes, &segment.expectation());
        let identity = &segment.header.identity;
        let mut told = 0;
        for found in &recovered.frames {
            let begin = found.position as usize;
            let frame = bytes.slice(begin..begin + found.header.length as usize);
            if let Err((expected, seen)) = self.frame(identity, &found.header, &frame) {
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

    fn sealed(
        &mut self,
        disk: &dyn Disk,
        generation: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), OpenError> {
        // Everything is read from the device, nothing kept.
        let file = SealedFile::open(disk, generation, &Arc::new(ReadCache::new(0)))?;
        let header = file.header().clone();
        let begun = &header.segment;
        self.begins(&sealed::name(generation), &begun.identity, &begun.starts);
        let directory = file.directory()?;
        for entry in directory.entries() {
            let block = match file.block(entry, false) {
                Ok(block) => block,
                Err(damage) => {
                    self.damaged(damage);
                    continue;
                }
            };
            for found in Walk::through(block) {
                let checked = found
                    .map_err(|seen| ("a frame".to_owned(), seen.to_owned()))
                    .and_then(|(position, found, frame)| {
                        let place = Place {
                            incarnation: header.segment.identity.incarnation.0,
                            generation,
                            position: u64::from(position),
                        };
                        frame::check(&frame, place)
                            .map_err(|seen| ("a frame".to_owned(), seen.to_owned()))?;
                        self.frame(&header.segment.identity, &found, &frame)
                    });
                if let Err((expected, seen)) = checked {
                    self.damaged(file.damage(entry.position, expected, seen));
                    break;
                }
            }
            progress(entry.position);
        }
        if self.trimmed {
            // Stamps went with the records.
            let ends = self.partitions.iter_mut().zip(&header.ends);
            ends.for_each(|(found, end)| found.floor = end.floor);
        }
        if self.whole && self.partitions != header.ends {
            let expected = "frames up to where the segment ended";
            self.damaged(file.damage(0, expected, "others"));
        }
        self.partitions.clone_from(&header.ends);
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
        identity: &Identity,
        header: &FrameHeader,
        frame: &Bytes,
    ) -> Result<(), (String, String)> {
        if header.kind == FrameKind::Close {
            return Ok(());
        }
        let count = self.partitions.len();
        let Some(at) = self.partitions.get_mut(header.partition.index()) else {
            let seen = format!("partition {}", header.partition);
            return Err((format!("one of {count} partitions"), seen));
        };
        if header.kind == FrameKind::Floor {
            let floor = read_floor(&frame[HEADER..]).ok_or(("a floor", "none"));
            let floor = floor.map_err(|(expected, seen)| (expected.into(), seen.into()))?;
            at.floor = at.floor.max(floor);
            return Ok(());
        }
        let before = *at;
        let body = Body::of(frame, header).map_err(|seen| ("a batch".to_owned(), seen))?;
        if body.previous.is_some_and(|link| link != before.link) {
            return Err((format!("the link {}", before.link), "another one".into()));
        }
        let (slots, last) = body
            .slots(header, identity)
            .map_err(|seen| ("records".to_owned(), seen))?;
        for slot in &slots {
            match slot {
                Slot::Kept(record) => self.record(header.partition, record, identity.chained)?,
                Slot::Trimmed(husk) => self.husk(header.partition, husk, identity.chained),
            }
        }
        let found = self.partitions[header.partition.index()].link;
        if identity.chained && found != last {
            return Err((
                format!("the link {found}"),
                format!("{last} behind a batch"),
            ));
        }
        Ok(())
    }

    /// What is left of a record keeps the chain whole.
    fn husk(&mut self, partition: Partition, husk: &Husk, chained: bool) {
        self.found.trimmed += 1;
        self.trimmed = true;
        let at = &mut self.partitions[partition.index()];
        at.last.0 += 1;
        if chained {
            at.link = at.link.next(husk.kind, husk.version, husk.digest);
        }
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
            None if self.whole && !self.trimmed => 1,
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
