//! Parts of a simulation that can be killed and frozen by themselves.

use std::sync::Arc;
use std::time::Duration;

use everfold_engine::World;

use crate::world::{Core, Seat};

/// Something that dies as a whole: what a node, or one run of a program, is outside a simulation.
///
/// Tasks, machines and jobs started through its [`world`](Process::world) belong to it.
#[derive(Clone)]
pub struct Process {
    pub(crate) core: Arc<Core>,
    pub(crate) number: usize,
}

impl Process {
    /// The world as this process sees it.
    pub fn world(&self) -> Arc<dyn World> {
        Arc::new(Seat {
            core: self.core.clone(),
            process: self.number,
        })
    }

    /// Ends the process at once: nothing of it runs again, what it held is dropped. A machine is not
    /// told, as a power failure tells nobody. What it starts from now on is dropped unseen.
    pub fn kill(&self) {
        let dropped = self.core.state().kill(self.number);
        drop(dropped);
    }

    /// Stops the process where it is; time goes on.
    pub fn freeze(&self) {
        self.core.state().freeze(self.number);
    }

    /// Lets a frozen process go on, unaware of the gap.
    pub fn thaw(&self) {
        self.core.state().thaw(self.number);
    }

    /// Steps the civil clock of this process by microseconds, forwards or back. Its
    /// [`elapsed`](World::elapsed) time is not affected.
    pub fn step_clock(&self, micros: i64) {
        self.core.state().step_clock(self.number, micros);
    }

    /// The virtual time since the simulation began.
    pub fn elapsed(&self) -> Duration {
        self.core.state().now
    }
}
