//! Running.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use everfold_engine::world::Progress;
use everfold_engine::{Timestamp, World};

use crate::process::Process;
use crate::state::{After, Next, State, Work};
use crate::stuck::{Cause, Stuck};
use crate::world::{Bell, Core};

/// What a simulation starts from, besides its seed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many steps one run may take; one that takes more is said to be stuck.
    pub steps: u64,
    /// How many bytes of the trace are kept; its hash covers all of it.
    pub trace_bytes: usize,
    /// The civil time at the beginning.
    pub start: Timestamp,
    /// How much time a step takes. Zero: the clock moves only when nothing is ready.
    pub tick: Duration,
}

impl Default for Settings {
    /// Ten million steps, 16 MiB, 2030-01-01, zero.
    fn default() -> Self {
        Self {
            steps: 10_000_000,
            trace_bytes: 16 << 20,
            start: Timestamp::from_date(2030, 1, 1),
            tick: Duration::ZERO,
        }
    }
}

/// A world of its own, and the power over it. Dropping it drops everything that runs in it.
pub struct Simulation {
    seed: u64,
    settings: Settings,
    core: Arc<Core>,
    first: Process,
}

impl Simulation {
    /// The simulation of a seed.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, Settings::default())
    }

    /// The simulation of a seed with other settings.
    pub fn with(seed: u64, settings: Settings) -> Self {
        let state = State::new(seed, settings.start, settings.tick, settings.trace_bytes);
        let core = Core::new(state);
        let number = core.state().join("main");
        Self {
            seed,
            settings,
            first: Process {
                core: core.clone(),
                number,
            },
            core,
        }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The world of the first process, `main`, which futures given to [`Simulation::run`] are of.
    pub fn world(&self) -> Arc<dyn World> {
        self.first.world()
    }

    /// A further process, with a world that can be killed and frozen by itself.
    pub fn process(&self, name: &str) -> Process {
        let number = self.core.state().join(name);
        Process {
            core: self.core.clone(),
            number,
        }
    }

    /// Runs everything until the future is done. What else was started stays for the next run.
    ///
    /// # Panics
    /// If it is [`Stuck`], with the seed. A panic of anything that runs passes through, after the
    /// seed was printed.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        match self.try_run(future) {
            Ok(output) => output,
            Err(stuck) => panic!("{stuck}"),
        }
    }

    /// Runs everything until the future is done.
    ///
    /// # Errors
    /// [`Stuck`] if it never will be, or not within the limit of steps.
    pub fn try_run<T>(&self, future: impl Future<Output = T>) -> Result<T, Stuck> {
        let main = self
            .core
            .state()
            .start(self.first.number, "run", Work::Main)
            .0;
        let mut future = pin!(future);
        let mut output = None;
        let result = self.advance_until(Duration::MAX, &mut |context| {
            if let Poll::Ready(done) = future.as_mut().poll(context) {
                output = Some(done);
            }
            output.is_some()
        });
        let left = self.core.state().remove(main);
        drop(left);
        match (output, result) {
            (Some(output), _) => Ok(output),
            (None, Err(stuck)) => Err(stuck),
            (None, Ok(())) => {
                let resting = self.core.state().resting();
                Err(self.stuck(Cause::Deadlock(resting)))
            }
        }
    }

    /// Runs everything that can proceed without time passing.
    ///
    /// # Panics
    /// If that takes more steps than the limit.
    pub fn settle(&self) {
        self.advance(Duration::ZERO);
    }

    /// Lets an amount of time pass, and everything happen that falls into it.
    ///
    /// # Panics
    /// If that takes more steps than the limit.
    pub fn advance(&self, duration: Duration) {
        let horizon = self.elapsed().saturating_add(duration);
        if let Err(stuck) = self.advance_until(horizon, &mut |_| false) {
            panic!("{stuck}");
        }
        let mut state = self.core.state();
        state.now = state.now.max(horizon);
    }

    /// The virtual time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.core.state().now
    }

    /// How many decisions were made so far.
    pub fn steps(&self) -> u64 {
        self.core.state().steps
    }

    /// Adds a line to the trace, so that what the code under test did is compared too.
    pub fn note(&self, text: impl std::fmt::Display) {
        self.core.state().note(format_args!("note {text}"));
    }

    /// What happened, a line for every decision: step, microseconds, what. Equal for equal seeds.
    pub fn trace(&self) -> Vec<u8> {
        self.core.state().trace.lines().as_bytes().to_vec()
    }

    /// A hash over all of the trace, also where [`Settings::trace_bytes`] cut it.
    pub fn trace_hash(&self) -> u64 {
        self.core.state().trace.hash()
    }

    /// How often the code that ran came to places that it names by [`World::reached`].
    pub fn reached(&self) -> BTreeMap<&'static str, u64> {
        self.core.state().reached.clone()
    }

    fn stuck(&self, cause: Cause) -> Stuck {
        let state = self.core.state();
        Stuck {
            seed: self.seed,
            steps: state.steps,
            time: state.now,
            cause,
        }
    }

    /// Runs until `main` says that it is done, or nothing is left up to the horizon.
    fn advance_until(
        &self,
        horizon: Duration,
        main: &mut dyn FnMut(&mut Context<'_>) -> bool,
    ) -> Result<(), Stuck> {
        let _blame = Blame(self.seed);
        let limit = self.steps().saturating_add(self.settings.steps);
        loop {
            if self.steps() >= limit {
                return Err(self.stuck(Cause::Steps(self.settings.steps)));
            }
            let next = self.core.state().next(horizon);
            let (number, work) = match next {
                Next::Nothing => return Ok(()),
                Next::Wake(wakers) => {
                    wakers.into_iter().for_each(Waker::wake);
                    continue;
                }
                Next::Run(number, work) => (number, work),
            };
            let waker = Waker::from(Arc::new(Bell::new(&self.core, number)));
            let mut context = Context::from_waker(&waker);
            let (work, after) = match work {
                Work::Main => {
                    if main(&mut context) {
                        return Ok(());
                    }
                    (Some(Work::Main), After::Rest)
                }
                Work::Task(mut task) => match task.as_mut().poll(&mut context) {
                    Poll::Ready(()) => (Some(Work::Task(task)), After::Done),
                    Poll::Pending => (Some(Work::Task(task)), After::Rest),
                },
                Work::Job(job) => {
                    job();
                    (None, After::Done)
                }
                Work::Machine(mut machine) => {
                    let after = match machine.step() {
                        Progress::Busy => After::Again,
                        Progress::Idle => After::Rest,
                        Progress::Finished => After::Done,
                    };
                    (Some(Work::Machine(machine)), after)
                }
            };
            let finished = self.core.state().ran(number, work, after);
            drop(finished);
        }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        // Tasks hold the world and the world holds the tasks.
        let dropped = self.core.state().kill_all();
        drop(dropped);
    }
}

/// Names the seed when something panics.
struct Blame(u64);

impl Drop for Blame {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the simulation of seed {}", self.0);
        }
    }
}
