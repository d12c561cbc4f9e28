//! Areas: values that can be made again from the log, in a small transactional store beside it.

mod backend;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use everfold_engine::engine::{Area, Entries, Put, PutError, ReadError, Revision};
use everfold_engine::position::Incarnation;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
    TableError,
};

use crate::disk::{Access, Disk};
use backend::Backend;

/// The file of the store.
pub(crate) const FILE: &str = "areas.redb";

const LOG: TableDefinition<'static, &str, u128> = TableDefinition::new("log");
const REVISIONS: TableDefinition<'static, &str, u64> = TableDefinition::new("revisions");
const INCARNATION: &str = "incarnation";

pub(crate) struct Areas {
    disk: Arc<dyn Disk>,
    incarnation: Incarnation,
    cache_bytes: usize,
    state: Mutex<State>,
    /// After a failed flush nobody knows what the device holds, and what is read back proves
    /// nothing: the store is not used again by this process.
    flush_failed: Arc<AtomicBool>,
    /// Held for reading while the file is used, for writing once, to close it.
    in_use: RwLock<()>,
}

#[derive(Default)]
struct State {
    database: Option<Arc<Database>>,
    closed: bool,
    discarded: Option<String>,
}

impl Areas {
    pub(crate) fn new(disk: Arc<dyn Disk>, incarnation: Incarnation, cache_bytes: usize) -> Self {
        Self {
            disk,
            incarnation,
            cache_bytes,
            state: Mutex::default(),
            flush_failed: Arc::default(),
            in_use: RwLock::default(),
        }
    }

    /// Opens the store if there is one; one that cannot be read, or is of another log, is emptied.
    pub(crate) fn open_existing(&self) -> Result<Option<String>, redb::Error> {
        let exists = self.disk.list().map_err(redb::Error::Io)?;
        if exists.iter().any(|name| name == FILE) {
            self.database()?;
        }
        Ok(self.state().discarded.clone())
    }

    /// Lets go of the file, after whoever uses it has finished.
    pub(crate) fn close(&self) {
        let _alone = self.in_use.write().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        state.closed = true;
        state.database = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn using(&self) -> RwLockReadGuard<'_, ()> {
        self.in_use.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn database(&self) -> Result<Arc<Database>, redb::Error> {
        let mut state = self.state();
        if state.closed {
            return Err(redb::Error::DatabaseClosed);
        }
        if self.flush_failed.load(Ordering::Relaxed) {
            return Err(redb::Error::PreviousIo);
        }
        if let Some(database) = &state.database {
            return Ok(Arc::clone(database));
        }
        let attempt = match self.attempt() {
            Err(_) if self.flush_failed.load(Ordering::Relaxed) => {
                return Err(redb::Error::PreviousIo);
            }
            // Looked at again before it is emptied: a read may go wrong once.
            Err(Unusable::Contents(_)) => self.attempt(),
            result => result,
        };
        let database = match attempt {
            Ok(database) => database,
            Err(Unusable::System(error)) => return Err(error),
            Err(Unusable::Contents(why)) => {
                self.disk.remove(FILE)?;
                self.disk.sync_directory()?;
                state.discarded = Some(why);
                self.attempt().map_err(Unusable::into_error)?
            }
        };
        let database = Arc::new(database);
        state.database = Some(Arc::clone(&database));
        Ok(database)
    }

    fn attempt(&self) -> Result<Database, Unusable> {
        let file = self.disk.open(FILE, Access::Store)?;
        let backend = Backend {
            file,
            flush_failed: Arc::clone(&self.flush_failed),
        };
        let cache_bytes = self.cache_bytes;
        let open = move || {
            let mut builder = redb::Builder::new();
            builder.set_cache_size(cache_bytes);
            builder.create_with_backend(backend)
        };
        let opened = catch_unwind(AssertUnwindSafe(open))
            .map_err(|_| Unusable::Contents("it cannot be read".into()))?;
        let database = opened.map_err(|error| match error {
            DatabaseError::Storage(StorageError::Corrupted(why)) => Unusable::Contents(why),
            DatabaseError::Storage(StorageError::Io(error)) if is_contents(&error) => {
                Unusable::Contents(error.to_string())
            }
            DatabaseError::UpgradeRequired(version) => {
                Unusable::Contents(format!("it has format {version}"))
            }
            error => Unusable::System(error.into()),
        })?;
        let found = stored_incarnation(&database)?;
        match found {
            Some(found) if found == self.incarnation.0 => {}
            Some(found) => {
                let why = format!("it is of incarnation {}", Incarnation(found));
                return Err(Unusable::Contents(why));
            }
            None => self.mark(&database)?,
        }
        // Also of a file that was there: whoever made it may not have come this far.
        self.disk.sync_directory()?;
        Ok(database)
    }

    fn mark(&self, database: &Database) -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        transaction
            .open_table(LOG)?
            .insert(INCARNATION, self.incarnation.0)?;
        transaction.open_table(REVISIONS)?;
        transaction.commit()?;
        Ok(())
    }

    /// After a failed write the store refuses everything; opening it again recovers, unless it was a
    /// flush that failed.
    fn forget(&self) {
        self.state().database = None;
    }

    pub(crate) fn put(&self, put: &Put) -> Result<Revision, PutError> {
        let _using = self.using();
        let result = self.try_put(put);
        result.unwrap_or_else(|error| {
            self.forget();
            Err(PutError::Unavailable(error.to_string()))
        })
    }

    fn try_put(&self, put: &Put) -> Result<Result<Revision, PutError>, redb::Error> {
        let database = self.database()?;
        let key = area_key(&put.area);
        let transaction = database.begin_write()?;
        let revision = {
            let mut revisions = transaction.open_table(REVISIONS)?;
            let current = Revision(
                revisions
                    .get(key.as_str())?
                    .map_or(0, |found| found.value()),
            );
            if current != put.previous {
                return Ok(Err(PutError::Changed(current)));
            }
            let next = Revision(current.0 + 1);
            revisions.insert(key.as_str(), next.0)?;
            next
        };
        let name = values_name(&key);
        let definition = TableDefinition::<&[u8], &[u8]>::new(&name);
        if put.clear {
            transaction.delete_table(definition)?;
        }
        {
            let mut values = transaction.open_table(definition)?;
            for (key, value) in &put.changes {
                match value {
                    Some(value) => values.insert(key.as_ref(), value.as_ref())?,
                    None => values.remove(key.as_ref())?,
                };
            }
        }
        transaction.commit()?;
        Ok(Ok(revision))
    }

    fn exists(&self) -> Result<bool, redb::Error> {
        if self.state().database.is_some() {
            return Ok(true);
        }
        Ok(self.disk.list()?.iter().any(|name| name == FILE))
    }

    fn reading<T: Default>(
        &self,
        read: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, ReadError> {
        let _using = self.using();
        let run = || {
            if !self.exists()? {
                return Ok(T::default());
            }
            read(&self.database()?.begin_read()?)
        };
        run().map_err(|error: redb::Error| {
            self.forget();
            ReadError::Unavailable(error.to_string())
        })
    }

    pub(crate) fn revision(&self, area: &Area) -> Result<Revision, ReadError> {
        self.reading(|transaction| {
            let revisions = transaction.open_table(REVISIONS)?;
            let found = revisions.get(area_key(area).as_str())?;
            Ok(Revision(found.map_or(0, |found| found.value())))
        })
    }

    pub(crate) fn get(&self, area: &Area, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.reading(|transaction| {
            let name = values_name(&area_key(area));
            let Some(values) = existing(transaction, &name)? else {
                return Ok(None);
            };
            let found = values.get(key)?;
            Ok(found.map(|value| Bytes::copy_from_slice(value.value())))
        })
    }

    pub(crate) fn scan(
        &self,
        area: &Area,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Entries, ReadError> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.reading(|transaction| {
            let name = values_name(&area_key(area));
            let Some(values) = existing(transaction, &name)? else {
                return Ok(Entries::new());
            };
            let from = after.map_or(Unbounded, Excluded);
            let range = values.range::<&[u8]>((from, Unbounded))?;
            let mut entries = Entries::new();
            for entry in range.take(limit) {
                let (key, value) = entry?;
                entries.push((
                    Bytes::copy_from_slice(key.value()),
                    Bytes::copy_from_slice(value.value()),
                ));
            }
            Ok(entries)
        })
    }
}

type Values = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

fn existing(
    transaction: &redb::ReadTransaction,
    name: &str,
) -> Result<Option<Values>, redb::Error> {
    let definition = TableDefinition::<&'static [u8], &'static [u8]>::new(name);
    match transaction.open_table(definition) {
        Ok(values) => Ok(Some(values)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn stored_incarnation(database: &Database) -> Result<Option<u128>, redb::Error> {
    let transaction = database.begin_read()?;
    match transaction.open_table(LOG) {
        Ok(log) => Ok(log.get(INCARNATION)?.map(|found| found.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn area_key(area: &Area) -> String {
    format!("{}/{}", area.partition, area.name)
}

fn values_name(area_key: &str) -> String {
    format!("values/{area_key}")
}

/// Whether an error speaks of the file's contents, not of the device.
fn is_contents(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    matches!(error.kind(), InvalidData | UnexpectedEof)
}

/// Why the store was not opened.
enum Unusable {
    /// The file is not what it should be.
    Contents(String),
    /// The system refuses; the file may be all right.
    System(redb::Error),
}

impl Unusable {
    fn into_error(self) -> redb::Error {
        match self {
            Self::Contents(why) => redb::Error::Corrupted(why),
            Self::System(error) => error,
        }
    }
}

impl From<std::io::Error> for Unusable {
    fn from(error: std::io::Error) -> Self {
        Self::System(error.into())
    }
}

impl From<redb::Error> for Unusable {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(why) => Self::Contents(why),
            error => Self::System(error),
        }
    }
}
