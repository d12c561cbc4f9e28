//! What goes wrong in a run, and when: drawn from a seed, or written down.

use std::fmt;
use std::str::FromStr;

use everfold_sim::Random;

use crate::scenario::Setup;

/// The faults of a run last at most until then, in milliseconds of virtual time.
pub(crate) const HORIZON: u32 = 18_000;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal;)*) => {
        /// One way in which the world goes wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// Its name in a written plan.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

// Of several nodes, a fault strikes the one that it picks instead of the newest.
kinds! {
    /// The newest node dies, with its disk where it has one; another one is opened after the time.
    Crash "crash";
    /// The newest node stands still for the time. Where the store is shared, another node is opened
    /// meanwhile for every second one, and the first wakes up as a zombie.
    Freeze "freeze";
    /// Another node is opened while the newest one runs on; where the store is not shared, the node
    /// is closed in order and opened again.
    Takeover "takeover";
    /// Nothing passes between the newest node and the store; embedded, between node and clients.
    Partition "partition";
    /// What the newest node asks of the store is lost, what is answered arrives.
    LostRequests "requests-lost";
    /// What the newest node asks of the store arrives, what is answered is lost.
    LostAnswers "answers-lost";
    /// Nothing passes between the newest node and the clients.
    ClientsCut "clients-cut";
    /// Everything to and from the newest node takes fifty times as long.
    Slow "slow";
    /// A third of all messages is lost.
    Loss "loss";
    /// Half of all messages arrive twice. Between nodes and store the second one is recognised.
    Duplicate "duplicate";
    /// Messages overtake each other.
    Reorder "reorder";
    /// The civil clock of the newest node steps, and back again after the time.
    Clock "clock";
    /// The disk fails once in some way that a log has to live with.
    Disk "disk";
    /// The next append of the newest node happens, but its answer is lost; embedded, the next answer
    /// to a client.
    LostAcknowledgement "acknowledgement-lost";
    /// The process of the shared store ends, and what it had not flushed with it; another one opens
    /// after the time.
    StoreRestart "store-restart";
    /// The process of the shared store stands still for the time.
    StoreFreeze "store-freeze";
    /// Appends are refused because there is no room.
    Full "full";
    /// Appends of more than one command are refused as too large.
    SmallBatches "small-batches";
    /// Everything to and from the store takes two hundred times as long.
    StoreSlow "store-slow";
    /// Nothing passes between a node and the other nodes; for every third one in one direction only.
    PeersCut "peers-cut";
    /// A node has its partitions moved away, or for every third one just leaves, and comes back after
    /// the time with another weight.
    Drain "drain";
    /// Another node joins for the time.
    Join "join";
}

impl Kind {
    /// Whether it can happen in a setup.
    pub fn fits(self, setup: Setup) -> bool {
        match self {
            Self::LostRequests | Self::LostAnswers => setup.is_shared(),
            Self::StoreRestart | Self::StoreFreeze => setup.is_shared(),
            Self::Disk => setup.has_disk(),
            Self::Takeover => !setup.is_cluster(),
            Self::StoreSlow | Self::PeersCut | Self::Drain | Self::Join => setup.is_cluster(),
            _ => true,
        }
    }
}

/// One thing that goes wrong. Written `crash@1200+300/7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// When it begins, in milliseconds since the clients began.
    pub at: u32,
    /// How long it lasts, in milliseconds.
    pub lasting: u32,
    /// Picks among the variants of its kind, and among nodes where there are several.
    pub detail: u32,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            at,
            lasting,
            detail,
        } = self;
        write!(f, "{}@{at}+{lasting}/{detail}", kind.name())
    }
}

/// Everything that goes wrong in a run, by time. Written as its faults with commas in between, or
/// `none`.
///
/// ```
/// use everfold_world::Plan;
/// let plan: Plan = "crash@100+50/1,slow@900+2000/0".parse()?;
/// assert_eq!(plan.faults().len(), 2);
/// assert_eq!(plan.to_string().parse::<Plan>()?, plan);
/// # Ok::<(), everfold_world::BadPlan>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan(Vec<Fault>);

impl Plan {
    /// The plan of these faults.
    pub fn new(mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| fault.at);
        Self(faults)
    }

    /// None to five faults that fit the setup; two more where several nodes are there to suffer.
    pub fn drawn(random: &mut Random, setup: Setup) -> Self {
        let fitting: Vec<Kind> = Kind::ALL
            .iter()
            .copied()
            .filter(|kind| kind.fits(setup))
            .collect();
        let more = if setup.is_cluster() { 2 } else { 0 };
        let count = more + random.below(6);
        let faults = (0..count).map(|_| Fault {
            kind: *random.pick(&fitting),
            at: random.below(u64::from(HORIZON) / 2) as u32,
            lasting: match random.below(3) {
                0 => 20 + random.below(200),
                1 => 200 + random.below(1500),
                _ => 1000 + random.below(u64::from(HORIZON) / 2 - 1000),
            } as u32,
            detail: random.below(1000) as u32,
        });
        Self::new(faults.collect())
    }

    /// By time.
    pub fn faults(&self) -> &[Fault] {
        &self.0
    }

    /// The same without one of them.
    #[must_use]
    pub fn without(&self, index: usize) -> Self {
        let mut faults = self.0.clone();
        faults.remove(index);
        Self(faults)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, fault) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{fault}")?;
        }
        Ok(())
    }
}

/// Text that is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no fault: write KIND@MILLISECONDS+LASTING/VARIANT, with commas in between, or `none`; kinds are {names}", names = names())]
pub struct BadPlan(String);

fn names() -> String {
    let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    names.join(", ")
}

impl FromStr for Plan {
    type Err = BadPlan;

    fn from_str(text: &str) -> Result<Self, BadPlan> {
        if text == "none" || text.is_empty() {
            return Ok(Self::default());
        }
        let faults = text
            .split(',')
            .map(|fault| read_fault(fault).ok_or_else(|| BadPlan(fault.to_owned())));
        Ok(Self::new(faults.collect::<Result<_, _>>()?))
    }
}

fn read_fault(text: &str) -> Option<Fault> {
    let (name, rest) = text.trim().split_once('@')?;
    let (at, rest) = rest.split_once('+')?;
    let (lasting, detail) = rest.split_once('/')?;
    Some(Fault {
        kind: *Kind::ALL.iter().find(|kind| kind.name() == name)?,
        at: at.parse().ok()?,
        lasting: lasting.parse().ok()?,
        detail: detail.parse().ok()?,
    })
}
