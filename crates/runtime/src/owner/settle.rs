//! What happens when a batch has landed: everybody is told, or everything is undone.

use std::sync::atomic::Ordering;

use everfold_engine::engine::{self, AppendError, Refusal};
use everfold_engine::{EntityKey, Offset};

use super::batch::{Batch, Clock, Pending};
use super::doubtful::Doubtful;
use super::known::Entry;
use super::serve::{End, MOST_UNITS, Serving};
use super::work::{Answer, Heard, Work};
use crate::error::CommandError;

impl Serving {
    pub(super) fn landed(
        &mut self,
        (batch, result): (Batch, Result<Option<engine::Appended>, AppendError>),
    ) -> Option<End> {
        self.halted = false;
        match result {
            Ok(appended) => {
                self.durable(batch, appended);
                None
            }
            Err(AppendError::Refused(refusal)) => {
                self.refused(batch, refusal);
                None
            }
            Err(AppendError::Fenced(partition)) => {
                self.lost(batch, true, |_| CommandError::Fenced(partition));
                Some(End::Fenced)
            }
            Err(error) => {
                let reason = error.to_string();
                let partition = self.partition;
                self.lost(batch, false, |in_flight| {
                    if in_flight {
                        CommandError::Unknown(reason.clone())
                    } else {
                        CommandError::Unavailable {
                            partition,
                            reason: reason.clone(),
                        }
                    }
                });
                Some(End::Unknown)
            }
        }
    }

    /// Everything of the batch is durable: only now may anybody hear of it.
    fn durable(&mut self, batch: Batch, appended: Option<engine::Appended>) {
        let before = self.durable;
        if let Some(appended) = appended {
            self.durable = appended.last;
            self.status
                .reached
                .store(appended.last.0, Ordering::Relaxed);
            self.status.batches.fetch_add(1, Ordering::Relaxed);
        }
        self.durable_batch = batch.number;
        self.most_units = (self.most_units * 2).min(MOST_UNITS);
        for pending in batch.pending {
            let offset = match (appended, pending.records_end) {
                (Some(appended), end) if end > 0 => Offset(appended.first.0 + end as u64 - 1),
                _ => before,
            };
            if let Some(known) = &pending.id {
                let entry = Entry {
                    digest: known.digest as u64,
                    offset,
                };
                if self.known.get(&known.shelf, known.id).is_some() {
                    self.known.insert(&known.shelf, known.id, entry);
                }
                if let Some(state) = &mut self.state {
                    let source = pending.work.envelope().source.as_ref();
                    state.note(known.id, &known.shelf, entry, source);
                }
            }
            // The open batch began where this one ended.
            let clock = self.open.before;
            pending.work.envelope().tell(|| Heard {
                after: (clock.stamp, clock.hybrid),
                dot: pending.dot,
            });
            pending.work.answer(Answer::Durable(offset));
            pending
                .repeats
                .into_iter()
                .for_each(|work| self.repeat(work, offset));
        }
        if let (Some(appended), Some(state)) = (appended, &mut self.state) {
            // The open batch began where this one ended.
            let clock = self.open.before;
            state.reached(appended.last, clock.stamp, clock);
            let records = appended.last.0 - appended.first.0 + 1;
            state.gained(records, batch.bytes as u64);
        }
        for snapshot in batch.snapshots {
            self.store(snapshot);
        }
        self.keep_partition(false);
        self.keep_remembered(false);
        self.cramped = false;
        self.make_room();
        self.report();
    }

    /// Nothing of the batch exists, nor of what was decided after it. Drops all of it and decides
    /// the commands again in order; no answer has left.
    fn refused(&mut self, batch: Batch, refusal: Refusal) {
        let units = batch.units();
        self.flight = None;
        self.world.reached(match refusal.is_of_store() {
            true => "owner: batch refused by the store",
            false if matches!(refusal, Refusal::Statement(_)) => "owner: statement failed",
            false if units <= 1 => "owner: unit refused alone",
            false => "owner: refused batch halved and decided again",
        });
        if refusal.is_of_store() || units <= 1 {
            let partition = self.partition;
            let (reads, failed): (Vec<_>, Vec<_>) = self
                .drop_batch(batch)
                .into_iter()
                .partition(|pending| pending.is_read);
            let mut again: Vec<_> = reads.into_iter().flat_map(Pending::into_work).collect();
            again.extend(self.undo_open());
            for work in failed.into_iter().flat_map(Pending::into_work) {
                let reason = refusal.to_string();
                work.answer(Answer::Failed(match &refusal {
                    Refusal::Statement(why) => CommandError::Statement(why.clone()),
                    _ if refusal.is_of_store() => CommandError::Unavailable { partition, reason },
                    _ => CommandError::TooLarge(reason),
                }));
            }
            self.requeue(again);
        } else {
            self.most_units = (units / 2).max(1);
            let dropped = self.drop_batch(batch).into_iter();
            let mut again: Vec<_> = dropped.flat_map(Pending::into_work).collect();
            again.extend(self.undo_open());
            self.requeue(again);
        }
    }

    /// A fault in application code has left states half changed: drops them with everything that
    /// was decided since the last launch, to be decided again.
    pub(super) fn undo(&mut self, entities: &[EntityKey]) {
        self.world
            .reached("owner: undone after a fault in application code");
        let later = self.undo_open();
        entities
            .iter()
            .for_each(|entity| self.residents.remove(entity));
        // What is dropped may also have changed in the batch on its way, which the log does not
        // show yet: nothing can be loaded before it has landed.
        self.halted = self.flight.is_some();
        self.requeue(later);
    }

    fn undo_open(&mut self) -> Vec<Box<dyn Work>> {
        let number = self.open.number;
        let open = std::mem::replace(&mut self.open, Batch::new(number, self.clock));
        let dropped = self.drop_batch(open);
        self.open.before = self.clock;
        self.full = false;
        dropped.into_iter().flat_map(Pending::into_work).collect()
    }

    /// Forgets what a batch has changed, and gives its work back. Who waited for another state than
    /// the one that is dropped looks again.
    fn drop_batch(&mut self, batch: Batch) -> Vec<Pending> {
        self.clock = earlier(self.clock, batch.before);
        for entity in &batch.touched {
            self.residents.remove(entity);
            if let Some(watchers) = self.watchers.remove(entity) {
                self.world
                    .reached("owner: who waits looks again after an undo");
                self.queue.extend(watchers);
            }
        }
        for known in batch
            .pending
            .iter()
            .filter_map(|pending| pending.id.as_ref())
        {
            self.known.remove(&known.shelf, known.id);
        }
        batch.pending
    }

    fn requeue(&mut self, work: Vec<Box<dyn Work>>) {
        for work in work.into_iter().rev() {
            self.queue.push_front(work);
        }
    }

    /// This ownership is over: what is not durable goes to the next owner where there are many nodes,
    /// and fails otherwise.
    fn lost(&mut self, batch: Batch, fenced: bool, error: impl Fn(bool) -> CommandError) {
        self.flight = None;
        if !self.open.is_empty() {
            self.world.reached("owner: lost with work decided on top");
        }
        let (router, partition) = (self.router.clone(), self.partition);
        let over = |work: Box<dyn Work>, in_flight: bool| {
            // What may have been done is done again under its id only.
            let again = fenced || !in_flight || work.envelope().id.is_some();
            let left = match again {
                true if in_flight && !fenced && router.remote().is_some() => {
                    self.world.reached("owner: unknown outcome, asked again");
                    router.pass_on(partition, Doubtful::over(work))
                }
                true => router.pass_on(partition, work),
                false => Some(work),
            };
            if let Some(work) = left {
                work.answer(Answer::Failed(error(in_flight)));
            }
        };
        for work in batch.into_work() {
            over(work, true);
        }
        let open = std::mem::replace(&mut self.open, Batch::new(0, self.clock));
        let waiting = self.watchers.drain().flat_map(|(_, work)| work);
        for work in open.into_work().chain(self.queue.drain(..)).chain(waiting) {
            over(work, false);
        }
    }
}

fn earlier(a: Clock, b: Clock) -> Clock {
    if b.stamp <= a.stamp { b } else { a }
}
