//! Which segments a log has, in which form, and where each partition stands in them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use everfold_engine::map::{Map, seeded};
use everfold_engine::position::Incarnation;
use everfold_engine::{Offset, Partition, Stamp};

use crate::cache::ReadCache;
use crate::disk::{Access, Disk, File};
use crate::error::OpenError;
use crate::open::header_of;
use crate::sealed::{self, SealedFile};
use crate::segment::{self, PartitionStart, SegmentHeader};

/// Files kept open for reading.
const OPEN_FILES: usize = 256;

/// So many partitions' starts are remembered; others are read again.
const MOST_STARTS: usize = 1 << 20;

/// How a segment is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it was written.
    Plain,
    /// Packed, partition by partition.
    Sealed,
}

/// What a partition had before a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) last: Offset,
    pub(crate) floor: Stamp,
}

impl From<&PartitionStart> for Start {
    fn from(start: &PartitionStart) -> Self {
        Self {
            last: start.last,
            floor: start.floor,
        }
    }
}

/// Every segment but the spare ones.
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    cache: Arc<ReadCache>,
    incarnation: Incarnation,
    state: RwLock<State>,
}

struct State {
    forms: BTreeMap<u64, Form>,
    starts: Map<u64, Arc<[Start]>>,
    files: Map<u64, Opened>,
    /// Counts changes of form and packed files that were written again.
    changes: u64,
}

#[derive(Clone)]
enum Opened {
    Plain(Arc<dyn File>),
    Sealed(Arc<SealedFile>),
}

impl Segments {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        cache: Arc<ReadCache>,
        incarnation: Incarnation,
        forms: BTreeMap<u64, Form>,
    ) -> Self {
        Self {
            disk,
            cache,
            incarnation,
            state: RwLock::new(State {
                forms,
                starts: seeded(0),
                files: seeded(0),
                changes: 0,
            }),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A segment is written from now on.
    pub(crate) fn begun(&self, generation: u64, starts: &[PartitionStart]) {
        let mut state = self.write();
        state.forms.insert(generation, Form::Plain);
        let starts = starts.iter().map(Start::from).collect();
        state.starts.insert(generation, starts);
    }

    /// A segment is to be read in its packed form from now on.
    pub(crate) fn packed(&self, generation: u64) {
        let mut state = self.write();
        state.forms.insert(generation, Form::Sealed);
        state.files.remove(&generation);
        state.changes += 1;
    }

    /// Grows whenever what was read before may be found elsewhere.
    pub(crate) fn changes(&self) -> u64 {
        self.read().changes
    }

    /// Segments before `generation` are no longer there; they are returned.
    pub(crate) fn forget_before(&self, generation: u64) -> BTreeMap<u64, Form> {
        let mut state = self.write();
        let kept = state.forms.split_off(&generation);
        let gone = std::mem::replace(&mut state.forms, kept);
        state.changes += 1;
        for generation in gone.keys() {
            state.files.remove(generation);
            state.starts.remove(generation);
        }
        gone
    }

    pub(crate) fn forms(&self) -> BTreeMap<u64, Form> {
        self.read().forms.clone()
    }

    pub(crate) fn form(&self, generation: u64) -> Option<Form> {
        self.read().forms.get(&generation).copied()
    }

    /// The oldest segment.
    pub(crate) fn first(&self) -> u64 {
        self.read().forms.keys().next().copied().unwrap_or(1)
    }

    /// The segment that is being written.
    pub(crate) fn active(&self) -> u64 {
        self.read().forms.keys().next_back().copied().unwrap_or(1)
    }

    pub(crate) fn header(&self, generation: u64) -> Result<SegmentHeader, OpenError> {
        let (name, header) = match self.form(generation) {
            Some(Form::Sealed) => (
                sealed::name(generation),
                self.sealed(generation)?.header().segment.clone(),
            ),
            _ => (
                segment::name(generation),
                header_of(&*self.disk, generation)?,
            ),
        };
        if header.identity.incarnation != self.incarnation {
            return Err(OpenError::MixedLogs {
                file: name,
                expected: self.incarnation,
                found: header.identity.incarnation,
            });
        }
        Ok(header)
    }

    /// Where the partitions stood before a segment.
    pub(crate) fn starts(&self, generation: u64) -> Result<Arc<[Start]>, OpenError> {
        if let Some(starts) = self.read().starts.get(&generation) {
            return Ok(Arc::clone(starts));
        }
        let header = self.header(generation)?;
        let starts: Arc<[Start]> = header.starts.iter().map(Start::from).collect();
        let mut state = self.write();
        if state.starts.len() >= MOST_STARTS / starts.len().max(1) {
            state.starts.clear();
        }
        state.starts.insert(generation, Arc::clone(&starts));
        Ok(starts)
    }

    fn start(&self, generation: u64, partition: Partition) -> Result<Start, OpenError> {
        let starts = self.starts(generation)?;
        Ok(starts[partition.index()])
    }

    /// The last segment of which `is_before` says that it begins before what is looked for.
    fn search(
        &self,
        partition: Partition,
        is_before: impl Fn(Start) -> bool,
    ) -> Result<u64, OpenError> {
        let (mut low, mut high) = (self.first(), self.active());
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if is_before(self.start(middle, partition)?) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Ok(low)
    }

    /// The segment that holds an offset.
    pub(crate) fn holding(&self, partition: Partition, offset: Offset) -> Result<u64, OpenError> {
        self.search(partition, |start| start.last < offset)
    }

    /// The segment that holds the first record with this stamp or a later one.
    pub(crate) fn holding_stamp(
        &self,
        partition: Partition,
        stamp: Stamp,
    ) -> Result<u64, OpenError> {
        self.search(partition, |start| start.floor < stamp)
    }

    /// The last offset before a segment.
    pub(crate) fn before(
        &self,
        generation: u64,
        partition: Partition,
    ) -> Result<Offset, OpenError> {
        Ok(self.start(generation, partition)?.last)
    }

    /// A segment as it was written.
    pub(crate) fn plain(&self, generation: u64) -> std::io::Result<Arc<dyn File>> {
        if let Some(Opened::Plain(file)) = self.read().files.get(&generation) {
            return Ok(Arc::clone(file));
        }
        let changes = self.changes();
        let name = segment::name(generation);
        let file = self.disk.open(&name, Access::Read)?;
        self.keep(generation, Opened::Plain(Arc::clone(&file)), changes);
        Ok(file)
    }

    /// A segment in its packed form.
    pub(crate) fn sealed(&self, generation: u64) -> Result<Arc<SealedFile>, OpenError> {
        if let Some(Opened::Sealed(file)) = self.read().files.get(&generation) {
            return Ok(Arc::clone(file));
        }
        let changes = self.changes();
        let file = SealedFile::open(&*self.disk, generation, &self.cache)?;
        let file = Arc::new(file);
        self.keep(generation, Opened::Sealed(Arc::clone(&file)), changes);
        Ok(file)
    }

    /// Keeps a file open, unless it may have been replaced while it was opened.
    fn keep(&self, generation: u64, opened: Opened, changes: u64) {
        let mut state = self.write();
        if state.files.len() >= OPEN_FILES {
            state.files.clear();
        }
        let is_current = matches!(
            (&opened, state.forms.get(&generation)),
            (Opened::Plain(_), Some(Form::Plain)) | (Opened::Sealed(_), Some(Form::Sealed))
        );
        if is_current && state.changes == changes {
            state.files.insert(generation, opened);
        }
    }
}
