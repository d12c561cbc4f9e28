//! The simulation as the code under test sees it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use everfold_engine::engine::BoxFuture;
use everfold_engine::world::{Machine, Poke};
use everfold_engine::{Timestamp, World};

use crate::state::{State, Work};

/// What all handles share. The lock is never held while foreign code runs: not while polling,
/// stepping or waking, and not while dropping what others made.
pub(crate) struct Core(Mutex<State>);

impl Core {
    pub(crate) fn new(state: State) -> Arc<Self> {
        Arc::new(Self(Mutex::new(state)))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The world of one process.
pub(crate) struct Seat {
    pub(crate) core: Arc<Core>,
    pub(crate) process: usize,
}

impl Seat {
    fn start(&self, name: &'static str, work: Work) -> u64 {
        let (number, refused) = self.core.state().start(self.process, name, work);
        drop(refused);
        number
    }
}

impl World for Seat {
    fn now(&self) -> Timestamp {
        self.core.state().civil(self.process)
    }

    fn elapsed(&self) -> Duration {
        self.core.state().now
    }

    fn random(&self) -> u64 {
        self.core.state().values.bits()
    }

    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        self.start(name, Work::Task(task));
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut state = self.core.state();
        Box::pin(Sleep {
            core: self.core.clone(),
            deadline: state.now.saturating_add(duration),
            number: state.number(),
        })
    }

    fn block(&self, name: &'static str, job: Box<dyn FnOnce() + Send>) {
        self.start(name, Work::Job(job));
    }

    fn drive(&self, name: &'static str, machine: Box<dyn Machine>) -> Arc<dyn Poke> {
        let number = self.start(name, Work::Machine(machine));
        Arc::new(Bell::new(&self.core, number))
    }

    fn reached(&self, place: &'static str) {
        *self.core.state().reached.entry(place).or_default() += 1;
    }
}

/// Makes one item ready: a task's waker and a machine's poke.
pub(crate) struct Bell {
    core: Arc<Core>,
    item: u64,
}

impl Bell {
    pub(crate) fn new(core: &Arc<Core>, item: u64) -> Self {
        Self {
            core: core.clone(),
            item,
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.core.state().wake(self.item);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.core.state().wake(self.item);
    }
}

impl Poke for Bell {
    fn poke(&self) {
        self.core.state().wake(self.item);
    }
}

struct Sleep {
    core: Arc<Core>,
    deadline: Duration,
    number: u64,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.core.state();
        if state.now >= self.deadline {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        let replaced = state.timers.insert((self.deadline, self.number), waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let removed = self
            .core
            .state()
            .timers
            .remove(&(self.deadline, self.number));
        drop(removed);
    }
}
