//! An engine whose appends are slow and go wrong in every way that the contract allows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfold::engine::engine::*;
use everfold::engine::slot::Partition;
use everfold::engine::{Offset, World};

/// How often appends go wrong, in percent each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Odds {
    /// Refused because of the store.
    pub full: u64,
    /// Refused as too large if it has more than one unit.
    pub too_many: u64,
    /// Appended, but the answer is lost.
    pub lost_answer: u64,
    /// Not appended, and nobody says so.
    pub lost_append: u64,
    /// Puts of states that do not happen.
    pub failed_put: u64,
    /// Puts of states that happen, but their answer is lost.
    pub lost_put: u64,
    /// Acknowledged, but not appended: breaks the contract.
    pub lie: u64,
}

pub struct Faulty {
    inner: Arc<dyn Engine>,
    world: Arc<dyn World>,
    odds: Mutex<Odds>,
    pub faults: AtomicU64,
}

impl Faulty {
    pub fn new(inner: Arc<dyn Engine>, world: Arc<dyn World>, odds: Odds) -> Self {
        Self {
            inner,
            world,
            odds: Mutex::new(odds),
            faults: AtomicU64::new(0),
        }
    }

    /// How often appends go wrong from now on.
    pub fn now(&self, odds: Odds) {
        *self.odds.lock().unwrap() = odds;
    }
}

impl Engine for Faulty {
    fn append(
        &self,
        partition: Partition,
        epoch: Epoch,
        batch: Batch,
    ) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async move {
            let odds = *self.odds.lock().unwrap();
            let mut dice = self.world.random() % 100;
            let mut falls = |percent: u64| {
                let hit = dice < percent;
                dice = dice.wrapping_sub(percent);
                if hit {
                    self.faults.fetch_add(1, Ordering::Relaxed);
                    dice = u64::MAX;
                }
                hit
            };
            let unknown = || AppendError::Unknown("the connection broke".into());
            self.world
                .sleep(Duration::from_micros(self.world.random() % 2000))
                .await;
            if falls(odds.full) {
                return Err(Refusal::Full("for now".into()).into());
            }
            let commands = batch
                .records
                .iter()
                .filter(|r| r.portable.unit.is_last())
                .count();
            if commands > 1 && falls(odds.too_many) {
                return Err(Refusal::TooLarge {
                    bytes: commands,
                    limit: 1,
                }
                .into());
            }
            if falls(odds.lost_append) {
                return Err(unknown());
            }
            if falls(odds.lie) {
                let last = self.inner.safe_head(partition).await.unwrap();
                return Ok(Appended {
                    first: Offset(last.0 + 1),
                    last: Offset(last.0 + 1),
                });
            }
            let appended = self.inner.append(partition, epoch, batch).await?;
            if falls(odds.lost_answer) {
                return Err(unknown());
            }
            self.world
                .sleep(Duration::from_micros(self.world.random() % 2000))
                .await;
            Ok(appended)
        })
    }

    fn put(&self, put: Put) -> BoxFuture<'_, Result<Revision, PutError>> {
        Box::pin(async move {
            if !["entities", "partition"].contains(&&*put.area.name) {
                return self.inner.put(put).await;
            }
            let odds = *self.odds.lock().unwrap();
            let dice = self.world.random() % 100;
            let lost = || Err(PutError::Unavailable("the connection broke".into()));
            self.world
                .sleep(Duration::from_micros(self.world.random() % 2000))
                .await;
            if dice < odds.failed_put {
                return lost();
            }
            let put = self.inner.put(put).await;
            if dice < odds.failed_put + odds.lost_put {
                return lost();
            }
            put
        })
    }

    everfold::engine::forward! {
        identity limits coordinator claim renew release confirm read safe_head wait indexes_entities read_entity revision get scan doctor durability close
    }
}
