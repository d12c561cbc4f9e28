//! Stored states of entities, and how an entity comes into memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use everfold_engine::engine::{Area, Engine, ReadError};
use everfold_engine::record::Kind;
use everfold_engine::slot::Partition;
use everfold_engine::time::Stamp;
use everfold_engine::{EntityKey, Text};
use xxhash_rust::xxh3::xxh3_64;

use super::residents::Resident;
use crate::error::CommandError;
use crate::options::{StateOptions, StateStore};
use crate::schema::EntityType;

/// Events read at once.
const READ: usize = 256;

/// An entity's state after a version, to be stored once the version is durable.
pub(crate) struct Snapshot {
    pub(crate) entity: EntityKey,
    pub(crate) value: Vec<u8>,
    /// Bytes of the state alone.
    pub(crate) measured: usize,
}

/// Where the snapshots of a partition's entities are kept.
pub(crate) fn snapshot_area(partition: Partition) -> Area {
    Area {
        name: Text::from_static("entities"),
        partition,
    }
}

/// The key of an entity's snapshot.
pub(crate) fn snapshot_key(entity: &EntityKey) -> Vec<u8> {
    let parts: [&str; 3] = [&entity.tenant, &entity.kind, &entity.id];
    parts.join("\0").into_bytes()
}

impl Snapshot {
    /// Writes down an entity's state, if its type can be: checksum, shape, version and stamp (8
    /// bytes each, little-endian), state.
    pub(crate) fn of(entity: &EntityKey, resident: &Resident) -> Option<Self> {
        resident.kind.decode_state?;
        let mut value = Vec::with_capacity(256);
        value.extend_from_slice(&[0; 8]);
        value.extend_from_slice(&resident.kind.shape.to_le_bytes());
        value.extend_from_slice(&resident.version.to_le_bytes());
        value.extend_from_slice(&resident.stamp.0.to_le_bytes());
        let head = value.len();
        let encode =
            AssertUnwindSafe(|| (resident.kind.encode_state)(resident.state.as_ref(), &mut value));
        catch_unwind(encode).ok()?.ok()?;
        let checksum = xxh3_64(&value[8..]);
        value[..8].copy_from_slice(&checksum.to_le_bytes());
        Some(Self {
            entity: entity.clone(),
            measured: value.len() - head,
            value,
        })
    }
}

/// The state in a snapshot, unless it is damaged, or state or events have another shape now.
fn decode_snapshot(kind: &Arc<EntityType>, value: &[u8]) -> Option<Resident> {
    let (checksum, body) = value.split_first_chunk::<8>()?;
    if u64::from_le_bytes(*checksum) != xxh3_64(body) {
        return None;
    }
    let (shape, rest) = body.split_first_chunk::<8>()?;
    let (version, rest) = rest.split_first_chunk::<8>()?;
    let (stamp, state) = rest.split_first_chunk::<8>()?;
    if u64::from_le_bytes(*shape) != kind.shape {
        return None;
    }
    let measured = state.len();
    let decode = kind.decode_state?;
    let state = catch_unwind(AssertUnwindSafe(|| decode(state)))
        .ok()?
        .ok()?;
    let version = u64::from_le_bytes(*version);
    let stamp = Stamp(i64::from_le_bytes(*stamp));
    Some(Resident::restored(
        kind.clone(),
        state,
        (version, stamp),
        measured,
    ))
}

/// Reads entities from the log, and from snapshots where they are kept.
pub(crate) struct Loader<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) options: &'a StateOptions,
}

/// An entity as it was read.
pub(crate) struct Loaded {
    pub(crate) resident: Resident,
    /// Whether it began with a snapshot.
    pub(crate) from_snapshot: bool,
    /// Events folded.
    pub(crate) folded: u64,
}

impl Loader<'_> {
    /// Reads an entity up to a version: its newest usable snapshot and the events after it.
    pub(crate) async fn load(
        &self,
        kind: Arc<EntityType>,
        key: &EntityKey,
        until: u64,
    ) -> Result<Loaded, CommandError> {
        let disk = self.options.store == StateStore::Disk && kind.decode_state.is_some();
        let mut loaded = Loaded {
            resident: Resident::new(kind.clone()),
            from_snapshot: false,
            folded: 0,
        };
        // A short history needs no snapshot; whether it is one costs a look into the index.
        let few = self.options.replay_on_return;
        if disk
            && !self.read(key, few, 1).await?.is_empty()
            && let Some((snapshot, rest)) = self.snapshot(&kind, key, until).await?
        {
            loaded.resident = snapshot;
            loaded.from_snapshot = true;
            // What followed it came with the proof of it.
            if self.fold(&mut loaded, key, &rest, until)? || rest.len() + 1 < READ {
                return Ok(loaded);
            }
        }
        loop {
            let events = self.read(key, loaded.resident.version, READ).await?;
            if self.fold(&mut loaded, key, &events, until)? || events.len() < READ {
                return Ok(loaded);
            }
        }
    }

    /// Folds events; says whether `until` was reached.
    fn fold(
        &self,
        loaded: &mut Loaded,
        key: &EntityKey,
        events: &[Arc<everfold_engine::Record>],
        until: u64,
    ) -> Result<bool, CommandError> {
        let resident = &mut loaded.resident;
        for record in events {
            let version = record.local.version;
            if record.kind == Kind::Baseline && version > resident.version {
                *resident = self.lift(&resident.kind, key, record, until)?;
                continue;
            }
            if record.kind != Kind::Event {
                continue;
            }
            if version > until {
                return Ok(true);
            }
            if version != resident.version + 1 {
                return Err(CommandError::History {
                    entity: key.to_string(),
                    reason: format!("version {version} follows version {}", resident.version),
                });
            }
            resident.fold(&record.portable, version, record.local.stamp)?;
            loaded.folded += 1;
        }
        Ok(false)
    }

    /// The state in a baseline: events that it stands for are gone, so it has to be readable.
    fn lift(
        &self,
        kind: &Arc<EntityType>,
        key: &EntityKey,
        baseline: &everfold_engine::Record,
        until: u64,
    ) -> Result<Resident, CommandError> {
        let version = baseline.local.version;
        let failed = |reason: String| CommandError::History {
            entity: key.to_string(),
            reason,
        };
        if version > until {
            return Err(failed(format!(
                "its history before version {version} was trimmed"
            )));
        }
        let payload = &baseline.portable.payload;
        let decode = kind
            .decode_state
            .ok_or_else(|| failed(format!("no state can stand for versions up to {version}")))?;
        let state = catch_unwind(AssertUnwindSafe(|| decode(payload)))
            .map_err(|_| {
                failed(format!(
                    "reading the baseline of version {version} panicked"
                ))
            })?
            .map_err(|error| CommandError::NewerBuild {
                entity: key.to_string(),
                reason: format!("the baseline of version {version}: {error}"),
            })?;
        let place = (version, baseline.local.stamp);
        Ok(Resident::restored(
            kind.clone(),
            state,
            place,
            payload.len(),
        ))
    }

    /// The stored state of an entity, and events after it.
    async fn snapshot(
        &self,
        kind: &Arc<EntityType>,
        key: &EntityKey,
        until: u64,
    ) -> Result<Option<(Resident, Vec<Arc<everfold_engine::Record>>)>, CommandError> {
        let area = snapshot_area(self.engine.identity().layout.partition(&key.id));
        // A store that cannot be read is as good as none.
        let value = self.engine.get(&area, &snapshot_key(key)).await;
        let value = value.unwrap_or_default();
        let Some(snapshot) = value.and_then(|value| decode_snapshot(kind, &value)) else {
            return Ok(None);
        };
        if !(1..=until).contains(&snapshot.version) {
            return Ok(None);
        }
        // A snapshot may have outlived the end of its log: it counts only for the very event that
        // the log has under its version.
        let mut events = self.read(key, snapshot.version - 1, READ).await?;
        let proven = events.first().is_some_and(|record| {
            record.local.version == snapshot.version && record.local.stamp == snapshot.stamp
        });
        if !proven {
            return Ok(None);
        }
        events.remove(0);
        Ok(Some((snapshot, events)))
    }

    async fn read(
        &self,
        key: &EntityKey,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Arc<everfold_engine::Record>>, CommandError> {
        let partition = self.engine.identity().layout.partition(&key.id);
        let events = self.engine.read_entity(partition, key, after, limit).await;
        events.map_err(|error| match error {
            ReadError::Unavailable(reason) => CommandError::Unavailable { partition, reason },
            error => CommandError::History {
                entity: key.to_string(),
                reason: error.to_string(),
            },
        })
    }
}
