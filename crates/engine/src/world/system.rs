//! The real world: a tokio runtime, the system's clock, threads and randomness.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;

use super::{Machine, Poke, Progress, World};
use crate::engine::BoxFuture;
use crate::time::Timestamp;

/// The world outside a simulation.
#[derive(Debug)]
pub struct System {
    runtime: Handle,
    begin: Instant,
    entropy: AtomicU64,
}

impl System {
    /// The world of the tokio runtime that the caller runs in.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn current() -> Arc<Self> {
        Self::on(Handle::current())
    }

    /// The world of a tokio runtime.
    pub fn on(runtime: Handle) -> Arc<Self> {
        let seed = getrandom::u64().unwrap_or_else(|_| {
            // Without the system's randomness, the clock and the process keep seeds apart.
            let clock = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            clock.as_nanos() as u64 ^ (u64::from(std::process::id()) << 32)
        });
        Arc::new(Self {
            runtime,
            begin: Instant::now(),
            entropy: AtomicU64::new(seed),
        })
    }
}

impl World for System {
    fn now(&self) -> Timestamp {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_micros() as i64,
            Err(before) => -(before.duration().as_micros() as i64),
        };
        Timestamp(micros)
    }

    fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    fn random(&self) -> u64 {
        // SplitMix64 over a counter that starts at a random place: identifiers, not secrets.
        let mut z = self
            .entropy
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        self.runtime.spawn(task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn block(&self, _name: &'static str, job: Box<dyn FnOnce() + Send>) {
        self.runtime.spawn_blocking(job);
    }

    fn drive(&self, name: &'static str, mut machine: Box<dyn Machine>) -> Arc<dyn Poke> {
        let run = move || {
            loop {
                match machine.step() {
                    Progress::Busy => {}
                    Progress::Idle => std::thread::park(),
                    Progress::Finished => break,
                }
            }
        };
        match std::thread::Builder::new().name(name.to_owned()).spawn(run) {
            Ok(handle) => Arc::new(Parked(handle.thread().clone())),
            Err(error) => panic!("the system gives no thread for {name}: {error}"),
        }
    }
}

/// A driver thread; parking remembers a poke that came while the machine was busy.
struct Parked(Thread);

impl Poke for Parked {
    fn poke(&self) {
        self.0.unpark();
    }
}
