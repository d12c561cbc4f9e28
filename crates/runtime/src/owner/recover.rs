//! What an owner learns from the log before it serves, and how it brings an entity into memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use everfold_engine::engine::{Area, Engine, OwnerError, ReadError, ReadLimit};
use everfold_engine::record::Kind;
use everfold_engine::slot::Partition;
use everfold_engine::{EntityKey, Offset, Text, World};

use super::batch::Clock;
use super::known::Known;
use super::residents::Resident;
use crate::error::CommandError;
use crate::schema::EntityType;

/// A snapshot is kept of every entity whose version passes a multiple of this.
pub(crate) const SNAPSHOT_EVERY: u64 = 256;

/// A partition as the log has it.
pub(crate) struct Tail {
    pub(crate) clock: Clock,
    pub(crate) known: Known,
    pub(crate) head: Offset,
}

impl Tail {
    /// Folds a partition from its start up to `head`.
    pub(crate) async fn read(
        engine: &dyn Engine,
        world: &dyn World,
        partition: Partition,
        head: Offset,
    ) -> Result<Self, OwnerError> {
        let home = engine.identity().origin();
        let now = world.now();
        let mut tail = Self {
            clock: Clock::default(),
            known: Known::new(world.random()),
            head: Offset(0),
        };
        while tail.head < head {
            let chunk = engine
                .read(partition, tail.head, ReadLimit::default())
                .await;
            let chunk = chunk.map_err(|error| match error {
                ReadError::Damaged(_) => OwnerError::Stopped(error.to_string()),
                _ => OwnerError::Unavailable(error.to_string()),
            })?;
            if chunk.next == tail.head {
                break;
            }
            for record in &chunk.records {
                let portable = &record.portable;
                if let Some(dot) = portable.dot.as_ref().filter(|dot| dot.origin == home) {
                    tail.clock.counter = tail.clock.counter.max(dot.counter);
                }
                tail.clock.stamp = tail.clock.stamp.max(record.local.stamp);
                tail.clock.hybrid = tail.clock.hybrid.max(portable.hybrid);
                tail.clock.link = record.local.link;
                tail.known.fold(record, now);
            }
            tail.head = chunk.next;
        }
        Ok(tail)
    }
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

/// Puts an entity's state into a snapshot.
pub(crate) fn encode_snapshot(resident: &Resident) -> Option<Vec<u8>> {
    resident.kind.decode_state?;
    let mut value = Vec::with_capacity(256);
    value.extend_from_slice(&resident.kind.shape.to_le_bytes());
    value.extend_from_slice(&resident.version.to_le_bytes());
    let encode =
        AssertUnwindSafe(|| (resident.kind.encode_state)(resident.state.as_ref(), &mut value));
    catch_unwind(encode).ok()?.ok()?;
    Some(value)
}

/// The state in a snapshot, unless state or events have another shape now.
fn decode_snapshot(kind: &Arc<EntityType>, value: &[u8]) -> Option<Resident> {
    let (shape, rest) = value.split_first_chunk::<8>()?;
    let (version, state) = rest.split_first_chunk::<8>()?;
    if u64::from_le_bytes(*shape) != kind.shape {
        return None;
    }
    let decode = kind.decode_state?;
    let state = catch_unwind(AssertUnwindSafe(|| decode(state)))
        .ok()?
        .ok()?;
    let version = u64::from_le_bytes(*version);
    Some(Resident {
        kind: kind.clone(),
        state,
        version,
        touched: 0,
    })
}

/// Reads an entity: its newest usable snapshot and the events after it.
pub(crate) async fn load(
    engine: &dyn Engine,
    kind: Arc<EntityType>,
    key: &EntityKey,
    until: u64,
) -> Result<Resident, CommandError> {
    let partition = engine.identity().layout.partition(&key.id);
    let failed = |reason: String| CommandError::History {
        entity: key.to_string(),
        reason,
    };
    let mut resident = Resident::new(kind.clone());
    loop {
        let limit = SNAPSHOT_EVERY as usize;
        let events = engine
            .read_entity(partition, key, resident.version, limit)
            .await;
        let unread = |error: ReadError| match error {
            ReadError::Unavailable(reason) => CommandError::Unavailable { partition, reason },
            error => failed(error.to_string()),
        };
        let events = events.map_err(unread)?;
        let complete = events.len() < limit;
        for record in events.iter().filter(|record| record.kind == Kind::Event) {
            if record.local.version > until {
                return Ok(resident);
            }
            if record.local.version != resident.version + 1 {
                return Err(failed(format!(
                    "version {} follows version {}",
                    record.local.version, resident.version
                )));
            }
            resident.fold(&record.portable, record.local.version)?;
        }
        if complete {
            return Ok(resident);
        }
        // Only histories longer than one read are worth a look at the snapshot.
        if resident.version <= SNAPSHOT_EVERY && kind.decode_state.is_some() {
            let area = snapshot_area(partition);
            let value = engine.get(&area, &snapshot_key(key)).await;
            let value = value.map_err(|error| failed(error.to_string()))?;
            if let Some(snapshot) = value.and_then(|value| decode_snapshot(&kind, &value))
                && (resident.version..=until).contains(&snapshot.version)
            {
                // A snapshot may have outlived the end of its log: it counts only for a version
                // that the log has.
                let held = engine.read_entity(partition, key, snapshot.version - 1, 1);
                let held = held.await.map_err(unread)?;
                if held
                    .first()
                    .is_some_and(|r| r.local.version == snapshot.version)
                {
                    resident = snapshot;
                }
            }
        }
    }
}
