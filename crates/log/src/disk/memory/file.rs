//! One open file.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::contents::{Contents, SECTOR, sectors};
use super::fault::{Call, Fault};
use super::{File, State, dying, failed, split_mix};

pub(super) struct MemoryFile {
    name: String,
    state: Arc<Mutex<State>>,
    file: Arc<Mutex<Contents>>,
}

impl MemoryFile {
    pub(super) fn new(name: &str, state: &Arc<Mutex<State>>, file: Arc<Mutex<Contents>>) -> Self {
        Self {
            name: name.to_owned(),
            state: Arc::clone(state),
            file,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses to make the file longer than there is room.
    fn reserve(&self, state: &mut State, length: usize) -> io::Result<()> {
        let more = length.saturating_sub(self.contents().bytes.len()) as u64;
        match state.capacity {
            Some(capacity) if more > 0 && state.used() + more > capacity => {
                state.tally.happen(Fault::Full);
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.contents().bytes.len() as u64)
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        let some = !bytes.is_empty();
        let fault = state.fault(Call::Read, &self.name, |_| some);
        let contents = self.contents();
        let at = at as usize;
        let end = at.checked_add(bytes.len());
        let read = end
            .and_then(|end| contents.bytes.get(at..end))
            .ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
        match fault {
            Some(Fault::FailedRead) => return Err(failed(Call::Read)),
            Some(Fault::ShortRead) => {
                let half = bytes.len() / 2;
                bytes[..half].copy_from_slice(&read[..half]);
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            _ => bytes.copy_from_slice(read),
        }
        if fault == Some(Fault::FlippedRead) {
            let place = split_mix(&mut state.random) as usize % (bytes.len() * 8);
            bytes[place / 8] ^= 1 << (place % 8);
        }
        Ok(())
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let dies = state.operate()?;
        let at = at as usize;
        let grows = at + bytes.len() > self.contents().bytes.len();
        let fault = state.fault(Call::Write, &self.name, |fault| {
            fault != Fault::Full || grows
        });
        match fault {
            Some(Fault::FailedWrite) => return Err(failed(Call::Write)),
            Some(Fault::Full) => return Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::ShortWrite) => {
                let count = bytes.len().div_ceil(SECTOR);
                let landed = split_mix(&mut state.random) as usize % count.max(1);
                let landed = sectors(at, bytes).take(landed).map(|(_, part)| part.len());
                let landed = landed.sum();
                self.contents().write(at, &bytes[..landed]);
                return Err(failed(Call::Write));
            }
            _ => self.reserve(&mut state, at + bytes.len())?,
        }
        self.contents().write(at, bytes);
        if dies { Err(dying()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.operate()? {
            return Err(dying());
        }
        let fault = state.fault(Call::Sync, &self.name, |_| true);
        if state.fail_syncs || fault == Some(Fault::FailedSync) {
            self.contents().doubt();
            return Err(failed(Call::Sync));
        }
        if !state.ignore_syncs && fault != Some(Fault::LyingSync) {
            self.contents().sync();
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        let dies = state.operate()?;
        state.try_call(Call::SetLength, &self.name)?;
        self.reserve(&mut state, length as usize)?;
        let mut contents = self.contents();
        contents.bytes.resize(length as usize, 0);
        if dies { Err(dying()) } else { Ok(()) }
    }
}
