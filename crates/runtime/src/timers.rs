//! What timers are measured by.

use everfold_engine::{Record, Timestamp, World};
use tokio::sync::watch;

/// What the timers of reactors and sagas are measured by.
#[derive(Clone, Debug, Default)]
pub enum TimerClock {
    /// From the moment that an event was recorded, by the world's civil clock.
    #[default]
    World,
    /// From an event's effective time, by a clock that the application moves: for histories that
    /// are played in a time of their own. All timers count in it, the pauses between the attempts of
    /// a saga's step and its time limits too: while the clock stands, nothing is tried again and
    /// nothing times out. Events inherit the effective time of what they follow from.
    Driven(DataClock),
}

impl TimerClock {
    pub(crate) fn now(&self, world: &dyn World) -> Timestamp {
        match self {
            Self::World => world.now(),
            Self::Driven(clock) => clock.now(),
        }
    }

    /// When the timers of an event begin.
    pub(crate) fn moment(&self, record: &Record) -> Timestamp {
        match self {
            Self::World => record.recorded(),
            Self::Driven(_) => record.portable.effective,
        }
    }
}

/// A clock that stands until it is moved.
///
/// ```
/// # use everfold_runtime::DataClock;
/// # use everfold_runtime::engine::Timestamp;
/// let clock = DataClock::at(Timestamp::from_date(1997, 1, 1));
/// clock.advance(Timestamp::from_date(1997, 2, 1));
/// clock.advance(Timestamp::from_date(1996, 1, 1));
/// assert_eq!(clock.now(), Timestamp::from_date(1997, 2, 1));
/// ```
#[derive(Clone, Debug)]
pub struct DataClock(watch::Sender<Timestamp>);

impl DataClock {
    /// A clock that shows `start`.
    pub fn at(start: Timestamp) -> Self {
        Self(watch::Sender::new(start))
    }

    /// Moves it to `to`; never back. Timers that are due by then fire.
    pub fn advance(&self, to: Timestamp) {
        self.0.send_if_modified(|now| {
            let later = to > *now;
            *now = to.max(*now);
            later
        });
    }

    /// What it shows.
    pub fn now(&self) -> Timestamp {
        *self.0.borrow()
    }

    pub(crate) async fn reaches(&self, moment: Timestamp) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|now| *now >= moment).await;
    }
}
