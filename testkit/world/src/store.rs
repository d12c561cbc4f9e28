//! Where the log lives: on a disk or in memory, in a process that may end and begin again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everfold::engine::World;
use everfold::engine::engine::{Engine, Identity, Limits};
use everfold::engine::memory::Memory;

use everfold_log::disk::{Crash, Disk, Fault, FaultPlan};
use everfold_log::{Log, MemoryDisk, Options};
use everfold_sim::{Process, Random};

use crate::coverage::Counts;
use crate::ledger::{Ledger, Ticks};
use crate::mutation::Mutation;
use crate::scenario::{Scenario, Setup};
use crate::watched::{Refusals, Watched};

/// What a disk may do without taking away what it acknowledged.
const DISK_FAULTS: &[Fault] = &[
    Fault::FailedWrite,
    Fault::ShortWrite,
    Fault::Full,
    Fault::FailedSync,
    Fault::FailedDirectorySync,
    Fault::FailedOpen,
    Fault::FailedRename,
    Fault::FailedRemove,
    Fault::FailedSetLength,
    Fault::FailedRead,
    Fault::ShortRead,
    Fault::PowerCut,
];

/// Flushes that a mutated build leaves out after each opening.
const LIES: u64 = 500;

/// A store that runs: whose calls are made in its process.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) engine: Arc<dyn Engine>,
}

pub(crate) struct Store {
    pub(crate) setup: Setup,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) refusals: Arc<Refusals>,
    counts: Arc<Counts>,
    mutation: Option<Mutation>,
    partitions: u16,
    state: Mutex<State>,
}

struct State {
    random: Random,
    spare: Vec<Process>,
    memory: Option<Arc<Memory>>,
    disk: MemoryDisk,
    running: Option<Running>,
}

impl Store {
    pub(crate) fn new(
        scenario: &Scenario,
        world: &Arc<dyn World>,
        mut spare: Vec<Process>,
        (counts, ticks): (Arc<Counts>, Ticks),
    ) -> Result<Arc<Self>, String> {
        let mut random = scenario.random(2);
        let mut partitions = 1 + random.below(3) as u16;
        if scenario.setup.is_cluster() {
            partitions *= 2;
        }
        let memory = match scenario.setup {
            Setup::Shared | Setup::Cluster => {
                let memory = Memory::new(world.clone(), partitions);
                let memory = memory.map_err(|error| error.to_string())?;
                // As engines over a plain message log are.
                let plain = random.one_in(4);
                Some(Arc::new(if plain {
                    memory.without_index()
                } else {
                    memory
                }))
            }
            Setup::Embedded | Setup::SharedDisk => None,
        };
        spare.reverse();
        let store = Arc::new(Self {
            setup: scenario.setup,
            ledger: Arc::new(Ledger::new(ticks)),
            refusals: Arc::default(),
            counts,
            mutation: scenario.mutation,
            partitions,
            state: Mutex::new(State {
                random,
                spare,
                memory,
                disk: MemoryDisk::new(),
                running: None,
            }),
        });
        if scenario.setup.is_shared() {
            store.start()?;
        }
        Ok(store)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shared store, if its process runs.
    pub(crate) fn running(&self) -> Option<Running> {
        self.state().running.clone()
    }

    /// What nodes need to know of a shared store before they ask it.
    pub(crate) fn about(&self) -> Option<(Identity, Limits, bool)> {
        let engine = self.running()?.engine;
        let indexed = engine.indexes_entities();
        Some((engine.identity().clone(), engine.limits(), indexed))
    }

    /// The store as a node sees it, directly.
    pub(crate) fn watched(&self, node: u32, inner: Arc<dyn Engine>) -> Arc<dyn Engine> {
        Arc::new(Watched {
            inner,
            node,
            ledger: self.ledger.clone(),
            refusals: self.refusals.clone(),
            counts: self.counts.clone(),
            mutation: self.mutation,
        })
    }

    /// Starts the shared store's process.
    pub(crate) fn start(&self) -> Result<(), String> {
        let process = self.state().spare.pop();
        let process = process.ok_or("the store was started too often")?;
        let memory = self.state().memory.clone();
        let engine: Arc<dyn Engine> = match memory {
            Some(memory) => memory,
            None => match self.open_log(process.world()) {
                Ok(log) => log,
                Err(error) => {
                    // Whoever runs it starts the machine again.
                    process.kill();
                    self.lose_power();
                    return Err(error);
                }
            },
        };
        self.state().running = Some(Running { process, engine });
        Ok(())
    }

    /// Ends the shared store's process; what it had not flushed is lost, all or in part.
    pub(crate) fn stop(&self) {
        let running = self.state().running.take();
        if let Some(running) = running {
            running.process.kill();
            self.lose_power();
        }
    }

    /// What the disk of a machine that lost its power still holds.
    pub(crate) fn lose_power(&self) {
        let mut state = self.state();
        let kind = match state.random.below(4) {
            0 => Crash::Nothing,
            1 => Crash::Everything,
            _ => Crash::Sectors(state.random.bits()),
        };
        state.disk = state.disk.crash(kind);
    }

    /// The log on the disk as it is now.
    pub(crate) fn open_log(&self, world: Arc<dyn World>) -> Result<Arc<dyn Engine>, String> {
        let disk = self.state().disk.clone();
        let mut options = Options::default();
        options.partitions = Some(self.partitions);
        options.first_segment_bytes = 16 << 10;
        options.segment_bytes = 64 << 10;
        options.tail_bytes = 16 << 10;
        options.read_cache_bytes = 64 << 10;
        options.area_cache_bytes = 64 << 10;
        options.plain_segments = 1;
        let on: Arc<dyn Disk> = Arc::new(disk.clone());
        let log = Log::open(on, world, options).map_err(|error| error.to_string())?;
        if self.mutation == Some(Mutation::AnswerBeforeDurability) {
            let lies = (1..=LIES).fold(FaultPlan::new(0), |plan, nth| {
                plan.at(Fault::LyingSync, nth)
            });
            disk.set_plan(lies.only(Fault::LyingSync, ".log"));
        }
        Ok(log)
    }

    /// The disk fails once, soon.
    pub(crate) fn fail_disk(&self, detail: u32) {
        if self.mutation == Some(Mutation::AnswerBeforeDurability) {
            return;
        }
        let fault = DISK_FAULTS[detail as usize % DISK_FAULTS.len()];
        let soon = 1 + u64::from(detail) % 5;
        let disk = self.state().disk.clone();
        match fault {
            Fault::PowerCut => disk.die_after(soon),
            fault => disk.set_plan(FaultPlan::new(u64::from(detail)).at(fault, soon)),
        }
    }

    /// What happened to the disk.
    pub(crate) fn count_disk_faults(&self) {
        let tally = self.state().disk.tally();
        for fault in Fault::ALL {
            let fired = tally.fired(fault);
            if fired > 0 {
                self.counts.add(disk_fault_name(fault), fired);
            }
        }
    }
}

fn disk_fault_name(fault: Fault) -> &'static str {
    match fault {
        Fault::FailedWrite => "disk: failed write",
        Fault::ShortWrite => "disk: short write",
        Fault::Full => "disk: full",
        Fault::FailedSync => "disk: failed flush",
        Fault::FailedDirectorySync => "disk: failed flush of the directory",
        Fault::FailedOpen => "disk: failed opening",
        Fault::FailedRename => "disk: failed renaming",
        Fault::FailedRemove => "disk: failed removal",
        Fault::FailedSetLength => "disk: failed change of length",
        Fault::FailedRead => "disk: failed read",
        Fault::ShortRead => "disk: short read",
        Fault::PowerCut => "disk: power cut during a call",
        Fault::LostWrite => "disk: lost write",
        Fault::TornWrite => "disk: torn write",
        Fault::ReorderedWrite => "disk: reordered write",
        Fault::TornRewrite => "disk: torn rewrite",
        Fault::LostName => "disk: lost name",
        Fault::FailedList => "disk: failed listing",
        Fault::LyingSync | Fault::FlippedRead | Fault::FlippedAtRest => "disk: lies",
    }
}
