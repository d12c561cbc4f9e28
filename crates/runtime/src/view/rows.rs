//! The rows of a view, in memory and in the engine's areas.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use everfold_engine::engine::{Area, Engine, Epoch, Put, PutError, ReadError, Revision};
use everfold_engine::map::{Map, seeded};
use everfold_engine::slot::Partition;
use everfold_engine::{Bytes, Offset, Text};
use tokio::sync::watch;

use super::{Forgets, Row};
use crate::handler::{Parked, Vector, decode_vector, encode_vector};

/// The rows whose keys fall into one partition.
pub(super) struct Part<R> {
    rows: Map<Text, Kept<R>>,
    /// What of each source partition is folded in; where the view as a whole has come further, this
    /// part had nothing to fold.
    vector: Vector,
    /// The vector as it was loaded: nothing up to it is folded again.
    loaded: Vector,
    pub(super) parked: BTreeMap<Text, ParkedRow>,
    /// Keys of rows that differ from what is stored.
    dirty: Vec<Text>,
    dirty_parked: bool,
    advanced: bool,
    /// A fold has failed half way: nothing of it may be stored before it was loaded again.
    broken: bool,
    /// A row that cannot be written, and why: until it can, nothing of the part is stored.
    unstorable: Option<(Text, String)>,
    /// What is stored is of no use: it goes with the next commit.
    obsolete: bool,
    revision: Revision,
    /// Under which ownership what is stored is known to be no newer than this.
    proven: Option<Epoch>,
}

struct Kept<R> {
    row: R,
    dirty: bool,
}

impl<R> Part<R> {
    pub(super) fn row(&self, key: &str) -> Option<&R> {
        self.rows.get(key).map(|kept| &kept.row)
    }

    /// These rows still differ from what is stored.
    fn unsaved(&mut self, keys: Vec<Text>) {
        for key in keys {
            if let Some(kept) = self.rows.get_mut(&key) {
                kept.dirty = true;
            }
            if !self.dirty.contains(&key) {
                self.dirty.push(key);
            }
        }
        self.advanced = true;
    }

    /// All rows, in no order.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&Text, &R)> {
        self.rows.iter().map(|(key, kept)| (key, &kept.row))
    }
}

/// A change that panicked and may have been half made.
#[derive(Debug)]
pub(super) struct Panicked;

/// A row that stopped changing because its fold failed.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct ParkedRow {
    pub(super) reason: String,
    pub(super) events: Vec<(u16, u64)>,
}

/// All parts of a view.
pub(super) struct Rows<R> {
    area: Text,
    /// Shared while events of a unit are folded, alone while somebody looks: nobody sees part of a
    /// unit, whichever rows it changes.
    gate: RwLock<()>,
    parts: Vec<Mutex<Part<R>>>,
    forgets: Option<Arc<Forgets<R>>>,
    /// How much of each source partition all parts reflect.
    reached: Vec<watch::Sender<Offset>>,
}

const ROW: u8 = b'r';
const PARKED: u8 = b'p';
const VECTOR: &[u8] = b"v";

impl<R: Row> Rows<R> {
    pub(super) fn new(
        area: Text,
        partitions: usize,
        seed: u64,
        forgets: Option<Arc<Forgets<R>>>,
    ) -> Self {
        let part = |_| {
            Mutex::new(Part {
                rows: seeded(seed),
                vector: vec![Offset(0); partitions],
                loaded: vec![Offset(0); partitions],
                parked: BTreeMap::new(),
                dirty: Vec::new(),
                dirty_parked: false,
                advanced: false,
                broken: false,
                unstorable: None,
                obsolete: false,
                revision: Revision(0),
                proven: None,
            })
        };
        Self {
            area,
            gate: RwLock::new(()),
            forgets,
            parts: (0..partitions).map(part).collect(),
            reached: (0..partitions)
                .map(|_| watch::Sender::new(Offset(0)))
                .collect(),
        }
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = Partition> + use<R> {
        (0..self.parts.len() as u16).map(Partition)
    }

    pub(super) fn part(&self, partition: Partition) -> MutexGuard<'_, Part<R>> {
        self.parts[partition.index()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while whole units are folded.
    pub(super) fn folding(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while rows are looked at.
    pub(super) fn looking(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the stored parts had come at most: below that they may disagree about units.
    pub(super) fn furthest(&self) -> Vector {
        let furthest = |source: usize| {
            let loaded = self.partitions().map(|part| self.part(part).loaded[source]);
            loaded.max().unwrap_or_default()
        };
        (0..self.parts.len()).map(furthest).collect()
    }

    /// How much of a source partition all parts reflect.
    pub(super) fn reached(&self, source: Partition) -> Option<watch::Receiver<Offset>> {
        self.reached
            .get(source.index())
            .map(watch::Sender::subscribe)
    }

    /// Every part reflects `source` up to here.
    pub(super) fn reach(&self, source: Partition, offset: Offset) {
        self.reached[source.index()].send_if_modified(|reached| {
            let further = offset > *reached;
            *reached = offset.max(*reached);
            further
        });
    }

    pub(super) fn vector(&self) -> Vector {
        self.reached
            .iter()
            .map(|reached| *reached.borrow())
            .collect()
    }

    /// Nothing is known of how far the parts are.
    pub(super) fn forget(&self) {
        for reached in &self.reached {
            reached.send_replace(Offset(0));
        }
    }

    /// Forgets how far the parts had come; after they were loaded, to go on from what was stored.
    pub(super) fn restart(&self) {
        for source in self.partitions() {
            let stored = |part| self.part(part).vector[source.index()];
            let start = self.partitions().map(stored).min().unwrap_or_default();
            self.reached[source.index()].send_replace(start);
        }
    }

    fn area(&self, partition: Partition) -> Area {
        Area {
            name: self.area.clone(),
            partition,
        }
    }

    /// Up to where all stored parts reflect a source.
    pub(super) async fn stored(
        &self,
        engine: &dyn Engine,
        source: Partition,
    ) -> Result<Offset, ReadError> {
        let mut least = Offset(u64::MAX);
        for partition in self.partitions() {
            let stored = engine.get(&self.area(partition), VECTOR).await?;
            let vector = stored.and_then(|bytes| decode_vector(&bytes, self.parts.len()));
            let reached = vector.map_or(Offset(0), |vector| vector[source.index()]);
            least = least.min(reached);
            let part = self.part(partition);
            let parked = part.parked.values().flat_map(|row| &row.events);
            let of_source = parked.filter(|(from, _)| *from == source.0);
            if let Some(first) = of_source.map(|(_, offset)| *offset).min() {
                least = least.min(Offset(first - 1));
            }
        }
        Ok(least)
    }

    /// Changes the row of a key by an event of `source`.
    ///
    /// # Errors
    /// The change panicked; the part must be loaded again.
    pub(super) fn change(
        &self,
        partition: Partition,
        source: Partition,
        offset: Offset,
        key: &str,
        change: &mut dyn FnMut(&mut R),
    ) -> Result<(), Panicked> {
        let mut part = self.part(partition);
        let part = &mut *part;
        if offset <= part.loaded[source.index()] {
            return Ok(());
        }
        part.vector[source.index()] = offset;
        part.advanced = true;
        if !part.parked.is_empty()
            && let Some(parked) = part.parked.get_mut(key)
        {
            parked.events.push((source.0, offset.0));
            part.dirty_parked = true;
            return Ok(());
        }
        let kept = match part.rows.get_mut(key) {
            Some(kept) => kept,
            None => part.rows.entry(key.into()).or_insert_with(|| Kept {
                row: R::default(),
                dirty: false,
            }),
        };
        let row = &mut kept.row;
        if catch_unwind(AssertUnwindSafe(|| change(row))).is_err() {
            part.broken = true;
            return Err(Panicked);
        }
        let known = std::mem::replace(&mut kept.dirty, true);
        if self.forgets.as_ref().is_some_and(|forgets| forgets(row)) {
            part.rows.remove(key);
        }
        if !known {
            part.dirty.push(key.into());
        }
        Ok(())
    }

    /// Sets a row aside; its events are kept by position.
    pub(super) fn park(&self, partition: Partition, key: Text, row: ParkedRow) {
        let mut part = self.part(partition);
        let parked = part.parked.entry(key).or_insert(ParkedRow {
            reason: row.reason,
            events: vec![],
        });
        parked.events.extend(row.events);
        part.dirty_parked = true;
        part.advanced = true;
    }

    /// Loads a part as it was stored; an empty one if what is stored is ahead of the log or cannot be
    /// read. Says whether something was discarded.
    pub(super) async fn load(
        &self,
        engine: &dyn Engine,
        partition: Partition,
        heads: &[Offset],
    ) -> Result<bool, ReadError> {
        let area = self.area(partition);
        let revision = engine.revision(&area).await?;
        let (mut rows, mut parked) = (Vec::new(), BTreeMap::new());
        let mut vector = None;
        let mut readable = true;
        let mut last: Option<Bytes> = None;
        loop {
            let page = engine.scan(&area, last.as_deref(), 4096).await?;
            let Some((key, _)) = page.last() else { break };
            last = Some(key.clone());
            for (key, value) in page {
                let name = |key: &[u8]| std::str::from_utf8(&key[1..]).ok().map(Text::from);
                match (key.first(), name(&key)) {
                    _ if key == VECTOR => vector = decode_vector(&value, heads.len()),
                    (Some(&ROW), Some(name)) => match serde_json::from_slice(&value) {
                        Ok(row) => rows.push((name, Kept { row, dirty: false })),
                        // The row's type has changed without a new version of the view.
                        Err(_) => readable = false,
                    },
                    (Some(&PARKED), Some(name)) => {
                        if let Ok(row) = serde_json::from_slice(&value) {
                            parked.insert(name, row);
                        }
                    }
                    _ => readable = false,
                }
            }
        }
        let fits = |vector: &Vector| vector.iter().zip(heads).all(|(read, head)| read <= head);
        let usable = vector.filter(|vector| readable && fits(vector));
        let mut part = self.part(partition);
        part.revision = revision;
        part.proven = None;
        part.obsolete = usable.is_none() && revision > Revision(0);
        part.dirty.clear();
        part.advanced = false;
        part.dirty_parked = false;
        part.broken = false;
        part.rows.clear();
        match usable {
            Some(vector) => {
                part.rows.extend(rows);
                (part.parked, part.vector) = (parked, vector);
            }
            None => {
                part.parked.clear();
                part.vector.fill(Offset(0));
            }
        }
        part.loaded = part.vector.clone();
        Ok(part.obsolete)
    }

    /// Whether a part may be stored under an ownership: another node may have stored it meanwhile, and
    /// come further. What is stored is then behind what this node has folded, or waited for. All
    /// rows that have changed since this node loaded or stored them are marked, so those that differ
    /// from what the other one has stored are among them.
    async fn prove(
        &self,
        engine: &dyn Engine,
        partition: Partition,
        epoch: Epoch,
    ) -> Result<bool, ReadError> {
        if self.part(partition).proven == Some(epoch) {
            return Ok(true);
        }
        let area = self.area(partition);
        let revision = engine.revision(&area).await?;
        let stored = engine.get(&area, VECTOR).await?;
        let stored = stored.and_then(|bytes| decode_vector(&bytes, self.parts.len()));
        let reached = self.vector();
        let mut part = self.part(partition);
        if revision != part.revision {
            let Some(stored) = stored else {
                return Ok(false);
            };
            let mut sides = stored.iter().zip(reached.iter().zip(&part.vector));
            if sides.any(|(stored, (reached, read))| stored > reached.max(read)) {
                return Ok(false);
            }
            part.revision = revision;
            part.obsolete = false;
        }
        part.proven = Some(epoch);
        Ok(true)
    }

    /// Stores changed rows and progress of a part as one change. A part that cannot be stored now
    /// stays changed and is stored the next time.
    pub(super) async fn commit(
        &self,
        engine: &dyn Engine,
        partition: Partition,
        epoch: Epoch,
    ) -> Result<(), PutError> {
        match self.prove(engine, partition, epoch).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return Err(PutError::Unavailable(error.to_string())),
        }
        let (put, keys) = {
            let _whole_units = self.looking();
            let mut part = self.part(partition);
            let part = &mut *part;
            if part.broken {
                return Ok(());
            }
            // What all parts reflect, this one reflects too: nothing of it was for this part.
            for (read, reached) in part.vector.iter_mut().zip(self.vector()) {
                part.advanced |= reached > *read;
                *read = reached.max(*read);
            }
            if !part.advanced {
                return Ok(());
            }
            let keys = std::mem::take(&mut part.dirty);
            let mut changes = Vec::with_capacity(keys.len() + 1);
            for key in &keys {
                let Some(kept) = part.rows.get_mut(key) else {
                    changes.push((named(ROW, key), None));
                    continue;
                };
                kept.dirty = false;
                match serde_json::to_vec(&kept.row) {
                    Ok(value) => changes.push((named(ROW, key), Some(Bytes::from(value)))),
                    Err(error) => {
                        // Stored progress must not pass a row that is not stored.
                        part.unstorable = Some((key.clone(), error.to_string()));
                        part.unsaved(keys);
                        return Ok(());
                    }
                }
            }
            part.unstorable = None;
            if std::mem::take(&mut part.dirty_parked) {
                for (key, row) in &part.parked {
                    if let Ok(value) = serde_json::to_vec(row) {
                        changes.push((named(PARKED, key), Some(Bytes::from(value))));
                    }
                }
            }
            changes.push((
                Bytes::from_static(VECTOR),
                Some(encode_vector(&part.vector).into()),
            ));
            part.advanced = false;
            let put = Put {
                area: self.area(partition),
                epoch,
                incarnation: engine.identity().incarnation,
                previous: part.revision,
                clear: part.obsolete,
                changes,
            };
            (put, keys)
        };
        let stored = engine.put(put).await;
        let mut part = self.part(partition);
        let part = &mut *part;
        match stored {
            Ok(revision) => {
                part.revision = revision;
                part.obsolete = false;
                Ok(())
            }
            Err(error) => {
                if let PutError::Changed(revision) = error {
                    // Under a proven epoch only we can have written it: a put whose answer was lost.
                    part.revision = revision;
                }
                part.dirty_parked = true;
                part.unsaved(keys);
                Err(error)
            }
        }
    }

    pub(super) fn parked(&self, view: &str) -> Vec<Parked> {
        let mut all = Vec::new();
        for partition in self.partitions() {
            let part = self.part(partition);
            if let Some((key, reason)) = &part.unstorable {
                all.push(Parked {
                    handler: view.to_owned(),
                    partition: partition.0,
                    key: key.to_string(),
                    entity: String::new(),
                    offsets: Vec::new(),
                    reason: format!("the row cannot be stored: {reason}"),
                });
            }
            for (key, row) in &part.parked {
                all.push(Parked {
                    handler: view.to_owned(),
                    partition: row.events.first().map_or(0, |(source, _)| *source),
                    key: key.to_string(),
                    entity: String::new(),
                    offsets: row.events.iter().map(|(_, offset)| *offset).collect(),
                    reason: row.reason.clone(),
                });
            }
        }
        all
    }
}

fn named(prefix: u8, key: &Text) -> Bytes {
    [&[prefix], &key.as_bytes()[..]].concat().into()
}
