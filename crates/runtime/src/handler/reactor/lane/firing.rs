//! Timers that are due.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use everfold_engine::Timestamp;
use everfold_engine::engine::BoxFuture;

use super::super::job::{Fired, Reacted};
use super::super::timers::Firing;
use super::{Finished, Lane, PAUSE, react_to, record_at};
use crate::handler::Delivered;
use crate::reactor::Reaction;
use crate::timers::TimerClock;

/// Timers of one partition that fire at once. More are taken up when half of them are done: each
/// time they are stored first.
const MOST_FIRING: usize = 1024;
/// The civil clock may be set: timers look at it at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Rings when the next timer is due.
pub(super) struct Alarm {
    set_for: Option<Timestamp>,
    pub(super) rings: BoxFuture<'static, ()>,
}

impl Lane {
    fn due(&self) -> Option<Timestamp> {
        let room = self.timers.under_way() <= MOST_FIRING / 2 && !self.unstored;
        // Not before it is known what was cancelled, however long ago that was.
        let known = self.cursor >= self.inherited;
        self.timers.next_due().filter(|_| room && known)
    }

    pub(super) fn alarm(&self) -> Alarm {
        let due = self.due();
        let world = &self.ground.world;
        let rings: BoxFuture<'static, ()> = match (due, &self.ground.timers) {
            (None, _) => Box::pin(std::future::pending()),
            (Some(due), TimerClock::World) => {
                let left = due.0.saturating_sub(world.now().0).max(0);
                world.sleep(Duration::from_micros(left as u64).min(LONGEST_SLEEP))
            }
            (Some(due), TimerClock::Driven(clock)) => {
                let clock = clock.clone();
                Box::pin(async move { clock.reaches(due).await })
            }
        };
        Alarm {
            set_for: due,
            rings,
        }
    }

    pub(super) fn alarm_changed(&self, alarm: &Alarm) -> bool {
        alarm.set_for != self.due()
    }

    /// Fires what is due: stored first, then sent.
    pub(super) async fn fire(&mut self) {
        let now = self.ground.timers.now(self.ground.world.as_ref());
        if self.timers.fire(now, MOST_FIRING) {
            self.ground.world.reached("timer: fired");
            self.store().await;
        }
    }

    /// Sends what is stored as firing.
    pub(super) fn send_fired(&mut self) {
        for (number, firing) in self.timers.release() {
            self.send_timer(number, &firing);
        }
    }

    pub(super) fn finish_timer(&mut self, number: u64, result: Result<(), String>) {
        if result.is_err() {
            self.ground.world.reached("timer: parked");
        }
        if let Some((next, firing)) = self.timers.finish(number, result) {
            self.send_timer(next, &firing);
        }
    }

    fn send_timer(&self, number: u64, firing: &Firing) {
        let (ground, partition) = (self.ground.clone(), self.partition);
        let (name, status) = (self.name.clone(), self.status.clone());
        let (react, finished) = (self.react.clone(), self.finished.clone());
        let due = firing.due;
        let work = async move {
            let found = loop {
                match record_at(ground.engine.as_ref(), partition, due.offset).await {
                    Ok(found) => break found,
                    Err(_) if ground.is_stopping() => return,
                    Err(_) => ground.world.sleep(PAUSE).await,
                }
            };
            let result = match found {
                // Trimmed: nobody can say any more what it was about.
                None => Ok(()),
                Some(record) => {
                    let delivered = Arc::new(Delivered::new(record.clone()));
                    let again = || only_timer(react_to(&react, &delivered), due.index);
                    let job = super::Job {
                        name,
                        partition,
                        ground,
                        status,
                        record,
                        // A timer's command is wanted until its saga says otherwise.
                        again: false,
                        timer: Some(Fired {
                            number,
                            index: due.index,
                            at: due.at,
                        }),
                    };
                    job.run(again(), again).await
                }
            };
            let _ = finished.send(Finished::Timer(number, result));
        };
        self.ground.world.spawn("timer", Box::pin(work));
    }

    /// Lets others see how timers stand.
    pub(super) fn publish(&self) {
        let status = &self.status;
        let next = self.timers.next_due().map_or(i64::MAX, |due| due.0);
        status.next_due.store(next, Ordering::Relaxed);
        let count = |number: usize| number as u64;
        status
            .pending
            .store(count(self.timers.len()), Ordering::Relaxed);
        status
            .firing
            .store(count(self.timers.under_way()), Ordering::Relaxed);
    }
}

/// Of all that follows from an event, the commands of one timer; nothing if this build sets none.
fn only_timer(reacted: Reacted, index: u32) -> Reacted {
    Ok(reacted?.map(|mut reaction| {
        let timers = &mut reaction.timers;
        let timer = (timers.len() > index as usize).then(|| timers.swap_remove(index as usize));
        Reaction {
            outgoing: timer.map_or_else(Vec::new, |timer| timer.outgoing),
            ..Reaction::default()
        }
    }))
}
