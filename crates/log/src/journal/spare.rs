//! The next segment's file, filled with zeros ahead of need.
//!
//! A write into space that was written before needs no change of the file system's own records, so
//! it costs half of one into fresh space. A whole file is prepared rather than the end of the
//! current one, because the flush of a file waits for changes of its records.
//!
//! Files of segments that were packed are filled with zeros again and used once more: to free and
//! allocate space is what file systems are slow at.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Access, Aligned, BLOCK, Disk, File, release};
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
    /// Files that wait to be used again.
    used: Vec<String>,
    closed: bool,
}

/// More files than this are not kept.
const MOST_USED: usize = 2;
const SUFFIX: &str = ".spare";

/// Whether a file waits to be used again.
pub(crate) fn is_spare(name: &str) -> bool {
    name.strip_suffix(SUFFIX).is_some_and(|digits| {
        digits.len() >= 10 && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
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

    /// Takes a file that is no longer needed under its name.
    pub(crate) fn reuse(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let enough = state.closed || state.used.len() >= MOST_USED;
        let spare = match name.strip_suffix(".log") {
            Some(generation) => format!("{generation}{SUFFIX}"),
            None => name.to_owned(),
        };
        if spare != name {
            self.disk.rename(name, &spare)?;
        }
        if enough {
            drop(state);
            return release(&*self.disk, &spare);
        }
        state.used.push(spare);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a used file the name of the segment, once it holds nothing but zeros. One that cannot
    /// be used again is left alone: a fresh file does as well.
    fn take_used(&self, state: &mut State, name: &str) -> io::Result<()> {
        let taken = self.disk.list()?.iter().any(|other| other == name);
        if taken {
            return Ok(());
        }
        while let Some(used) = state.used.pop() {
            match self
                .clear(&used)
                .and_then(|()| self.disk.rename(&used, name))
            {
                Ok(()) => return Ok(()),
                Err(error) if self.closing.load(Ordering::Relaxed) => {
                    state.used.push(used);
                    return Err(error);
                }
                // It gives its space back if it can, and is looked at again at the next opening.
                Err(_) => drop(release(&*self.disk, &used)),
            }
        }
        Ok(())
    }

    /// Fills a used file with zeros, whole blocks of them.
    fn clear(&self, used: &str) -> io::Result<()> {
        let file = self.disk.open(used, Access::Journal)?;
        let block = BLOCK as u64;
        let found = file.len()?;
        let length = found / block * block;
        if length < found {
            file.set_len(length)?;
        }
        let zeros = Aligned::zeroed(CHUNK);
        let mut at = 0;
        while at < length {
            if self.closing.load(Ordering::Relaxed) {
                return Err(io::Error::other("the log is closing"));
            }
            let chunk = (length - at).min(CHUNK as u64);
            file.write_at(at, &zeros[..chunk as usize])?;
            at += chunk;
        }
        file.sync()
    }

    /// A file of zeros for the segment, of `bytes` at least. Goes on where an earlier attempt
    /// ended, and waits for one that is under way.
    pub(crate) fn prepare(&self, generation: u64, bytes: u64) -> io::Result<Ready> {
        let mut state = self.state();
        if state.closed {
            return Err(io::Error::other("the log is closed"));
        }
        if let Some(ready) = &state.ready
            && ready.generation == generation
            && ready.length >= bytes
        {
            return Ok(ready.clone());
        }
        let name = segment::name(generation);
        self.take_used(&mut state, &name)?;
        let file = self.disk.open(&name, Access::Journal)?;
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
        self.state().closed = true;
    }
}
