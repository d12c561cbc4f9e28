//! A seeded, deterministic [`World`](everfold_engine::World): engines, the runtime and applications
//! run in it on one thread and virtual time, and one seed always gives the same run.
//!
//! Everything that can make progress (tasks, machines, blocking jobs) is an item of one list; the
//! seed decides which goes next. When nothing can, the clock jumps to the next timer. Each decision
//! is a line of a [trace](Simulation::trace), so that two runs can be compared byte by byte.
//!
//! ```
//! use std::time::Duration;
//! use everfold_sim::Simulation;
//!
//! let simulation = Simulation::new(7);
//! let world = simulation.world();
//! let slept = simulation.run(async {
//!     world.sleep(Duration::from_secs(3600)).await;
//!     world.elapsed()
//! });
//! assert_eq!(slept, Duration::from_secs(3600));
//! ```

mod process;
mod random;
mod simulation;
mod state;
mod stuck;
mod trace;
mod world;
mod yielding;

pub use process::Process;
pub use random::Random;
pub use simulation::{Settings, Simulation};
pub use stuck::{Cause, Stuck};
pub use yielding::yield_now;
