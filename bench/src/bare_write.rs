//! The floor: one durable write of 4 KiB after the other, with nothing around it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::direct::{Aligned, BLOCK, zeroed_file};

const FILE_BYTES: u64 = 16 << 20;

/// A zero-filled file that blocks are written to, in order and round about.
pub(crate) struct BareWrite {
    file: File,
    block: Aligned,
    next: u64,
}

impl BareWrite {
    pub(crate) fn create(directory: &Path) -> io::Result<Self> {
        Ok(Self {
            file: zeroed_file(&directory.join("bare-write"), FILE_BYTES)?,
            block: Aligned::zeroed(BLOCK),
            next: 0,
        })
    }

    /// Writes for a while; how long each write took, ascending.
    pub(crate) fn measure(&mut self, time: Duration) -> io::Result<Vec<Duration>> {
        let mut taken = Vec::new();
        let begin = Instant::now();
        while begin.elapsed() < time {
            self.block[..8].copy_from_slice(&self.next.to_le_bytes());
            let before = Instant::now();
            self.file.write_all_at(&self.block, self.next)?;
            taken.push(before.elapsed());
            self.next = (self.next + BLOCK as u64) % FILE_BYTES;
        }
        taken.sort_unstable();
        Ok(taken)
    }
}
