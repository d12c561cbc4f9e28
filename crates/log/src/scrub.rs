//! Scrubbing: full segments of a log in use are read back now and then, slowly.
//!
//! Whatever was written long ago may rot unread. What is found is told; nothing is changed.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use everfold_engine::World;
use everfold_engine::engine::{Finding, ReadError};
use everfold_engine::position::Incarnation;
use tokio::sync::{oneshot, watch};

use crate::disk::{Access, Description, Disk, File, Held};
use crate::log::Log;
use crate::read::{Source, read_error};
use crate::segments::Form;
use crate::verify::{Check, Indexes, Verified, bytes_of, file_name};

/// How much is read at once.
const PIECE: u64 = 1 << 20;
/// The first scrub of a process comes after this part of the time between two.
const FIRST: u32 = 24;

pub(crate) struct Scrubber {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) world: Arc<dyn World>,
    pub(crate) source: Arc<Source>,
    pub(crate) incarnation: Incarnation,
    /// The most that is read, in bytes per second.
    pub(crate) rate: Option<u64>,
    pub(crate) finished: watch::Receiver<bool>,
    pub(crate) last: Mutex<Option<Verified>>,
}

impl Log {
    /// Reads all full segments back while the log goes on, no faster than the option
    /// `scrub_bytes_per_second` says: checksums, records, the chain, and whether the indexes agree.
    /// Versions of entities are left to [`verify`](crate::verify()), as they take memory for each.
    /// `progress` is told bytes done and bytes in all. What was found is also told by
    /// [`doctor`](everfold_engine::Engine::doctor).
    ///
    /// # Errors
    /// The log was closed meanwhile.
    pub async fn scrub(
        &self,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Verified, ReadError> {
        self.scrubber().scrub(progress).await
    }
}

/// Scrubs until the log is closed.
pub(crate) async fn periodically(scrubber: Arc<Scrubber>, every: Duration) {
    let mut pause = every / FIRST;
    loop {
        scrubber.world.sleep(pause).await;
        if scrubber.scrub(|_, _| {}).await.is_err() && scrubber.is_finished() {
            return;
        }
        pause = every;
    }
}

impl Scrubber {
    fn is_finished(&self) -> bool {
        *self.finished.borrow()
    }

    /// What the last scrub found, for [`Finding`]s.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = &*last else {
            return Vec::new();
        };
        let finding = |name, value, loses_data| Finding {
            name,
            value,
            loses_data,
        };
        let summary = format!(
            "{} full segments, {} records, damaged in {} places",
            last.segments,
            last.records,
            last.damage.len()
        );
        let mut findings = vec![finding("scrub", summary, false)];
        for damage in &last.damage {
            let value =
                format!("{damage}; run `everfold verify` and restore the file from a backup");
            findings.push(finding("damage", value, true));
        }
        for damage in &last.indexes {
            let value = format!("{damage}; remove the file, it is made again at the next start");
            findings.push(finding("index", value, false));
        }
        findings
    }

    pub(crate) async fn scrub(
        &self,
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Verified, ReadError> {
        let segments = &self.source.segments;
        let active = segments.active();
        let mut full = segments.forms();
        full.retain(|generation, _| *generation < active);
        let length = |(generation, form): (&u64, &Form)| bytes_of(&*self.disk, *generation, *form);
        let total: u64 = full.iter().filter_map(|segment| length(segment).ok()).sum();
        let mut check = Check::without_versions();
        let mut indexes = Indexes::of(&self.source.runs, self.incarnation, Vec::new());
        // Segments were filled, and indexed, since they were listed.
        indexes.expect(&full);
        check.indexes = Some(indexes);
        let mut done = 0;
        for generation in full.keys().copied() {
            match self.read_slowly(generation).await? {
                Some((form, bytes)) => {
                    done += bytes.len() as u64;
                    check = self.check(check, generation, form, bytes).await?;
                }
                None => check.skipped(generation),
            }
            progress(done.min(total), total);
        }
        let mut check = self
            .blocking(move || {
                check.compare_indexes();
                check
            })
            .await?;
        // Indexes that were merged meanwhile are gone.
        let listed = self.source.runs.list();
        let is_listed = |file: &str| listed.iter().any(|run| run.name == file);
        check.found.indexes.retain(|damage| is_listed(&damage.file));
        check.found.bytes = done;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(check.found.clone());
        Ok(check.found)
    }

    /// A segment's bytes, in the form that it has; `None` if it was trimmed away.
    async fn read_slowly(&self, generation: u64) -> Result<Option<(Form, Bytes)>, ReadError> {
        loop {
            let Some(form) = self.source.segments.form(generation) else {
                return Ok(None);
            };
            let read = self.pieces(file_name(generation, form)).await;
            if self.is_finished() {
                return Err(ReadError::Unavailable("the log is closed".into()));
            }
            // A file is used again only after everybody was told of the new form.
            if self.source.segments.form(generation) == Some(form) {
                return Ok(Some((form, read?.unwrap_or_default())));
            }
        }
    }

    /// A file's bytes; `None` if it cannot be read.
    async fn pieces(&self, name: String) -> Result<Option<Bytes>, ReadError> {
        let disk = Arc::clone(&self.disk);
        let opened = self
            .blocking(move || {
                let file = disk.open(&name, Access::Read)?;
                let length = file.len()?;
                Ok((file, length))
            })
            .await?;
        let Ok::<(Arc<dyn File>, u64), io::Error>((file, length)) = opened else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(length as usize);
        while (bytes.len() as u64) < length {
            let at = bytes.len() as u64;
            let piece = (length - at).min(PIECE);
            let from = Arc::clone(&file);
            let read = self
                .blocking(move || {
                    let mut bytes = vec![0; piece as usize];
                    from.read_at(at, &mut bytes).map(|()| bytes)
                })
                .await?;
            let Ok(read) = read else {
                return Ok(None);
            };
            bytes.extend_from_slice(&read);
            if let Some(rate) = self.rate {
                let nanos = piece.saturating_mul(1_000_000_000) / rate.max(1);
                self.world.sleep(Duration::from_nanos(nanos)).await;
            }
            if self.is_finished() {
                return Err(ReadError::Unavailable("the log is closed".into()));
            }
        }
        Ok(Some(bytes.into()))
    }

    async fn check(
        &self,
        mut check: Check,
        generation: u64,
        form: Form,
        bytes: Bytes,
    ) -> Result<Check, ReadError> {
        let disk = Arc::clone(&self.disk);
        let job = move || {
            let name = file_name(generation, form);
            let disk = Beside { disk, name, bytes };
            let checked = check.segment(&disk, generation, form, true, &mut |_| {});
            checked.map(|()| check)
        };
        self.blocking(job).await?.map_err(read_error)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        let (done, result) = oneshot::channel();
        let run = move || {
            let _ = done.send(job());
        };
        self.world.block("scrub", Box::new(run));
        let ended = |_| ReadError::Unavailable("the process is ending".into());
        result.await.map_err(ended)
    }
}

/// A disk of which one file was read already.
struct Beside {
    disk: Arc<dyn Disk>,
    name: String,
    bytes: Bytes,
}

struct Whole(Bytes);

fn refused<T>() -> io::Result<T> {
    Err(io::Error::from(io::ErrorKind::PermissionDenied))
}

impl File for Whole {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let at = at as usize;
        let found = self.0.get(at..at + bytes.len());
        bytes.copy_from_slice(found.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        refused()
    }

    fn sync(&self) -> io::Result<()> {
        refused()
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        refused()
    }
}

impl Disk for Beside {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        match access {
            Access::Read if name == self.name => Ok(Arc::new(Whole(self.bytes.clone()))),
            Access::Read => self.disk.open(name, access),
            _ => refused(),
        }
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        refused()
    }

    fn sync_directory(&self) -> io::Result<()> {
        refused()
    }

    fn lock(&self, _: &str) -> io::Result<Option<Box<dyn Held>>> {
        refused()
    }

    fn description(&self) -> Description {
        self.disk.description()
    }
}
