//! What goes wrong, and when: drawn from a seed, the same for the same seed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use everfold_world::Random;
use serde::Serialize;

/// Sorts of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// A node is killed, and started again.
    Kill,
    /// A node is stopped for longer than its lease, and goes on.
    Freeze,
    /// The network of a node is cut.
    Partition,
    /// What a node says to the store comes there later than its lease lasts.
    Slow,
    /// The store is killed, and started again.
    RestartEngine,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Kill,
        Self::Freeze,
        Self::Partition,
        Self::Slow,
        Self::RestartEngine,
    ];

    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::Partition => "partition",
            Self::Slow => "slow",
            Self::RestartEngine => "restart-engine",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no fault's.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0:?} is no fault; there are kill, freeze, partition, slow and restart-engine")]
pub struct BadFault(String);

impl FromStr for FaultKind {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.name() == text)
            .ok_or_else(|| BadFault(text.to_owned()))
    }
}

/// From whom a node is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// From the other nodes; the store and clients reach it.
    Peers,
    /// From the store; others reach it.
    Engine,
    /// From everybody.
    Everybody,
}

/// Something that goes wrong for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "fault")]
pub enum Fault {
    /// The node is killed, and started again at the end.
    Kill {
        /// Which node, from 0.
        node: usize,
    },
    /// The node is stopped until the end.
    Freeze {
        /// Which node, from 0.
        node: usize,
    },
    /// The network is cut until the end.
    Partition {
        /// Which node, from 0.
        node: usize,
        /// From whom.
        from: Cut,
    },
    /// What the node says to the store comes late until the end.
    Slow {
        /// Which node, from 0.
        node: usize,
        /// So late.
        #[serde(rename = "late_ms", serialize_with = "millis")]
        late: Duration,
    },
    /// The store is killed, and started again at the end.
    RestartEngine,
}

impl Fault {
    /// Of which sort it is.
    pub fn kind(self) -> FaultKind {
        match self {
            Self::Kill { .. } => FaultKind::Kill,
            Self::Freeze { .. } => FaultKind::Freeze,
            Self::Partition { .. } => FaultKind::Partition,
            Self::Slow { .. } => FaultKind::Slow,
            Self::RestartEngine => FaultKind::RestartEngine,
        }
    }

    /// Whom it hits; nobody if it is the store.
    pub fn node(self) -> Option<usize> {
        match self {
            Self::Kill { node }
            | Self::Freeze { node }
            | Self::Partition { node, .. }
            | Self::Slow { node, .. } => Some(node),
            Self::RestartEngine => None,
        }
    }
}

/// A fault with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// What.
    #[serde(flatten)]
    pub fault: Fault,
    /// Since the load began.
    #[serde(rename = "at_ms", serialize_with = "millis")]
    pub at: Duration,
    /// How long.
    #[serde(rename = "lasting_ms", serialize_with = "millis")]
    pub lasting: Duration,
}

fn millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_millis() as u64)
}

impl Planned {
    /// When it is over.
    pub fn end(&self) -> Duration {
        self.at + self.lasting
    }
}

/// What the plan has to know.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// How long clients ask.
    pub length: Duration,
    /// How many nodes there are.
    pub nodes: usize,
    /// How long a node is believed to live without a sign.
    pub lease: Duration,
    /// Which faults may happen.
    pub kinds: &'a [FaultKind],
}

/// The cluster is whole at the beginning for a tenth of the time, at the end for a tenth as well,
/// and at most so long.
const WHOLE: Duration = Duration::from_secs(5);
/// Between two faults, at least and at most.
const BETWEEN: (u64, u64) = (300, 4_000);

/// The faults of a seed, in the order of their times.
///
/// Every sort comes before one comes again. In one of four cases a fault begins before the last one
/// has ended, on another node; so two nodes at most are away at once, and all are there again at
/// the end.
pub fn draw(seed: u64, terms: &Terms<'_>) -> Vec<Planned> {
    let mut random = Random::new(seed);
    let whole = (terms.length / 10).min(WHOLE);
    let last = terms.length.saturating_sub(whole);
    let (mut plan, mut round): (Vec<Planned>, Vec<FaultKind>) = (Vec::new(), Vec::new());
    let mut at = whole;
    while !terms.kinds.is_empty() {
        if round.is_empty() {
            round = terms.kinds.to_vec();
            random.shuffle(&mut round);
        }
        let Some(kind) = round.pop() else { break };
        let mut before = plan.last().filter(|it| it.end() > at).copied();
        // The store is not killed while it is down.
        if let Some(down) = before
            .take_if(|it| (it.fault, kind) == (Fault::RestartEngine, FaultKind::RestartEngine))
        {
            at = down.end() + Duration::from_millis(BETWEEN.0);
        }
        let mut fault = fault(&mut random, kind, terms, before.map(|it| it.fault));
        let mut lasting = lasting(&mut random, kind, terms.lease);
        let is_first = plan.iter().all(|it| it.fault.kind() != kind);
        if let (Fault::Partition { from, .. }, true) = (&mut fault, is_first) {
            // Its clients ask on, others take over, and what it has decided reaches the store late: no
            // run goes without.
            *from = Cut::Engine;
            lasting = lasting.max(terms.lease * 3 / 2);
        }
        if at + lasting > last {
            break;
        }
        let planned = Planned { fault, at, lasting };
        plan.push(planned);
        // A third one waits for both.
        let free = plan.iter().map(Planned::end).max().unwrap_or(at);
        let overlaps = before.is_none() && terms.nodes > 1 && random.one_in(4);
        let pause = BETWEEN.0 + random.below(between(terms.length));
        at = match overlaps {
            true => at + lasting.mul_f64(random.below(100) as f64 / 100.0),
            false => free + Duration::from_millis(pause),
        };
    }
    plan
}

/// Short runs have short pauses.
fn between(length: Duration) -> u64 {
    (length.as_millis() as u64 / 10).min(BETWEEN.1 - BETWEEN.0)
}

fn fault(random: &mut Random, kind: FaultKind, terms: &Terms<'_>, beside: Option<Fault>) -> Fault {
    let nodes = terms.nodes;
    let mut node = random.index(nodes);
    if beside.and_then(Fault::node) == Some(node) {
        node = (node + 1) % nodes.max(1);
    }
    match kind {
        FaultKind::Kill => Fault::Kill { node },
        FaultKind::Freeze => Fault::Freeze { node },
        FaultKind::Partition => {
            let from = *random.pick(&[Cut::Peers, Cut::Engine, Cut::Everybody]);
            Fault::Partition { node, from }
        }
        FaultKind::Slow => {
            let late = terms.lease.mul_f64(1.1 + random.below(30) as f64 / 100.0);
            Fault::Slow { node, late }
        }
        FaultKind::RestartEngine => Fault::RestartEngine,
    }
}

/// A frozen node sleeps longer than its lease, and a slow one outlives it. A cut is sometimes shorter.
fn lasting(random: &mut Random, kind: FaultKind, lease: Duration) -> Duration {
    let lease = lease.as_millis() as u64;
    let (least, more) = match kind {
        FaultKind::Kill => (100, 3 * lease / 2),
        FaultKind::Freeze => (lease + lease / 4, lease),
        FaultKind::Partition => (lease / 2, 5 * lease / 2),
        FaultKind::Slow => (2 * lease, lease),
        FaultKind::RestartEngine => (0, 1_000),
    };
    Duration::from_millis(least + random.below(more + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(2);

    fn terms(seconds: u64, nodes: usize) -> Terms<'static> {
        Terms {
            length: Duration::from_secs(seconds),
            nodes,
            lease: LEASE,
            kinds: &FaultKind::ALL,
        }
    }

    #[test]
    fn a_seed_says_all() {
        let terms = terms(60, 3);
        assert_eq!(draw(7, &terms), draw(7, &terms));
        assert_ne!(draw(7, &terms), draw(8, &terms));
    }

    #[test]
    fn all_sorts_happen_and_all_is_whole_at_the_end() {
        let mut overlaps = 0;
        for seed in 0..200 {
            let plan = draw(seed, &terms(60, 3));
            for kind in FaultKind::ALL {
                let times = plan.iter().filter(|it| it.fault.kind() == kind).count();
                assert!(times > 0, "seed {seed}: no {kind}");
            }
            assert!(plan.is_sorted_by_key(|planned| planned.at));
            for planned in &plan {
                assert!(planned.end() <= Duration::from_secs(55));
                let beside = plan.iter().filter(|other| {
                    other.at < planned.end() && planned.at < other.end() && *other != planned
                });
                let beside: Vec<_> = beside.collect();
                overlaps += beside.len();
                assert!(beside.len() <= 1, "seed {seed}: {planned:?} and {beside:?}");
                let node = planned.fault.node();
                let same = beside
                    .iter()
                    .any(|it| it.fault.kind() == planned.fault.kind() && it.fault.node() == node);
                assert!(
                    !same && (node.is_none() || beside.iter().all(|it| it.fault.node() != node))
                );
            }
        }
        assert!(overlaps > 100);
    }

    #[test]
    fn who_is_frozen_sleeps_longer_than_its_lease() {
        for seed in 0..100 {
            for planned in draw(seed, &terms(60, 3)) {
                if planned.fault.kind() == FaultKind::Freeze {
                    assert!(planned.lasting > LEASE);
                }
            }
        }
    }

    #[test]
    fn what_is_slow_comes_after_the_lease_but_before_clients_give_up() {
        for seed in 0..100 {
            for planned in draw(seed, &terms(60, 3)) {
                if let Fault::Slow { late, .. } = planned.fault {
                    assert!(late > LEASE && late < Duration::from_secs(3));
                    assert!(planned.lasting > late);
                }
            }
        }
    }

    #[test]
    fn an_owner_is_cut_off_from_the_store_for_longer_than_its_lease() {
        for seed in 0..100 {
            let plan = draw(seed, &terms(60, 3));
            assert!(plan.iter().any(|planned| {
                let cut = Fault::Partition {
                    node: planned.fault.node().unwrap_or_default(),
                    from: Cut::Engine,
                };
                planned.fault == cut && planned.lasting > LEASE
            }));
        }
    }

    #[test]
    fn a_few_seconds_are_enough_for_some_faults() {
        let kinds = [FaultKind::Kill, FaultKind::Freeze];
        for seed in 0..100 {
            let terms = Terms {
                kinds: &kinds,
                ..terms(8, 2)
            };
            assert!(!draw(seed, &terms).is_empty());
            let nothing = Terms {
                kinds: &[],
                ..terms
            };
            assert_eq!(draw(seed, &nothing), []);
        }
    }

    #[test]
    fn faults_have_names() {
        for kind in FaultKind::ALL {
            assert_eq!(kind.name().parse::<FaultKind>().unwrap(), kind);
        }
        assert!("flood".parse::<FaultKind>().is_err());
    }
}
