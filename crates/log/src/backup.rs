//! Backups: a consistent prefix of a log, also of one that is being written, and back again.
//!
//! A backup takes full segments as they are and what is durable of the one being written. Copies
//! that a manifest names are never changed, so a backup that is cut short leaves the one before it.

mod copy;
mod history;
mod manifest;
mod restore;
mod view;

use std::sync::Arc;

use crate::disk::{Access, Disk};
use crate::error::{Damage, OpenError};
use crate::log::Log;
use crate::open::{LOCK, MANIFEST};
use crate::verify::{self, Check, Verified};
use manifest::Manifest;
use view::View;

pub use copy::backup;
pub use restore::restore;

/// What a backup holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackedUp {
    /// How many backups were made into the directory.
    pub number: u64,
    /// Segments in the backup.
    pub segments: u64,
    /// Those that had to be copied this time.
    pub copied: u64,
    /// Bytes that were written for them.
    pub bytes: u64,
    /// Records of all kinds in the backup.
    pub records: u64,
}

/// What a restored log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// Segments.
    pub segments: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Records of all kinds.
    pub records: u64,
    /// Events among them.
    pub events: u64,
}

/// A backup or restore that was not made. What was there before is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The directory for the backup holds something else.
    #[error(
        "{directory} holds the file {file:?}, which no backup has put there; give an empty directory, or that of an earlier backup of the same log"
    )]
    Foreign {
        /// The directory.
        directory: String,
        /// The file.
        file: String,
    },
    /// The backup is of another log.
    #[error(
        "{directory} holds a backup of {theirs}, not of {ours}; give each log a directory of its own"
    )]
    OtherLog {
        /// The directory.
        directory: String,
        /// Name, site and incarnation of the log in the backup.
        theirs: String,
        /// Those of the log that is to be backed up.
        ours: String,
    },
    /// The log has another history than its backup: it was restored from an older one.
    #[error(
        "{directory} holds records that the log does not have: the log went on from an older state; keep that backup, and back up into another directory"
    )]
    Ahead {
        /// The directory.
        directory: String,
    },
    /// Another backup is being made or restored there.
    #[error("{directory} is in use by another process; let it finish first")]
    InUse {
        /// The directory.
        directory: String,
    },
    /// Nothing to restore.
    #[error(
        "{directory} holds no finished backup; give the directory that `everfold backup` wrote to"
    )]
    NotABackup {
        /// The directory.
        directory: String,
    },
    /// Something is where the log should go.
    #[error("{directory} is not empty, it holds {file:?}; give an empty or new directory")]
    Occupied {
        /// The directory.
        directory: String,
        /// A file in it.
        file: String,
    },
    /// Written by a newer version.
    #[error(
        "{file}: it has format {found}, this version reads up to {known}; use the version that wrote it, or a newer one"
    )]
    Newer {
        /// The manifest.
        file: String,
        /// Its format.
        found: u32,
        /// The newest known one.
        known: u32,
    },
    /// The backup is not as it was written.
    #[error(
        "the backup is damaged: {0}; restore from another one, and back up into a new directory"
    )]
    Damaged(Damage),
    /// What the system says.
    #[error("{file}: {source}; see that the directory can be read and written, and has space")]
    Io {
        /// The file.
        file: String,
        /// The system's error.
        source: std::io::Error,
    },
}

impl BackupError {
    fn io(file: &str) -> impl FnOnce(std::io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Io { file, source }
    }
}

impl Log {
    /// Copies what is durable to `target`, while the log goes on: see [`backup`].
    ///
    /// # Errors
    /// [`BackupError`]; an earlier backup in `target` is as it was.
    pub async fn backup(
        &self,
        target: Arc<dyn Disk>,
        mut progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<BackedUp, BackupError> {
        let source = Arc::clone(self.disk());
        let job = move || backup(&*source, &target, &mut progress);
        let ended = || std::io::Error::other("the process is ending");
        self.blocking("backup", job)
            .await
            .unwrap_or_else(|| Err(BackupError::io(MANIFEST)(ended())))
    }
}

/// Whether a directory holds a finished backup.
///
/// # Errors
/// What the system says.
pub fn is_backup(disk: &dyn Disk) -> std::io::Result<bool> {
    Ok(disk.list()?.iter().any(|name| name == MANIFEST))
}

/// Checks all of a backup without changing it: that its files are those that the manifest names,
/// and everything that [`verify`](crate::verify()) checks of a log. `progress` is told bytes done
/// and bytes in all.
///
/// # Errors
/// [`BackupError`] where there is no backup to look at; what is wrong with one is in the answer.
pub fn verify_backup(
    backup: &Arc<dyn Disk>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verified, BackupError> {
    let directory = backup.description().path;
    let lock = backup.lock(LOCK).map_err(BackupError::io(LOCK))?;
    let _lock = lock.ok_or_else(|| BackupError::InUse {
        directory: directory.clone(),
    })?;
    let manifest = Manifest::read(&**backup)?;
    let manifest = manifest.ok_or(BackupError::NotABackup { directory })?;
    let bytes = manifest.bytes();
    let mut damage = Vec::new();
    let mut done = 0;
    for stored in &manifest.segments {
        if let Err(found) = stored.check(&**backup, &mut |_| Ok(())) {
            damage.push(found);
        }
        done += stored.length;
        progress(done, 2 * bytes);
    }
    let view = View::new(Arc::clone(backup), &manifest.segments);
    let checked = verify::whole(&view, &mut |done, _| progress(bytes + done, 2 * bytes));
    let mut check = match checked {
        Ok(check) => check,
        Err(error) if damage.is_empty() => return Err(error.into()),
        // What is not as it was written says nothing of the log either.
        Err(_) => Check::default(),
    };
    if check.found.damage.is_empty() && check.ends() != manifest.ends {
        check.damaged(manifest.wrong("segments that end as it says", "others"));
    }
    damage.append(&mut check.found.damage);
    check.found.damage = damage;
    Ok(check.found)
}

/// The bytes of a file, at most `limit` at once, to `each`.
fn read_pieces(
    disk: &dyn Disk,
    name: &str,
    length: u64,
    each: &mut dyn FnMut(u64, &[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    const PIECE: u64 = 1 << 20;
    let file = disk.open(name, Access::Read)?;
    let mut bytes = vec![0; length.min(PIECE) as usize];
    let mut at = 0;
    while at < length {
        let piece = (length - at).min(PIECE) as usize;
        file.read_at(at, &mut bytes[..piece])?;
        each(at, &bytes[..piece])?;
        at += piece as u64;
    }
    Ok(())
}
