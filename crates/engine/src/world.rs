//! Seams: the runtime and the engines reach clocks, tasks, threads and randomness only through a
//! [`World`], so that a simulated one can drive everything from a seed.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::BoxFuture;
use crate::time::Timestamp;
use crate::uuid7;

#[cfg(feature = "system")]
mod system;
#[cfg(feature = "system")]
pub use system::System;

/// What lies outside the program.
pub trait World: Send + Sync + 'static {
    /// Civil time; may step.
    fn now(&self) -> Timestamp;

    /// Time since the world began; never steps back.
    fn elapsed(&self) -> Duration;

    /// 64 random bits.
    fn random(&self) -> u64;

    /// Runs a task beside the others. `name` says what it is for.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);

    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// Runs `job`, which may block on a disk, where it holds up no task.
    fn block(&self, name: &'static str, job: Box<dyn FnOnce() + Send>);

    /// Gives `machine` a driver of its own, which steps it until it is finished and rests while it
    /// is idle. The returned handle ends the rest.
    fn drive(&self, name: &'static str, machine: Box<dyn Machine>) -> Arc<dyn Poke>;

    /// The code has come to a place that is seldom reached. A simulation counts them, to tell what
    /// its runs have proven; elsewhere nothing happens.
    fn reached(&self, place: &'static str) {
        let _ = place;
    }
}

/// A synchronous state machine that owns no thread.
pub trait Machine: Send {
    /// Does the next piece of work, which may block on a disk.
    fn step(&mut self) -> Progress;
}

/// What a step of a [`Machine`] led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There may be more to do.
    Busy,
    /// Nothing to do until poked.
    Idle,
    /// Nothing to do ever again.
    Finished,
}

/// Ends the rest of a driver.
pub trait Poke: Send + Sync {
    /// There is work; cheap, and safe to call too often.
    fn poke(&self);
}

/// A new version 7 UUID of this world.
pub fn new_id(world: &dyn World) -> uuid::Uuid {
    uuid7(world.now(), world.random(), world.random())
}
