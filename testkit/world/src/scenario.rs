//! One run, complete: what a seed stands for, and how it is told from another.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use everfold::engine::coordination::placement::Placement;
use everfold::{NodeOptions, PartitionPolicy, SnapshotPolicy, StateOptions, StateStore};
use everfold_sim::Random;

use crate::mutation::Mutation;
use crate::plan::Plan;

/// Where the log lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setup {
    /// In the node: one node at a time over a log on a disk of its own.
    Embedded,
    /// In a process of its own that keeps it in memory, reached by all nodes over the network. Its
    /// memory outlives the process, as a replicated store would.
    Shared,
    /// The same with a log on a disk.
    SharedDisk,
    /// Several nodes at once are members of a cluster, over the model of an engine: in memory, in a
    /// process of its own, reached over the network, as who lives and who is to own what is.
    Cluster,
}

/// How often each is drawn.
const DRAWN: [Setup; 5] = [
    Setup::Embedded,
    Setup::Shared,
    Setup::SharedDisk,
    Setup::Cluster,
    Setup::Cluster,
];

impl Setup {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Embedded,
        Self::Shared,
        Self::SharedDisk,
        Self::Cluster,
    ];

    /// Whether several nodes use one store.
    pub fn is_shared(self) -> bool {
        self != Self::Embedded
    }

    /// Whether the log is on a disk.
    pub fn has_disk(self) -> bool {
        matches!(self, Self::Embedded | Self::SharedDisk)
    }

    /// Whether several nodes are there at once and know of each other.
    pub fn is_cluster(self) -> bool {
        self == Self::Cluster
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Shared => "shared",
            Self::SharedDisk => "shared-disk",
            Self::Cluster => "cluster",
        }
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Text that names no setup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no setup: choose `embedded`, `shared`, `shared-disk` or `cluster`")]
pub struct BadSetup(String);

impl FromStr for Setup {
    type Err = BadSetup;

    fn from_str(text: &str) -> Result<Self, BadSetup> {
        let named = Self::ALL.into_iter().find(|setup| setup.name() == text);
        named.ok_or_else(|| BadSetup(text.to_owned()))
    }
}

/// What a cluster is like.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Nodes at the beginning, and at the end.
    pub(crate) nodes: u32,
    pub(crate) lease: Duration,
    pub(crate) beat: Duration,
    /// How long work looks for its owner.
    pub(crate) patience: Duration,
    pub(crate) placement: Placement,
}

/// How many operations clients ask for in a run, unless told otherwise.
pub const OPERATIONS: u32 = 30;

/// One run: everything that a seed leaves open is said here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Decides all that is random.
    pub seed: u64,
    /// Where the log lives.
    pub setup: Setup,
    /// What goes wrong.
    pub plan: Plan,
    /// Which operations are asked for, by number; each draws from the seed and its number alone, so
    /// those that are left out do not change the others.
    pub operations: Vec<u32>,
    /// A promise that the build breaks, to prove that the checkers notice.
    pub mutation: Option<Mutation>,
}

impl Scenario {
    /// The run that a seed stands for.
    pub fn new(seed: u64) -> Self {
        let mut random = Self::draws(seed);
        let setup = *random.pick(&DRAWN);
        let plan = Plan::drawn(&mut random.fork(), setup);
        Self {
            seed,
            setup,
            plan,
            operations: (0..OPERATIONS).collect(),
            mutation: None,
        }
    }

    /// The same in a chosen setup, with the faults that the seed draws for it.
    pub fn in_setup(seed: u64, setup: Setup) -> Self {
        let mut random = Self::draws(seed);
        let _ = random.pick(&DRAWN);
        let plan = Plan::drawn(&mut random.fork(), setup);
        Self {
            setup,
            plan,
            ..Self::new(seed)
        }
    }

    /// The same in a build that breaks a promise.
    #[must_use]
    pub fn mutated(mut self, mutation: Mutation) -> Self {
        self.mutation = Some(mutation);
        self
    }

    /// Apart from what the simulation draws.
    fn draws(seed: u64) -> Random {
        Random::new(seed ^ 0x5eed_0f5c_e0a2_1051)
    }

    /// A generator for one purpose.
    pub(crate) fn random(&self, purpose: u64) -> Random {
        let mut random = Self::draws(self.seed);
        Random::new(random.bits() ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// How the nodes keep their state: with ease, under pressure, or nowhere.
    pub(crate) fn node_options(&self) -> NodeOptions {
        let mut random = self.random(1);
        let state = match random.below(4) {
            0 => StateOptions::default(),
            1 => StateOptions {
                store: StateStore::Memory,
                ..StateOptions::default()
            },
            _ => StateOptions {
                memory_bytes: 1,
                replay_on_return: random.below(3),
                snapshots: SnapshotPolicy {
                    events: 1 + random.below(5),
                    ..SnapshotPolicy::default()
                },
                partitions: PartitionPolicy {
                    records: 1 + random.below(8),
                    bytes: u64::MAX,
                },
                ..StateOptions::default()
            },
        };
        NodeOptions {
            state,
            ..NodeOptions::default()
        }
    }

    /// The cluster of a run with several nodes.
    pub(crate) fn shape(&self) -> Shape {
        let mut random = self.random(7);
        let millis = Duration::from_millis;
        let lease = millis(*random.pick(&[400, 800, 2000]));
        Shape {
            nodes: 2 + random.below(3) as u32,
            lease,
            beat: lease / (4 + random.below(5) as u32),
            patience: millis(*random.pick(&[500, 2000, 10_000])),
            placement: Placement {
                standbys: random.below(3) as usize,
                moves_at_once: 1 + random.below(4) as usize,
                lag: *random.pick(&[1, 20, 1000]),
            },
        }
    }

    /// The command that runs it again.
    pub fn reproduction(&self, workload: &str) -> String {
        let mut text = format!("everfold sim {workload} --seed {}", self.seed);
        let drawn = Self::new(self.seed);
        if self.setup != drawn.setup {
            text += &format!(" --setup {}", self.setup);
        }
        if self.plan != drawn.plan {
            text += &format!(" --faults {}", self.plan);
        }
        if self.operations != drawn.operations {
            let operations: Vec<_> = self.operations.iter().map(u32::to_string).collect();
            let operations = operations.join(",");
            let operations = if operations.is_empty() {
                "none"
            } else {
                &operations
            };
            text += &format!(" --operations {operations}");
        }
        if let Some(mutation) = self.mutation {
            text += &format!(" --mutation {}", mutation.name());
        }
        text
    }
}
