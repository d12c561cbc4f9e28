//! The seam between the log and where its bytes lie.
//!
//! Everything that the log does to a device goes through a [`Disk`], so that tests and the
//! simulation can lose writes, tear them, fill the device up or fail a flush.

mod aligned;
mod directory;
mod memory;

use std::io;
use std::sync::Arc;

pub(crate) use aligned::{Aligned, BLOCK};
pub use directory::Directory;
pub use memory::{Call, Crash, Fault, FaultPlan, MemoryDisk, Tally};

/// How a file is going to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Written in whole blocks, in order, each write durable as soon as may be; made if absent.
    Journal,
    /// Read in large pieces.
    Read,
    /// Read and written anywhere; made if absent.
    Store,
}

/// An empty file in the place of whatever has the name.
pub(crate) fn create(disk: &dyn Disk, name: &str) -> io::Result<Arc<dyn File>> {
    let file = disk.open(name, Access::Store)?;
    file.set_len(0)?;
    Ok(file)
}

/// Gives a file that was flushed the name under which it counts, durably.
pub(crate) fn publish(disk: &dyn Disk, from: &str, to: &str) -> io::Result<()> {
    disk.rename(from, to)?;
    disk.sync_directory()
}

/// Writes a small file as a whole, or leaves the one that there was; `writing` is its name meanwhile.
pub(crate) fn replace(disk: &dyn Disk, writing: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let file = create(disk, writing)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    publish(disk, writing, name)
}

/// Space is given back in steps of this many bytes.
const RELEASED_AT_ONCE: u64 = 8 << 20;

/// Removes a file, giving its space back in steps: a file system that frees much at once holds up
/// writes to other files meanwhile.
pub(crate) fn release(disk: &dyn Disk, name: &str) -> io::Result<()> {
    let file = disk.open(name, Access::Store)?;
    let mut length = file.len()?;
    while length > RELEASED_AT_ONCE {
        length -= RELEASED_AT_ONCE;
        file.set_len(length)?;
    }
    drop(file);
    disk.remove(name)
}

/// A flat directory of files.
pub trait Disk: Send + Sync + 'static {
    /// The names of all files, in any order.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file.
    ///
    /// # Errors
    /// What the system says; `NotFound` for [`Access::Read`] of a file that does not exist.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>>;

    /// Renames a file, replacing one of the new name; durable after [`Disk::sync_directory`].
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names of files durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_directory(&self) -> io::Result<()>;

    /// Takes the lock that keeps a second process away; `None` if it is held.
    ///
    /// # Errors
    /// What the system says.
    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Held>>>;

    /// What a write means here.
    fn description(&self) -> Description;
}

/// One open file.
pub trait File: Send + Sync {
    /// How long the file is.
    ///
    /// # Errors
    /// What the system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file is empty.
    ///
    /// # Errors
    /// What the system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `bytes` from `at`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before.
    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `at`; durable after [`File::sync`].
    ///
    /// # Errors
    /// What the system says; `StorageFull` if the device is.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes every write that returned durable. Costs nothing where writes are durable at once.
    ///
    /// # Errors
    /// What the system says. What was written since the last success may be lost, now or later.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file, or lengthens it with zeros.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&self, length: u64) -> io::Result<()>;
}

/// A lock; dropping it gives it back.
pub trait Held: Send + Sync {}

/// What a [`Disk`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The directory.
    pub path: String,
    /// The type of the file system.
    pub file_system: String,
    /// How a journal write becomes durable.
    pub durable_by: &'static str,
    /// Whether an acknowledged write can be lost with the machine.
    pub loses_data: bool,
}
