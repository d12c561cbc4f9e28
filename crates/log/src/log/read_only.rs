//! A log that another process may be writing, opened for reading.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use everfold_engine::engine::{
    AppendError, Appended, Area, Batch, BoxFuture, Chunk, Claim, Engine, Entries, Epoch, Finding,
    Identity, Limits, OwnerError, Put, PutError, Query, ReadError, ReadLimit, Refusal, Revision,
};
use everfold_engine::{EntityKey, Offset, Partition, Record, Stamp, World};
use tokio::sync::oneshot;

use super::Log;
use super::follow::Follow;
use super::still::READ_ONLY;
use crate::disk::{Directory, Disk};
use crate::error::OpenError;
use crate::open::Report;
use crate::options::Options;
use crate::read::{Links, read_error};

/// How long [`Engine::wait`] waits before it looks again.
const PAUSE: Duration = Duration::from_millis(20);
/// How often a read is repeated with a fresh look at the directory.
const REPEATS: usize = 16;

/// A log in a directory that another process may have open and write: without its lock, and without
/// a byte changed.
///
/// Only what is durable is shown: what is read of the segment that is being written is flushed from
/// here before anybody sees it. It follows the writer through new segments and changed forms.
/// Everything that writes is refused; areas appear empty, as they can be made again from the log.
pub struct ReadOnly {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Identity,
    disk: Arc<dyn Disk>,
    world: Arc<dyn World>,
    options: Options,
    /// The log as it was last looked at.
    current: RwLock<Arc<Log>>,
    follow: Mutex<Follow>,
}

impl Log {
    /// Opens a log for reading, also while another process writes it. `options` are used for what
    /// they say of reading: memory and limits. Blocks while it reads.
    ///
    /// # Errors
    /// [`OpenError`], for a directory without a log too.
    pub fn open_read_only(
        disk: Arc<dyn Disk>,
        world: Arc<dyn World>,
        options: Options,
    ) -> Result<Arc<ReadOnly>, OpenError> {
        let follow = Follow::begin(&disk, &world, &options)?;
        let log = Arc::clone(&follow.still.log);
        Ok(Arc::new(ReadOnly {
            inner: Arc::new(Inner {
                identity: log.identity.clone(),
                disk,
                world,
                options,
                current: RwLock::new(log),
                follow: Mutex::new(follow),
            }),
        }))
    }

    /// The same for a directory of the file system.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is made.
    pub fn open_directory_read_only(
        path: impl AsRef<Path>,
        world: Arc<dyn World>,
        options: Options,
    ) -> Result<Arc<ReadOnly>, OpenError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let disk = Directory::read_only(path).map_err(OpenError::io(&name))?;
        Self::open_read_only(Arc::new(disk), world, options)
    }
}

impl Inner {
    fn current(&self) -> Arc<Log> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in what was written since.
    fn read_on(&self) -> Result<(), OpenError> {
        let mut follow = self.follow.lock().unwrap_or_else(PoisonError::into_inner);
        match follow.read_on(&*self.disk) {
            Ok(false) => Ok(()),
            // What could not be read may have changed its form.
            Ok(true) | Err(_) => self.begin_again(&mut follow),
        }
    }

    /// Looks at everything anew, unless somebody did since `seen` was current.
    fn renew(&self, seen: &Arc<Log>) -> Result<(), OpenError> {
        let mut follow = self.follow.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(seen, &follow.still.log) {
            self.begin_again(&mut follow)?;
        }
        Ok(())
    }

    fn begin_again(&self, follow: &mut Follow) -> Result<(), OpenError> {
        let fresh = Follow::begin(&self.disk, &self.world, &self.options)?;
        let found = &fresh.still.log.identity;
        if *found != self.identity {
            return Err(OpenError::MixedLogs {
                file: fresh.still.active.name.clone(),
                expected: self.identity.incarnation,
                found: found.incarnation,
            });
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::clone(&fresh.still.log);
        *follow = fresh;
        Ok(())
    }
}

impl ReadOnly {
    /// What the last look at the directory found.
    pub fn report(&self) -> Report {
        self.inner.current().report.clone()
    }

    async fn blocking(
        &self,
        job: impl FnOnce(&Inner) -> Result<(), OpenError> + Send + 'static,
    ) -> Result<(), ReadError> {
        let (done, result) = oneshot::channel();
        let inner = Arc::clone(&self.inner);
        let run = move || {
            let _ = done.send(job(&inner));
        };
        self.inner.world.block("read on", Box::new(run));
        match result.await {
            Ok(result) => result.map_err(read_error),
            Err(_) => Err(ReadError::Unavailable("the process is ending".into())),
        }
    }

    async fn read_on(&self) -> Result<(), ReadError> {
        self.blocking(Inner::read_on).await
    }

    /// After a read that failed: looks anew, or gives up.
    async fn again(
        &self,
        error: ReadError,
        seen: Arc<Log>,
        repeats: &mut usize,
    ) -> Result<(), ReadError> {
        let may_pass = matches!(error, ReadError::Damaged(_) | ReadError::Unavailable(_));
        if !may_pass || *repeats == REPEATS {
            return Err(error);
        }
        *repeats += 1;
        self.blocking(move |inner| inner.renew(&seen)).await
    }

    fn refused<T>(&self) -> Result<T, OwnerError> {
        Err(OwnerError::ReadOnly(READ_ONLY.into()))
    }
}

impl ReadOnly {
    async fn read_after(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
        links: Links,
    ) -> Result<Chunk, ReadError> {
        if after >= self.inner.current().head(partition)? {
            self.read_on().await?;
        }
        let mut repeats = 0;
        loop {
            let log = self.inner.current();
            match log.read_after(partition, after, limit, links).await {
                Err(error) => self.again(error, log, &mut repeats).await?,
                found => return found,
            }
        }
    }
}

impl Engine for ReadOnly {
    fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    fn limits(&self) -> Limits {
        self.inner.options.limits
    }

    fn claim(&self, _: Partition) -> BoxFuture<'_, Result<Claim, OwnerError>> {
        Box::pin(async { self.refused() })
    }

    fn renew(&self, _: Partition, _: Epoch, _: Stamp) -> BoxFuture<'_, Result<(), OwnerError>> {
        Box::pin(async { self.refused() })
    }

    fn release(&self, _: Partition, _: Epoch) -> BoxFuture<'_, Result<(), OwnerError>> {
        Box::pin(async { self.refused() })
    }

    fn confirm(&self, _: Partition, _: Epoch) -> BoxFuture<'_, Result<(), OwnerError>> {
        Box::pin(async { self.refused() })
    }

    fn append(
        &self,
        _: Partition,
        _: Epoch,
        _: Batch,
    ) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async { Err(Refusal::ReadOnly(READ_ONLY.into()).into()) })
    }

    fn read(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Chunk, ReadError>> {
        Box::pin(self.read_after(partition, after, limit, Links::Known))
    }

    fn read_chained(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Chunk, ReadError>> {
        Box::pin(self.read_after(partition, after, limit, Links::All))
    }

    fn find<'a>(
        &'a self,
        partition: Partition,
        query: &'a Query,
        after: Offset,
        limit: usize,
    ) -> BoxFuture<'a, Result<Chunk, ReadError>> {
        Box::pin(async move {
            self.read_on().await?;
            let mut repeats = 0;
            loop {
                let log = self.inner.current();
                match log.events_like(partition, query, after, limit).await {
                    Err(error) => self.again(error, log, &mut repeats).await?,
                    found => return found,
                }
            }
        })
    }

    fn safe_head(&self, partition: Partition) -> BoxFuture<'_, Result<Offset, ReadError>> {
        Box::pin(async move {
            self.read_on().await?;
            self.inner.current().head(partition)
        })
    }

    fn wait(
        &self,
        partition: Partition,
        after: Offset,
    ) -> BoxFuture<'_, Result<Offset, ReadError>> {
        Box::pin(async move {
            loop {
                let head = self.safe_head(partition).await?;
                if head > after {
                    return Ok(head);
                }
                self.inner.world.sleep(PAUSE).await;
            }
        })
    }

    fn indexes_entities(&self) -> bool {
        true
    }

    fn read_entity<'a>(
        &'a self,
        partition: Partition,
        entity: &'a EntityKey,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Arc<Record>>, ReadError>> {
        Box::pin(async move {
            self.read_on().await?;
            let mut repeats = 0;
            loop {
                let log = self.inner.current();
                match log.events_of(partition, entity, after, limit).await {
                    Err(error) => self.again(error, log, &mut repeats).await?,
                    found => return found,
                }
            }
        })
    }

    fn put(&self, _: Put) -> BoxFuture<'_, Result<Revision, PutError>> {
        Box::pin(async { Err(PutError::Unavailable(READ_ONLY.into())) })
    }

    fn revision<'a>(&'a self, _: &'a Area) -> BoxFuture<'a, Result<Revision, ReadError>> {
        Box::pin(async { Ok(Revision(0)) })
    }

    fn get<'a>(
        &'a self,
        _: &'a Area,
        _: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, ReadError>> {
        Box::pin(async { Ok(None) })
    }

    fn scan<'a>(
        &'a self,
        _: &'a Area,
        _: Option<&'a [u8]>,
        _: usize,
    ) -> BoxFuture<'a, Result<Entries, ReadError>> {
        Box::pin(async { Ok(Entries::new()) })
    }

    fn doctor(&self) -> Vec<Finding> {
        self.inner.current().findings()
    }

    fn durability(&self) -> String {
        format!("nothing is written: {READ_ONLY}")
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
