//! A partition whose owner is another node, kept warm: what this one needs to go on from where that
//! one ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use everfold_engine::engine::{Chunk, OwnerError};
use everfold_engine::record::{Kind, Record};
use everfold_engine::{EntityKey, Offset};

use super::OwnerStatus;
use super::recover::{Recovery, Tail};
use super::residents::{Resident, Residents};
use super::snapshot::Loader;
use crate::error::CommandError;
use crate::options::StateStore;
use crate::schema::Registry;

/// A longer stretch is folded into the entities that are there, and no others are fetched for it.
const MOST_FETCHED: usize = 64;
/// Steps of the clock's hand at a time.
const LOOKS: usize = 1024;

/// The partition as the log has it up to a point, and entities that have changed lately.
pub(crate) struct Standby {
    pub(super) tail: Tail,
    pub(super) residents: Residents,
    /// Batches of this node that have changed entities here: all of them are durable.
    pub(super) batches: u64,
}

/// What following takes.
pub(super) struct Following<'a> {
    pub(super) recovery: Recovery<'a>,
    pub(super) registry: &'a Registry,
    pub(super) status: &'a OwnerStatus,
}

impl Following<'_> {
    /// Begins with what is stored.
    pub(super) async fn begin(&self) -> Standby {
        let world = self.recovery.world;
        let budget = self.recovery.options.memory_bytes as u64;
        Standby {
            tail: self.recovery.begin().await,
            residents: Residents::new(world.random(), budget),
            batches: 0,
        }
    }

    /// Follows the log for ever. May be dropped at any time: what is half folded is known by its
    /// version.
    pub(super) async fn follow(&self, standby: &mut Standby) {
        let engine = self.recovery.engine;
        let mut pause = std::time::Duration::from_millis(10);
        let mut remembers =
            self.registry.remembers() && self.recovery.options.store == StateStore::Disk;
        loop {
            let (partition, reached) = (self.recovery.partition, standby.tail.head);
            let head = match remembers {
                true => engine.safe_head(partition).await,
                false => engine.wait(partition, reached).await,
            };
            let read = match head {
                Ok(head) => self.read(standby, head).await,
                Err(error) => Err(OwnerError::Unavailable(error.to_string())),
            };
            if read.is_ok() && std::mem::take(&mut remembers) {
                self.fetch_remembered(standby).await;
            }
            match read {
                Ok(()) => pause = std::time::Duration::from_millis(10),
                Err(_) => {
                    self.recovery.world.sleep(pause).await;
                    pause = (pause * 2).min(std::time::Duration::from_secs(1));
                }
            }
        }
    }

    /// Folds the log up to `head`.
    pub(super) async fn read(&self, standby: &mut Standby, head: Offset) -> Result<(), OwnerError> {
        while standby.tail.head < head {
            let chunk = self.recovery.chunk(standby.tail.head).await?;
            if chunk.next == standby.tail.head {
                break;
            }
            // Who is behind, or about to own, has no time to fetch what nobody may ask for.
            let calm = self.recovery.epoch.is_none()
                && chunk.next >= chunk.safe_head
                && chunk.records.len() <= MOST_FETCHED;
            self.warm(standby, &chunk, calm).await;
            self.recovery.fold(&mut standby.tail, &chunk);
            let reached = standby.tail.head.0;
            self.status.reached.store(reached, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn warm(&self, standby: &mut Standby, chunk: &Chunk, fetch: bool) {
        for record in &chunk.records {
            if !matches!(record.kind, Kind::Event | Kind::Baseline) {
                continue;
            }
            let key = &record.portable.entity;
            let begins = record.kind == Kind::Event && record.local.version == 1;
            if begins && !standby.residents.touch(key) {
                let kind = self.registry.of(key);
                standby.residents.insert(key.clone(), Resident::new(kind));
            }
            let fits = standby.residents.touch(key)
                && fold(&mut standby.residents, record)
                    .inspect_err(|error| self.status.notice(error))
                    .unwrap_or(false);
            if !fits {
                standby.residents.remove(key);
                if fetch {
                    self.load(standby, key).await;
                }
            }
        }
        let mut looks = LOOKS.min(2 * standby.residents.places());
        while standby.residents.is_over() {
            if standby.residents.leave(&mut looks, |_, _| false).is_none() {
                break;
            }
        }
        self.report(standby);
    }

    /// Figures for inspection.
    pub(super) fn report(&self, standby: &Standby) {
        let status = self.status;
        let residents = standby.residents.len() as u64;
        status.residents.store(residents, Ordering::Relaxed);
        let bytes = standby.residents.bytes();
        status.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) async fn load(&self, standby: &mut Standby, key: &EntityKey) {
        let loader = Loader {
            engine: self.recovery.engine,
            options: self.recovery.options,
        };
        let kind = self.registry.of(key);
        match loader.load(kind, key, u64::MAX).await {
            Ok(loaded) => standby.residents.insert(key.clone(), loaded.resident),
            // What cannot be read is told to whoever asks for it.
            Err(error) => self.status.notice(&error),
        }
    }
}

/// Folds an event into its entity. Says whether the entity is as the log has it then.
fn fold(residents: &mut Residents, record: &Arc<Record>) -> Result<bool, CommandError> {
    let Ok(resident) = residents.get_mut(&record.portable.entity) else {
        return Ok(false);
    };
    let version = record.local.version;
    if version <= resident.version {
        return Ok(true);
    }
    let next = version == resident.version + 1 && record.kind == Kind::Event;
    if next {
        resident.fold(&record.portable, version, record.local.stamp)?;
    }
    Ok(next)
}
