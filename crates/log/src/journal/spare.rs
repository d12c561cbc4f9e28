//! The next segment's file, filled with zeros ahead of need.
//!
//! A write into space that was written before needs no change of the file system's own records, so
//! it costs half of one into fresh space. A whole file is prepared rather than the end of the
//! current one, because the flush of a file waits for changes of its records.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::{Access, Aligned, BLOCK, Disk, File};
use crate::segment;

const CHUNK: usize = 256 << 10;

pub(crate) struct Spare {
    disk: Arc<dyn Disk>,
    ready: Mutex<State>,
    /// Ends a preparation that is under way.
    closing: AtomicBool,
}

#[derive(Default)]
struct State {
    ready: Option<Ready>,
    closed: bool,
}

#[derive(Clone)]
pub(crate) struct Ready {
    pub(crate) generation: u64,
    pub(crate) length: u64,
    pub(crate) file: Arc<dyn File>,
}

impl Spare {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            ready: Mutex::default(),
            closing: AtomicBool::new(false),
        }
    }

    /// A file of zeros for the segment, of `bytes` at least. Goes on where an earlier attempt
    /// ended, and waits for one that is under way.
    pub(crate) fn prepare(&self, generation: u64, bytes: u64) -> io::Result<Ready> {
        let mut state = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(io::Error::other("the log is closed"));
        }
        if let Some(ready) = &state.ready
            && ready.generation == generation
            && ready.length >= bytes
        {
            return Ok(ready.clone());
        }
        let file = self
            .disk
            .open(&segment::name(generation), Access::Journal)?;
        let block = BLOCK as u64;
        let mut length = file.len()? / block * block;
        let zeros = Aligned::zeroed(CHUNK);
        while length < bytes {
            if self.closing.load(Ordering::Relaxed) {
                return Err(io::Error::other("the log is closing"));
            }
            let chunk = (bytes - length).min(CHUNK as u64);
            file.write_at(length, &zeros[..chunk as usize])?;
            length += chunk;
        }
        file.sync()?;
        self.disk.sync_directory()?;
        let ready = Ready {
            generation,
            length,
            file,
        };
        state.ready = Some(ready.clone());
        Ok(ready)
    }

    /// Ends what is under way; nothing is written after this returned.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closed = true;
    }
}
