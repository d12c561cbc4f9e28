//! Entities come into memory and leave it; states that are durable go to the store.

use std::sync::atomic::Ordering;

use everfold_engine::{EntityKey, Timestamp};

use super::keeper::Keeper;
use super::partition_state::PartitionState;
use super::serve::Serving;
use super::snapshot::{Loaded, Loader, Snapshot};
use tokio::sync::oneshot::error::TryRecvError;

use crate::error::CommandError;
use crate::options::StateStore;

/// Steps of the clock's hand at a time.
const LOOKS: usize = 1024;

impl Serving {
    /// Brings entities into memory that are not there.
    pub(super) async fn bring_in(&mut self, entities: &[EntityKey]) -> Result<(), CommandError> {
        for entity in entities {
            if !self.residents.touch(entity) {
                self.load(entity).await?;
            }
        }
        Ok(())
    }

    async fn load(&mut self, entity: &EntityKey) -> Result<(), CommandError> {
        let kind = self.registry.of(entity);
        let loader = Loader {
            engine: self.engine.as_ref(),
            options: &self.options,
        };
        let began = self.world.elapsed();
        let Loaded {
            resident,
            from_snapshot,
            folded,
        } = loader
            .load(kind, entity, u64::MAX)
            .await
            .inspect_err(|error| self.status.notice(error))?;
        let took = self.world.elapsed().saturating_sub(began);
        self.status.loads.fetch_add(1, Ordering::Relaxed);
        self.status
            .snapshot_hits
            .fetch_add(u64::from(from_snapshot), Ordering::Relaxed);
        if from_snapshot {
            self.world
                .reached("owner: entity came back with a snapshot");
        }
        self.residents.insert(entity.clone(), resident);
        self.report();
        if folded > self.options.replay_on_return && took >= self.options.snapshots.replay {
            // What was just read is durable, for no batch has changed it yet.
            if let Some(snapshot) = self.write_down(entity) {
                self.store(snapshot);
            }
        }
        Ok(())
    }

    /// A snapshot of a resident, to be stored once what it holds is durable.
    pub(super) fn write_down(&mut self, entity: &EntityKey) -> Option<Snapshot> {
        if self.options.store == StateStore::Memory {
            return None;
        }
        let snapshot = Snapshot::of(entity, self.residents.get(entity).ok()?)?;
        self.residents.measured(entity, snapshot.measured);
        Some(snapshot)
    }

    /// Lets entities leave memory until it is within its budget. Those stay that hold what is not
    /// durable, or that somebody waits for.
    pub(super) fn make_room(&mut self) {
        if self.cramped {
            return;
        }
        // In the second round at the latest it is known of each whether it may leave.
        let mut looks = LOOKS.min(2 * self.residents.places());
        while self.residents.is_over() {
            let (durable, watchers) = (self.durable_batch, &self.watchers);
            let left = self.residents.leave(&mut looks, |key, resident| {
                resident.touched > durable || watchers.contains_key(key)
            });
            let Some((entity, resident)) = left else {
                // No more looks before something has become durable.
                self.world.reached("owner: nobody can leave memory");
                self.cramped = true;
                break;
            };
            self.status.passivations.fetch_add(1, Ordering::Relaxed);
            self.world.reached("owner: entity left memory");
            if self.options.store == StateStore::Disk
                && resident.since() > self.options.replay_on_return
                && let Some(snapshot) = Snapshot::of(&entity, &resident)
            {
                resident.learn(snapshot.measured);
                self.store(snapshot);
            }
        }
    }

    /// Hands a snapshot of durable state to the task that stores it.
    pub(super) fn store(&mut self, snapshot: Snapshot) {
        self.keeper().snapshot(snapshot);
    }

    pub(super) fn keeper(&mut self) -> &Keeper {
        self.keeper.get_or_insert_with(|| {
            let (engine, status) = (self.engine.clone(), self.status.clone());
            Keeper::start(engine, &self.world, self.partition, self.epoch, status)
        })
    }

    /// Stores the partition's own state if enough has become durable since the last time.
    pub(super) fn keep_partition(&mut self, closing: bool) {
        if let Some(stored) = &mut self.stored {
            match stored.try_recv() {
                Ok(stored) => {
                    let later = self.state.take();
                    self.state = stored.and_then(|stored| Some(stored.joined(later?)));
                    self.world.reached("owner: stored partition state joined");
                }
                // To begin anew costs a start, some day, some reading.
                Err(TryRecvError::Closed) => self.state = None,
                Err(TryRecvError::Empty) => {
                    let too_much = |state: &PartitionState| state.is_too_much();
                    if !closing && !self.state.as_ref().is_some_and(too_much) {
                        return;
                    }
                    self.state = None;
                }
            }
            self.stored = None;
        }
        let Some(state) = &mut self.state else {
            return;
        };
        let lost = self.keeper.as_ref().is_some_and(Keeper::has_failed);
        if lost || state.is_too_much() {
            // What is stored lags behind until somebody claims the partition again.
            self.state = None;
            return;
        }
        let due = if closing {
            state.has_gained()
        } else {
            state.is_due(&self.options.partitions)
                && !self.keeper.as_ref().is_some_and(Keeper::is_cutting)
        };
        if due {
            let incarnation = self.engine.identity().incarnation;
            let cut = state.cut(incarnation, self.known.forgotten());
            self.keeper().partition(cut);
        }
    }

    /// Before the partition is let go: stores what the next owner begins with.
    pub(super) async fn put_away(&mut self) {
        self.keep_partition(true);
        self.keep_remembered(true);
        if let Some(keeper) = self.keeper.take() {
            keeper.finish().await;
        }
    }

    /// Figures for inspection.
    pub(super) fn report(&self) {
        let status = &self.status;
        let residents = self.residents.len() as u64;
        status.residents.store(residents, Ordering::Relaxed);
        status
            .bytes
            .store(self.residents.bytes(), Ordering::Relaxed);
    }

    /// A snapshot of each entity for which one is due, as it is after the unit.
    pub(super) fn take_snapshots(&mut self, due: Vec<EntityKey>) {
        for entity in due {
            if let Some(snapshot) = self.write_down(&entity) {
                self.open.snapshots.push(snapshot);
            }
        }
    }

    /// Notes an event of the open batch; the entity's version with it.
    pub(super) fn count_event(
        &mut self,
        entity: &EntityKey,
        stamp: everfold_engine::Stamp,
        bytes: usize,
        now: Timestamp,
        due: &mut Vec<EntityKey>,
    ) -> u64 {
        let policy = &self.options.snapshots;
        let place = (self.open.number, stamp);
        let Some((version, is_due)) = self.residents.decided(entity, place, bytes, policy, now)
        else {
            return 0;
        };
        if is_due && !due.contains(entity) {
            due.push(entity.clone());
        }
        version
    }
}
