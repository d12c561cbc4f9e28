//! From a backup to a log.

use std::sync::Arc;

use super::copy::is_harmless;
use super::manifest::{Manifest, Stored};
use super::{BackupError, Restored};
use crate::disk::{Access, Disk};
use crate::open::{LOCK, RESTORING};
use crate::sealed;
use crate::segment;
use crate::trim::MARKER;
use crate::verify::{self, file_name};

/// Makes a log of a backup in `target`, an empty directory. Every file is compared with what was
/// written, and the log is verified as a whole, before it can be opened. `progress` is told bytes
/// done and bytes in all.
///
/// # Errors
/// [`BackupError`]; then `target` is as empty as before. A restore that was cut short leaves a
/// directory that no log opens in; another restore begins it anew.
pub fn restore(
    backup: &Arc<dyn Disk>,
    target: &dyn Disk,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Restored, BackupError> {
    let (from, to) = (backup.description().path, target.description().path);
    let lock = backup.lock(LOCK).map_err(BackupError::io(LOCK))?;
    let _from_lock = lock.ok_or_else(|| BackupError::InUse {
        directory: from.clone(),
    })?;
    let manifest = Manifest::read(&**backup)?;
    let manifest = manifest.ok_or(BackupError::NotABackup { directory: from })?;
    empty(target)?;
    let lock = target.lock(LOCK).map_err(BackupError::io(LOCK))?;
    let _to_lock = lock.ok_or_else(|| BackupError::InUse {
        directory: to.clone(),
    })?;
    empty(target)?;
    begin(target).map_err(BackupError::io(&to))?;
    let restored = fill(backup, &manifest, target, progress);
    if restored.is_err() {
        // If this fails too, the directory says that it is not finished.
        let _ = clear(target);
        return restored;
    }
    let finish = || {
        target.remove(RESTORING)?;
        target.sync_directory()
    };
    finish().map_err(BackupError::io(&to))?;
    restored
}

/// Refuses a directory with anything in it but what a restore has left.
fn empty(target: &dyn Disk) -> Result<(), BackupError> {
    let directory = target.description().path;
    let names = target.list().map_err(BackupError::io(&directory))?;
    let unfinished = names.iter().any(|name| name == RESTORING);
    let in_the_way = |name: &&String| {
        let left = unfinished && (is_segment(name) || *name == RESTORING);
        !left && !is_harmless(name)
    };
    match names.iter().find(in_the_way) {
        None => Ok(()),
        Some(file) => Err(BackupError::Occupied {
            directory,
            file: file.clone(),
        }),
    }
}

fn is_segment(name: &str) -> bool {
    name == MARKER || segment::generation(name).is_some() || sealed::generation(name).is_some()
}

/// Says durably that a restore is under way, then removes what an earlier one has left.
fn begin(target: &dyn Disk) -> std::io::Result<()> {
    target.open(RESTORING, Access::Store)?.sync()?;
    target.sync_directory()?;
    remove_segments(target)
}

fn remove_segments(target: &dyn Disk) -> std::io::Result<()> {
    for name in target.list()? {
        if is_segment(&name) {
            crate::disk::release(target, &name)?;
        }
    }
    target.sync_directory()
}

fn clear(target: &dyn Disk) -> std::io::Result<()> {
    remove_segments(target)?;
    target.remove(RESTORING)?;
    target.sync_directory()
}

fn fill(
    backup: &Arc<dyn Disk>,
    manifest: &Manifest,
    target: &dyn Disk,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Restored, BackupError> {
    let bytes = manifest.bytes();
    let mut done = 0;
    for stored in &manifest.segments {
        copy(&**backup, stored, target, &mut |more| {
            done += more;
            progress(done, 2 * bytes);
        })?;
    }
    target
        .sync_directory()
        .map_err(BackupError::io(&target.description().path))?;
    let check = verify::whole(target, &mut |done, _| progress(bytes + done, 2 * bytes))?;
    if let Some(damage) = check.found.damage.first() {
        return Err(BackupError::Damaged(damage.clone()));
    }
    if check.found.torn.is_some() || check.ends() != manifest.ends {
        let wrong = manifest.wrong("segments that end as it says", "others");
        return Err(BackupError::Damaged(wrong));
    }
    Ok(Restored {
        segments: check.found.segments,
        bytes,
        records: check.found.records,
        events: check.found.events,
    })
}

/// Copies a file, every byte of it written: a log writes into space that is there already.
fn copy(
    backup: &dyn Disk,
    stored: &Stored,
    target: &dyn Disk,
    progress: &mut dyn FnMut(u64),
) -> Result<(), BackupError> {
    let name = file_name(stored.generation, stored.form);
    let file = target
        .open(&name, Access::Store)
        .map_err(BackupError::io(&name))?;
    let mut at = 0;
    let mut failed = None;
    let checked = stored.check(backup, &mut |bytes| {
        // An error here is the target's, not the backup's.
        let written = file.write_at(at, bytes);
        at += bytes.len() as u64;
        progress(bytes.len() as u64);
        written.map_err(|error| {
            let kind = error.kind();
            failed = Some(error);
            kind.into()
        })
    });
    if let Some(error) = failed {
        return Err(BackupError::io(&name)(error));
    }
    checked.map_err(BackupError::Damaged)?;
    file.sync().map_err(BackupError::io(&name))
}
