//! Durable writes past the page cache, and the buffers they want.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// What direct writes are aligned to.
pub(crate) const BLOCK: usize = 4096;

/// How a write becomes durable here, for the report.
pub(crate) const FLAGS: &str = "O_DIRECT|O_DSYNC";

const ZEROING_STEP: usize = 1 << 20;

/// A new file of `length` zeros whose writes are durable when they return. The zeros are written:
/// a later write changes nothing in the file system's own records.
pub(crate) fn zeroed_file(path: &Path, length: u64) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .custom_flags(libc::O_DIRECT | libc::O_DSYNC)
        .open(path)?;
    let zeros = Aligned::zeroed(ZEROING_STEP);
    let mut at = 0;
    while at < length {
        let step = (length - at).min(ZEROING_STEP as u64);
        file.write_all_at(&zeros[..step as usize], at)?;
        at += step;
    }
    file.sync_all()?;
    Ok(file)
}

/// Bytes that begin at a multiple of [`BLOCK`] in memory.
pub(crate) struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    /// `length` zeros.
    pub(crate) fn zeroed(length: usize) -> Self {
        let bytes = vec![0; length + BLOCK];
        let start = bytes.as_ptr().align_offset(BLOCK).min(BLOCK);
        Self {
            bytes,
            start,
            length,
        }
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}
