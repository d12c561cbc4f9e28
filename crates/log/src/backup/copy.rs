//! From a log to a backup.

use std::sync::Arc;

use bytes::Bytes;

use super::history::check_history;
use super::manifest::{Manifest, SUFFIX, Stored, belongs};
use super::view::View;
use super::{BackedUp, BackupError};
use crate::cache::ReadCache;
use crate::disk::{self, Access, Disk};
use crate::error::OpenError;
use crate::index::Subjects;
use crate::open::{
    LOCK, Survey, check_length, read_whole, refuse_unfinished, segment_in_any_form, segment_of,
    survey,
};
use crate::partition::Shard;
use crate::prefix::{load_settled, look_again};
use crate::recovery::{Verdict, recover};
use crate::sealed::{SealedFile, TAIL};
use crate::segment::{PartitionStart, SegmentHeader};
use crate::segments::Form;
use crate::trim::Marker;
use crate::verify::file_name;

/// How often a backup begins anew when segments are trimmed away under it.
const ATTEMPTS: usize = 4;

/// Copies what is durable of the log in `source` to `target`, an empty directory or that of an
/// earlier backup of the same log, which then gets only what it lacks. The log may be open and
/// written to, here or in another process; nothing in `source` is changed. `progress` is told bytes
/// done and bytes in all.
///
/// # Errors
/// [`BackupError`]; an earlier backup in `target` is as it was, and can be restored.
pub fn backup(
    source: &dyn Disk,
    target: &Arc<dyn Disk>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<BackedUp, BackupError> {
    let directory = target.description().path;
    let names = source.list();
    let names = names.map_err(OpenError::io(&source.description().path))?;
    refuse_unfinished(&source.description().path, &names)?;
    let names = target.list().map_err(BackupError::io(&directory))?;
    let strange = |name: &&String| !belongs(name) && !is_harmless(name);
    if let Some(file) = names.iter().find(strange) {
        let file = file.clone();
        return Err(BackupError::Foreign { directory, file });
    }
    let lock = target.lock(LOCK).map_err(BackupError::io(LOCK))?;
    let _lock = lock.ok_or_else(|| BackupError::InUse {
        directory: directory.clone(),
    })?;
    let before = Manifest::read(&**target)?;
    for _ in 1..ATTEMPTS {
        match attempt(source, target, before.as_ref(), progress) {
            Err(BackupError::Log(OpenError::MissingSegment { .. })) => {}
            done => return done,
        }
    }
    attempt(source, target, before.as_ref(), progress)
}

/// Files that any directory may hold.
pub(super) fn is_harmless(name: &str) -> bool {
    [LOCK, "lost+found", ".probe"].contains(&name)
}

fn attempt(
    source: &dyn Disk,
    target: &Arc<dyn Disk>,
    before: Option<&Manifest>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<BackedUp, BackupError> {
    let moment = Moment::of(source)?;
    if let Some(before) = before {
        check_history(source, target, before, &moment)?;
    }
    let active = moment.survey.active.header.generation;
    let mut work = Work {
        source,
        target,
        before,
        done: BackedUp::default(),
        total: 0,
        progress,
    };
    let full: Vec<u64> = moment
        .survey
        .forms
        .keys()
        .copied()
        .filter(|g| *g < active)
        .collect();
    let (mut segments, mut wanted) = (Vec::new(), Vec::new());
    for generation in full {
        let form = moment.survey.forms[&generation];
        let wanted_form = |stored: &Stored| (stored.generation, stored.form) == (generation, form);
        match work.kept(|stored| wanted_form(stored) && stored.part == 0) {
            Some(kept) if work.is_unchanged(&kept) => segments.push(kept),
            _ => wanted.push(generation),
        }
    }
    for generation in &wanted {
        let form = moment.survey.forms[generation];
        let length = source.open(&file_name(*generation, form), Access::Read);
        work.total += length.and_then(|file| file.len()).unwrap_or_default();
    }
    work.total += moment.end;
    for generation in wanted {
        segments.push(look_again_for(&mut work, generation)?);
    }
    if let Some(marker) = &moment.survey.trimmed {
        segments.push(work.marker(marker)?);
    }
    segments.sort_by_key(|stored| stored.generation);
    segments.push(work.part(&moment)?);
    target
        .sync_directory()
        .map_err(BackupError::io(&target.description().path))?;
    let manifest = Manifest {
        identity: moment.survey.active.header.identity.clone(),
        number: before.map_or(0, |before| before.number) + 1,
        segments,
        ends: moment.ends,
    };
    manifest.write(&**target)?;
    let mut done = work.done;
    (work.progress)(done.bytes.max(1), done.bytes.max(1));
    done.number = manifest.number;
    let of_segments = manifest
        .segments
        .iter()
        .filter(|stored| stored.generation > 0);
    done.segments = of_segments.count() as u64;
    done.records = manifest.ends.iter().map(|end| end.last.0).sum();
    clear(&**target, &manifest);
    Ok(done)
}

/// Removes copies that the manifest does not name. What is left over harms nobody.
fn clear(target: &dyn Disk, manifest: &Manifest) {
    let named = |name: &str| manifest.segments.iter().any(|stored| stored.name == name);
    for name in target.list().unwrap_or_default() {
        if name.ends_with(SUFFIX) && !named(&name) {
            let _ = crate::disk::release(target, &name);
        }
    }
}

/// A log at some moment.
pub(super) struct Moment {
    pub(super) survey: Survey,
    /// The segment that is being written.
    pub(super) bytes: Bytes,
    /// Where its frames end.
    end: u64,
    pub(super) ends: Vec<PartitionStart>,
}

impl Moment {
    fn of(source: &dyn Disk) -> Result<Self, OpenError> {
        look_again(|| {
            let directory = source.description().path;
            let survey = survey(source)?
                .ok_or_else(|| OpenError::Invalid(format!("there is no log in {directory}")))?;
            let header = &survey.active.header;
            let subjects = Subjects::of(header.identity.incarnation);
            let starts = header.starts.iter();
            let shards: Vec<Shard> = starts
                .map(|start| Shard::new(*start, subjects, 0, 0))
                .collect();
            let (bytes, recovered, _) = load_settled(source, &survey.active, &shards)?;
            Ok(Self {
                bytes,
                end: recovered.end,
                ends: shards.iter().map(|shard| shard.state().at).collect(),
                survey,
            })
        })
    }
}

struct Work<'a> {
    source: &'a dyn Disk,
    target: &'a Arc<dyn Disk>,
    before: Option<&'a Manifest>,
    done: BackedUp,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

/// Segments are packed and trimmed while they are copied: what was not copied whole is looked at
/// again.
fn look_again_for(work: &mut Work<'_>, generation: u64) -> Result<Stored, BackupError> {
    let mut broken = None;
    let copied = look_again(|| match work.full(generation) {
        Ok(stored) => Ok(stored),
        Err(BackupError::Log(error)) => Err(error),
        // No second look helps with the target.
        Err(error) => {
            broken = Some(error);
            Err(OpenError::Invalid("not copied".into()))
        }
    });
    match broken {
        Some(error) => Err(error),
        None => Ok(copied?),
    }
}

impl Work<'_> {
    /// What an earlier backup has.
    fn kept(&self, wanted: impl Fn(&Stored) -> bool) -> Option<Stored> {
        let stored = self.before?.segments.iter().find(|stored| wanted(stored))?;
        let file = self.target.open(&stored.name, Access::Read).ok()?;
        (file.len().ok()? == stored.length).then(|| stored.clone())
    }

    /// Whether a packed segment is still what was copied: its end has the checksum of its
    /// directory, which has those of all blocks. One that is as it was written never changes.
    fn is_unchanged(&self, kept: &Stored) -> bool {
        let end = |disk: &dyn Disk, name: &str| {
            let file = disk.open(name, Access::Read)?;
            let length = file.len()?;
            let mut bytes = vec![0; length.min(TAIL as u64) as usize];
            file.read_at(length - bytes.len() as u64, &mut bytes)?;
            Ok::<_, std::io::Error>((length, bytes))
        };
        let name = file_name(kept.generation, kept.form);
        let same = || {
            Ok::<_, std::io::Error>(end(self.source, &name)? == end(&**self.target, &kept.name)?)
        };
        kept.form == Form::Plain || same().is_ok_and(|same| same)
    }

    /// A name for a full segment's copy that the manifest before does not know: what it names is
    /// left alone.
    fn new_name(&self, generation: u64, form: Form) -> String {
        let named = |name: &str| {
            let stored = self.before.into_iter().flat_map(|before| &before.segments);
            stored.into_iter().any(|stored| stored.name == name)
        };
        let number = self.before.map_or(0, |before| before.number) + 1;
        let name = Stored::full_name(generation, form, None);
        if named(&name) {
            return Stored::full_name(generation, form, Some(number));
        }
        name
    }

    /// Copies a full segment in the form that it has now.
    fn full(&mut self, generation: u64) -> Result<Stored, BackupError> {
        let names = self.source.list();
        let names = names.map_err(OpenError::io(&self.source.description().path))?;
        let has = |form| names.contains(&file_name(generation, form));
        let form = match (has(Form::Sealed), has(Form::Plain)) {
            (true, _) => Form::Sealed,
            (_, true) => Form::Plain,
            _ => {
                let missing = file_name(generation, Form::Plain);
                return Err(OpenError::MissingSegment { missing }.into());
            }
        };
        let after = segment_in_any_form(self.source, generation + 1)?.header;
        let name = file_name(generation, form);
        match form {
            Form::Plain => {
                let mut segment = segment_of(self.source, generation)?;
                segment.sealed_end = Some(after.previous_end);
                check_length(&segment).map_err(OpenError::from)?;
                let bytes = read_whole(self.source, &name)?;
                let recovered = recover(&bytes, &segment.expectation());
                if let Verdict::Damaged {
                    at,
                    expected,
                    found,
                } = recovered.verdict
                {
                    return Err(OpenError::from(segment.damage(at, expected, found)).into());
                }
                let used = bytes.slice(..recovered.end as usize);
                let stored = self.new_name(generation, form);
                self.write(generation, form, 0, stored, &used, bytes.len() as u64)
            }
            Form::Sealed => {
                let bytes = read_whole(self.source, &name)?;
                let stored = self.new_name(generation, form);
                let length = bytes.len() as u64;
                let stored = self.write(generation, form, 0, stored, &bytes, length)?;
                check_sealed(self.target, &stored, &after)?;
                Ok(stored)
            }
        }
    }

    /// Notes with which segment the log begins.
    fn marker(&mut self, marker: &Marker) -> Result<Stored, BackupError> {
        let bytes = marker.encode();
        let hash = *blake3::hash(&bytes).as_bytes();
        if let Some(kept) = self.kept(|stored| stored.generation == 0 && stored.hash == hash) {
            return Ok(kept);
        }
        let name = self.new_name(0, Form::Plain);
        let length = bytes.len() as u64;
        self.write(0, Form::Plain, 0, name, &bytes, length)
    }

    /// Copies what is durable of the segment that is being written.
    fn part(&mut self, moment: &Moment) -> Result<Stored, BackupError> {
        let generation = moment.survey.active.header.generation;
        let name = Stored::part_name(generation, moment.end);
        if let Some(kept) = self.kept(|stored| stored.name == name) {
            return Ok(kept);
        }
        let used = moment.bytes.slice(..moment.end as usize);
        let length = moment.bytes.len() as u64;
        self.write(generation, Form::Plain, moment.end, name, &used, length)
    }

    /// Writes a copy: some bytes, then zeros up to a length.
    fn write(
        &mut self,
        generation: u64,
        form: Form,
        part: u64,
        name: String,
        bytes: &[u8],
        length: u64,
    ) -> Result<Stored, BackupError> {
        const PIECE: usize = 1 << 20;
        let mut hasher = blake3::Hasher::new();
        let mut write = || {
            let file = disk::create(&**self.target, &name)?;
            let mut at = 0;
            for piece in bytes.chunks(PIECE) {
                file.write_at(at, piece)?;
                hasher.update(piece);
                at += piece.len() as u64;
                self.done.bytes += piece.len() as u64;
                (self.progress)(self.done.bytes, self.total.max(self.done.bytes));
            }
            let zeros = [0; 4096];
            while at < length {
                let piece = (length - at).min(zeros.len() as u64);
                hasher.update(&zeros[..piece as usize]);
                at += piece;
            }
            file.set_len(length)?;
            file.sync()
        };
        write().map_err(BackupError::io(&name))?;
        self.done.copied += 1;
        Ok(Stored {
            generation,
            form,
            part,
            name,
            length,
            hash: *hasher.finalize().as_bytes(),
        })
    }
}

/// A packed segment has to be whole, and end as the next one begins.
fn check_sealed(
    target: &Arc<dyn Disk>,
    stored: &Stored,
    after: &SegmentHeader,
) -> Result<(), OpenError> {
    let view = View::new(Arc::clone(target), std::slice::from_ref(stored));
    let cache = Arc::new(ReadCache::new(0));
    let file = SealedFile::open(&view, stored.generation, &cache)?;
    let header = file.header();
    let of_log = header.segment.identity == after.identity;
    if !of_log || header.ends != after.starts || header.end != after.previous_end {
        let expected = "a segment that ends as the next one begins";
        return Err(file.damage(0, expected, "another").into());
    }
    for entry in file.directory()?.entries() {
        file.block(entry, false)?;
    }
    Ok(())
}
