//! What is checked of each segment.

use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;
use everfold_engine::engine::Identity;
use everfold_engine::map::{Map, seeded};
use everfold_engine::record::Kind;
use everfold_engine::{Partition, Record};

use super::{Indexes, STEP, Verified, file_name};
use crate::cache::ReadCache;
use crate::decode::{Body, Husk, Slot};
use crate::disk::Disk;
use crate::error::{Damage, OpenError};
use crate::frame::{self, FrameHeader, FrameKind, HEADER, Place, read_floor};
use crate::index::FramePlace;
use crate::open::{check_length, read_whole, segment_in_any_form, segment_of};
use crate::recovery::{Verdict, recover};
use crate::sealed::{self, SealedFile, Walk};
use crate::segment::PartitionStart;
use crate::segments::Form;
use crate::trim::{MARKER, Marker};

/// A check of segments in their order.
pub(crate) struct Check {
    pub(crate) found: Verified,
    pub(crate) indexes: Option<Indexes>,
    /// That of the first segment.
    identity: Option<Identity>,
    /// What the next frame of each partition has to go on after.
    partitions: Vec<PartitionStart>,
    /// The last version of each entity, by a hash of partition and key; takes memory for each.
    versions: Option<Map<u64, u64>>,
    /// Whether every frame so far was read: what is not known cannot be compared with.
    whole: bool,
    /// Whether every frame of the segment was read, so far.
    segment_whole: bool,
    /// Whether some history was trimmed.
    trimmed: bool,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            found: Verified::default(),
            indexes: None,
            identity: None,
            partitions: Vec::new(),
            versions: Some(seeded(0)),
            whole: true,
            segment_whole: true,
            trimmed: false,
        }
    }
}

impl Check {
    /// One that does not remember entities, and so takes little memory.
    pub(crate) fn without_versions() -> Self {
        Self {
            versions: None,
            ..Self::default()
        }
    }

    /// Some history was trimmed: with which segment the log begins.
    pub(crate) fn begins_behind(&mut self, marker: Result<Marker, OpenError>) -> u64 {
        self.trimmed = true;
        match marker {
            Ok(marker) => {
                self.partitions = marker.starts;
                marker.first
            }
            Err(error) => {
                self.damaged(Damage {
                    passing: false,
                    file: MARKER.into(),
                    at: 0,
                    expected: "where trimmed history ends".into(),
                    found: error.to_string(),
                });
                1
            }
        }
    }

    /// Where every partition stood at the end of what was checked.
    pub(crate) fn ends(&self) -> &[PartitionStart] {
        &self.partitions
    }

    /// Checks the next segment.
    ///
    /// # Errors
    /// One that this version cannot read; whatever is wrong with it is noted.
    pub(crate) fn segment(
        &mut self,
        disk: &dyn Disk,
        generation: u64,
        form: Form,
        has_next: bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), OpenError> {
        let damage = self.found.damage.len();
        let checked = match form {
            Form::Plain => self.plain(disk, generation, has_next, progress),
            Form::Sealed => self.sealed(disk, generation, progress),
        };
        let bad = |expected: &str, found: String| Damage {
            passing: false,
            file: file_name(generation, form),
            at: 0,
            expected: expected.to_owned(),
            found,
        };
        match checked {
            Ok(()) => {}
            Err(error @ OpenError::Newer { .. }) => return Err(error),
            Err(OpenError::Damaged(damage)) => self.damaged(damage),
            Err(OpenError::NotASegment { .. }) => {
                self.damaged(bad("a segment of a log", "something else".into()));
            }
            Err(OpenError::Io { source, .. }) => {
                self.damaged(bad("bytes that can be read", source.to_string()));
            }
            Err(error) => self.damaged(bad("a segment's header", error.to_string())),
        }
        if let Some(indexes) = &mut self.indexes
            && self.found.damage.len() > damage
        {
            indexes.cannot_be_compared(generation);
        }
        Ok(())
    }

    /// A segment is not there any more: the next one goes on after what is not known.
    pub(crate) fn skipped(&mut self, generation: u64) {
        self.interrupted();
        if let Some(indexes) = &mut self.indexes {
            indexes.cannot_be_compared(generation);
        }
    }

    /// What comes next cannot be compared with what was before.
    fn interrupted(&mut self) {
        self.whole = false;
        self.segment_whole = false;
        if let Some(versions) = &mut self.versions {
            versions.clear();
        }
    }

    /// Compares the indexes with what the segments hold.
    pub(crate) fn compare_indexes(&mut self) {
        if let Some(indexes) = &mut self.indexes {
            self.found.indexes = indexes.compare();
        }
    }

    /// A segment begins where the ones before have ended.
    fn begins(&mut self, file: &str, identity: &Identity, starts: &[PartitionStart]) {
        self.found.segments += 1;
        let first = self.identity.get_or_insert_with(|| identity.clone());
        if *first != *identity {
            let expected = format!("incarnation {}", first.incarnation);
            self.damaged(Damage {
                passing: false,
                file: file.to_owned(),
                at: 24,
                expected: format!("{expected}, its names, layout and chain"),
                found: format!(
                    "incarnation {}: a segment of another log",
                    identity.incarnation
                ),
            });
        }
        let known = self.segment_whole && !self.partitions.is_empty();
        if known && self.partitions != *starts {
            self.damaged(Damage {
                passing: false,
                file: file.to_owned(),
                at: 0,
                expected: "what the segments before end with".into(),
                found: "a header for another place".into(),
            });
        }
        self.partitions = starts.to_vec();
        self.segment_whole = true;
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
            let next = segment_in_any_form(disk, generation + 1);
            segment.sealed_end = next.ok().map(|next| next.header.previous_end);
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
            let place = (generation, found.position, Form::Plain);
            if let Err((expected, seen)) = self.frame(identity, &found.header, &frame, place) {
                self.damaged(segment.damage(found.position, expected, seen));
            }
            if found.position >= told + STEP {
                told = found.position;
                progress(told);
            }
        }
        match recovered.verdict {
            Verdict::Clean => {}
            Verdict::Torn { until } if has_next => {
                let found = format!("remains up to byte {until}");
                self.damaged(segment.damage(recovered.end, "the end of the segment", found));
            }
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
                        let place = (generation, u64::from(position), Form::Sealed);
                        self.frame(&header.segment.identity, &found, &frame, place)
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
        if self.segment_whole && self.partitions != header.ends {
            let expected = "frames up to where the segment ended";
            self.damaged(file.damage(0, expected, "others"));
        }
        self.partitions.clone_from(&header.ends);
        Ok(())
    }

    pub(crate) fn damaged(&mut self, damage: Damage) {
        self.found.damage.push(damage);
        self.interrupted();
    }

    /// Checks a frame whose checksum is right; an error says what was expected and found.
    fn frame(
        &mut self,
        identity: &Identity,
        header: &FrameHeader,
        frame: &Bytes,
        (generation, position, form): (u64, u64, Form),
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
        if let Some(indexes) = &mut self.indexes {
            let partition = header.partition.0;
            let mut stamp = 0;
            for slot in &slots {
                match slot {
                    Slot::Kept(record) => {
                        indexes.note(generation, partition, record);
                        stamp = if stamp == 0 {
                            record.local.stamp.0
                        } else {
                            stamp
                        };
                    }
                    // Its index may still name it.
                    Slot::Trimmed(_) => indexes.cannot_be_compared(generation),
                }
            }
            if form == Form::Plain {
                let place = FramePlace {
                    first: header.first,
                    stamp,
                    generation: generation as u32,
                    position: position as u32,
                    length: header.length,
                };
                indexes.note_frame(generation, partition, &place);
            }
        }
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
        let Some(versions) = &mut self.versions else {
            return Ok(());
        };
        if !matches!(record.kind, Kind::Event | Kind::Baseline) || version == 0 {
            return Ok(());
        }
        let hash = versions.hasher().hash_one((partition, key));
        let before = versions.insert(hash, version);
        let expected = match before {
            _ if record.kind == Kind::Baseline => version,
            // What was trimmed between says which versions it had, but not whose.
            Some(before) if self.trimmed && version > before => version,
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
