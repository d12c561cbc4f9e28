//! A directory of the system's file system.

use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Access, Aligned, BLOCK, Description, Disk, File, Held};

/// Files of a directory. Journals are written past the page cache, each write durable by itself,
/// where the file system takes that.
pub struct Directory {
    path: PathBuf,
    direct: AtomicBool,
    /// Nothing is made, written, renamed or removed.
    read_only: bool,
}

impl Directory {
    /// The directory at `path`, made if absent.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        fs::create_dir_all(&path)?;
        let direct = AtomicBool::new(takes_direct_writes(&path));
        Ok(Self {
            path,
            direct,
            read_only: false,
        })
    }

    /// The directory at `path`, to be looked at: whatever would change it is refused, and it may be
    /// one that cannot be written.
    ///
    /// # Errors
    /// There is none, or what the system says.
    pub fn read_only(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        fs::read_dir(&path)?;
        Ok(Self {
            path,
            direct: AtomicBool::new(false),
            read_only: true,
        })
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.read_only {
            let reason = "the directory was opened for reading only";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same, written through the page cache and flushed: slower, and what is used where the
    /// file system refuses direct writes.
    #[must_use]
    pub fn buffered(self) -> Self {
        self.direct.store(false, Ordering::Relaxed);
        self
    }
}

/// Some file systems refuse the flag when a file is opened, others the first write.
fn takes_direct_writes(path: &Path) -> bool {
    let probe = path.join(".probe");
    let written =
        open_direct(&probe).and_then(|file| file.write_all_at(&Aligned::zeroed(BLOCK), 0));
    let _ = fs::remove_file(&probe);
    // A full device says nothing about how it would be written.
    written.map_or_else(
        |error| error.kind() == io::ErrorKind::StorageFull,
        |()| true,
    )
}

fn open_direct(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(libc::O_DIRECT | libc::O_DSYNC)
        .open(path)
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        if access != Access::Read {
            self.check_writable()?;
        }
        let path = self.path.join(name);
        let direct = access == Access::Journal && self.direct.load(Ordering::Relaxed);
        let file = if direct {
            open_direct(&path)?
        } else if access == Access::Read {
            fs::File::open(&path)?
        } else {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.open(&path)?
        };
        Ok(Arc::new(Plain { file, direct }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }

    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Held>>> {
        let path = self.path.join(name);
        let file = if self.read_only {
            match fs::File::open(&path) {
                Ok(file) => file,
                // Nobody has a lock that does not exist.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Some(Box::new(Locked { _file: None })));
                }
                Err(error) => return Err(error),
            }
        } else {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.open(&path)?
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(Locked { _file: Some(file) }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn description(&self) -> Description {
        let kind = rustix::fs::statfs(&self.path)
            .map(|stat| stat.f_type as u64 & 0xffff_ffff)
            .unwrap_or_default();
        let (file_system, loses_data) = file_system(kind);
        Description {
            path: self.path.display().to_string(),
            file_system,
            durable_by: if self.direct.load(Ordering::Relaxed) {
                "O_DIRECT|O_DSYNC"
            } else {
                "fdatasync"
            },
            loses_data,
        }
    }
}

/// The name behind the magic number of statfs(2), and whether it forgets with the machine.
fn file_system(magic: u64) -> (String, bool) {
    let known = [
        (0xef53, "ext4", false),
        (0x5846_5342, "xfs", false),
        (0x9123_683e, "btrfs", false),
        (0x2fc1_2fc1, "zfs", false),
        (0xf2f5_2010, "f2fs", false),
        (0x6969, "nfs", false),
        (0x794c_7630, "overlayfs", false),
        (0x0102_1994, "tmpfs", true),
        (0x8584_58f6, "ramfs", true),
    ];
    known
        .iter()
        .find(|(number, _, _)| *number == magic)
        .map_or_else(
            || (format!("unknown ({magic:#x})"), false),
            |(_, name, loses)| ((*name).to_owned(), *loses),
        )
}

struct Locked {
    _file: Option<fs::File>,
}

impl Held for Locked {}

struct Plain {
    file: fs::File,
    direct: bool,
}

impl File for Plain {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        if !self.direct {
            return self.file.read_exact_at(bytes, at);
        }
        let begin = at - at % BLOCK as u64;
        let end = (at + bytes.len() as u64).next_multiple_of(BLOCK as u64);
        let mut blocks = Aligned::zeroed((end - begin) as usize);
        self.file.read_exact_at(&mut blocks, begin)?;
        let skip = (at - begin) as usize;
        bytes.copy_from_slice(&blocks[skip..skip + bytes.len()]);
        Ok(())
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        if self.direct {
            // O_DSYNC: each write was durable when it returned.
            return Ok(());
        }
        self.file.sync_data()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }
}
