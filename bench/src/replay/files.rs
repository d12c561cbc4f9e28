//! The files of a log, read without the log.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{Advice, fadvise};

use crate::load::mix;

/// What is read at once.
const PIECE: usize = 1 << 20;
const BLOCK: usize = 4096;
/// A log is at rest after so long without a change.
const QUIET: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// All files of a log that hold events, each up to its last byte that is not zero.
pub(super) struct Files {
    files: Vec<(File, u64)>,
    /// Beside them: what may be made again from them.
    indexes: Vec<(File, u64)>,
}

/// Files that are neither events nor index: a lock, values beside the log, files to be used again,
/// files that are being made.
fn is_aside(name: &str) -> bool {
    name == "lock" || name.starts_with("areas") || name.ends_with(".spare") || !name.contains('.')
}

impl Files {
    pub(super) fn of(directory: &Path) -> io::Result<Self> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_file() && !is_aside(&name) {
                names.push(name);
            }
        }
        names.sort();
        let (mut files, mut indexes) = (Vec::new(), Vec::new());
        for name in names {
            let file = File::open(directory.join(&name))?;
            let used = used(&file)?;
            if name.ends_with(".index") {
                indexes.push((file, used));
            } else if used > 0 {
                files.push((file, used));
            }
        }
        Ok(Self { files, indexes })
    }

    pub(super) fn index_bytes(&self) -> u64 {
        self.indexes.iter().map(|(_, used)| used).sum()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, used)| used).sum()
    }

    /// Takes the files out of the page cache.
    pub(super) fn forget(&self) -> io::Result<()> {
        for (file, _) in self.files.iter().chain(&self.indexes) {
            fadvise(file, 0, None, Advice::DontNeed)?;
        }
        Ok(())
    }

    /// Reads everything in order; the checksum of it, or 0 if it is not wanted.
    pub(super) fn read(&self, checksum: bool) -> io::Result<u32> {
        let mut piece = vec![0; PIECE];
        let mut hasher = crc32fast::Hasher::new();
        for (file, used) in &self.files {
            let mut at = 0;
            while at < *used {
                let length = (used - at).min(PIECE as u64) as usize;
                file.read_exact_at(&mut piece[..length], at)?;
                if checksum {
                    hasher.update(&piece[..length]);
                }
                at += length as u64;
            }
        }
        Ok(hasher.finalize())
    }

    /// Reads blocks at random places, one after the other.
    pub(super) fn blocks(&self, count: usize, mut seed: u64) -> io::Result<()> {
        let mut block = [0; BLOCK];
        for _ in 0..count {
            seed = mix(seed);
            let mut place = seed % self.bytes();
            for (file, used) in &self.files {
                if place < *used {
                    let at = place.min(used.saturating_sub(BLOCK as u64));
                    file.read_exact_at(&mut block, at / BLOCK as u64 * BLOCK as u64)?;
                    break;
                }
                place -= used;
            }
        }
        Ok(())
    }
}

/// How far a file holds anything but zeros.
fn used(file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut piece = vec![0; PIECE];
    while end > 0 {
        let begin = end.saturating_sub(PIECE as u64);
        let piece = &mut piece[..(end - begin) as usize];
        file.read_exact_at(piece, begin)?;
        if let Some(last) = piece.iter().rposition(|byte| *byte != 0) {
            return Ok(begin + last as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

/// Waits until nothing of a directory has changed for a second, or for a minute: what a log does
/// beside the writing is not to fall into what is measured next.
pub(super) async fn at_rest(directory: &Path) -> io::Result<()> {
    let begin = Instant::now();
    let mut seen = (listing(directory)?, begin);
    while seen.1.elapsed() < QUIET && begin.elapsed() < PATIENCE {
        tokio::time::sleep(QUIET / 20).await;
        let now = listing(directory)?;
        if now != seen.0 {
            seen = (now, Instant::now());
        }
    }
    Ok(())
}

/// Names, lengths, and when each was written last.
fn listing(directory: &Path) -> io::Result<Vec<(OsString, u64, Option<SystemTime>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // One that has just gone away is a change too.
        if let Ok(data) = entry.metadata() {
            files.push((entry.file_name(), data.len(), data.modified().ok()));
        }
    }
    files.sort();
    Ok(files)
}

/// Bytes that the process had read from a device so far; 0 where the system does not say.
pub(super) fn device_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes:"));
    line.and_then(|value| value.trim().parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_zero_at_the_end_does_not_count_and_everything_before_does() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let mut first = vec![7; PIECE + 10];
        first.resize(3 * PIECE, 0);
        fs::write(directory.path().join("1.log"), &first).unwrap();
        fs::write(directory.path().join("2.log"), [0; 100]).unwrap();
        fs::write(directory.path().join("3.log"), [0, 0, 1]).unwrap();
        for name in ["lock", "areas.redb", "creating", "4.spare"] {
            fs::write(directory.path().join(name), [1]).unwrap();
        }
        fs::write(directory.path().join("3-1.index"), [5; 9]).unwrap();
        let files = Files::of(directory.path()).unwrap();
        assert_eq!(files.bytes(), PIECE as u64 + 13);
        assert_eq!(files.index_bytes(), 9);
        let mut expected = vec![7; PIECE + 10];
        expected.extend([0, 0, 1]);
        assert_eq!(files.read(true).unwrap(), crc32fast::hash(&expected));
    }
}
