//! Entities that come back into memory before anybody asks for them: those of types that are to be
//! remembered, and that were in memory when the last owner noted it.
//!
//! Only names are stored, beside the log, and only now and then: what was not noted, or noted and
//! gone since, costs the first command a load, or a start one in vain.

use std::sync::Arc;
use std::time::Duration;

use everfold_engine::engine::{Area, Engine};
use everfold_engine::slot::Partition;
use everfold_engine::{Bytes, EntityKey, Text, World};

use super::Shown;
use super::read::Strength;
use super::residents::Residents;
use super::router::Router;
use super::serve::Serving;
use super::standby::{Following, Standby};
use crate::schema::Registry;

/// Names of one partition at most.
const MOST: usize = 16_384;
/// Between two notes.
const EVERY: Duration = Duration::from_secs(2);

const NAMES: &[u8] = b"names";

/// Where the names of a partition's remembered entities are kept.
pub(crate) fn remembered_area(partition: Partition) -> Area {
    Area {
        name: Text::from_static("remembered"),
        partition,
    }
}

/// The names as they are stored: type and id by turns.
pub(super) fn note(residents: &mut Residents) -> Option<(Bytes, Option<Bytes>)> {
    let names: Vec<(&str, &str)> = residents
        .remembered()?
        .take(MOST)
        .map(|key| (&key.kind[..], &key.id[..]))
        .collect();
    let value = serde_json::to_vec(&names).ok()?;
    Some((Bytes::from_static(NAMES), Some(value.into())))
}

/// The noted entities whose types are still to be remembered; none if nothing can be read.
async fn noted(engine: &dyn Engine, partition: Partition, registry: &Registry) -> Vec<EntityKey> {
    let area = remembered_area(partition);
    let Ok(Some(value)) = engine.get(&area, NAMES).await else {
        return Vec::new();
    };
    let names: Vec<(String, String)> = serde_json::from_slice(&value).unwrap_or_default();
    let keys = names
        .into_iter()
        .map(|(kind, id)| EntityKey::new(kind, id))
        .filter(|key| registry.of(key).remembered);
    keys.collect()
}

impl Serving {
    /// Notes who is in memory, if that has changed.
    pub(super) fn keep_remembered(&mut self, closing: bool) {
        let now = self.world.elapsed();
        if !closing && now < self.noted_at + EVERY {
            return;
        }
        if let Some(names) = note(&mut self.residents) {
            self.noted_at = now;
            self.keeper().remembered(names);
        }
    }
}

/// Asks for the noted entities one after the other, while the node owns the partition and there is
/// room for them.
pub(super) async fn bring_back(
    (engine, world): (Arc<dyn Engine>, Arc<dyn World>),
    registry: Arc<Registry>,
    router: Router,
    partition: Partition,
    has_room: impl Fn() -> bool,
) {
    for key in noted(engine.as_ref(), partition, &registry).await {
        if !has_room() {
            break;
        }
        let kind = registry.of(&key);
        let (look, seen) = Shown::new(kind, key, Strength::Eventual, None);
        router.submit_here(partition, Box::new(look));
        if !matches!(seen.await, Ok(Ok(_))) {
            break;
        }
        world.reached("owner: remembered entity came back");
    }
}

impl Following<'_> {
    /// Fetches the noted entities that are not here.
    pub(super) async fn fetch_remembered(&self, standby: &mut Standby) {
        let recovery = &self.recovery;
        for key in noted(recovery.engine, recovery.partition, self.registry).await {
            if standby.residents.is_over() {
                break;
            }
            if !standby.residents.touch(&key) {
                self.load(standby, &key).await;
                self.report(standby);
                let world = recovery.world;
                world.reached("owner: standby fetched a remembered entity");
            }
        }
    }
}
