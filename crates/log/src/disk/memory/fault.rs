//! What a [`MemoryDisk`](super::MemoryDisk) does wrong, and when.

use std::collections::BTreeMap;
use std::fmt;

/// A call of a disk or a file that may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Writing a file.
    Write,
    /// Flushing a file.
    Sync,
    /// Flushing the directory.
    SyncDirectory,
    /// Opening a file.
    Open,
    /// Listing the directory.
    List,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Cutting or lengthening a file.
    SetLength,
    /// Reading a file.
    Read,
}

/// One way in which a disk goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A write fails and nothing of it lands.
    FailedWrite,
    /// A write fails after some of its sectors landed.
    ShortWrite,
    /// A write that needs more room finds none.
    Full,
    /// A flush fails. What it should have flushed may be lost whatever later flushes say, as after
    /// a failed fsync(2); until then it is read back as if it were there.
    FailedSync,
    /// A flush does nothing and says that it did.
    LyingSync,
    /// A flush of the directory fails.
    FailedDirectorySync,
    /// A file is not opened.
    FailedOpen,
    /// The directory is not listed.
    FailedList,
    /// A file is not renamed.
    FailedRename,
    /// A file is not removed.
    FailedRemove,
    /// A file is not cut or lengthened.
    FailedSetLength,
    /// A read fails once.
    FailedRead,
    /// A read ends early once: `UnexpectedEof` after half of the bytes.
    ShortRead,
    /// A read succeeds with one wrong bit, once; what lies on the disk is right.
    FlippedRead,
    /// One bit of what lies on the disk changes: [`flip`](super::MemoryDisk::flip).
    FlippedAtRest,
    /// The machine dies during a call: [`die_after`](super::MemoryDisk::die_after).
    PowerCut,
    /// A crash takes a write that was not flushed.
    LostWrite,
    /// A crash keeps some sectors of a write and takes others.
    TornWrite,
    /// A crash keeps a sector that was written after one that it takes.
    ReorderedWrite,
    /// A crash tears a block that held flushed bytes and was written again behind them.
    TornRewrite,
    /// A crash takes the changes of the directory since it was flushed.
    LostName,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::FailedWrite,
        Self::ShortWrite,
        Self::Full,
        Self::FailedSync,
        Self::LyingSync,
        Self::FailedDirectorySync,
        Self::FailedOpen,
        Self::FailedList,
        Self::FailedRename,
        Self::FailedRemove,
        Self::FailedSetLength,
        Self::FailedRead,
        Self::ShortRead,
        Self::FlippedRead,
        Self::FlippedAtRest,
        Self::PowerCut,
        Self::LostWrite,
        Self::TornWrite,
        Self::ReorderedWrite,
        Self::TornRewrite,
        Self::LostName,
    ];

    /// The call that it happens to; `None` for what a plan does not bring about.
    pub fn call(self) -> Option<Call> {
        match self {
            Self::FailedWrite | Self::ShortWrite | Self::Full => Some(Call::Write),
            Self::FailedSync | Self::LyingSync => Some(Call::Sync),
            Self::FailedDirectorySync => Some(Call::SyncDirectory),
            Self::FailedOpen => Some(Call::Open),
            Self::FailedList => Some(Call::List),
            Self::FailedRename => Some(Call::Rename),
            Self::FailedRemove => Some(Call::Remove),
            Self::FailedSetLength => Some(Call::SetLength),
            Self::FailedRead | Self::ShortRead | Self::FlippedRead => Some(Call::Read),
            _ => None,
        }
    }
}

/// Which calls of a [`MemoryDisk`](super::MemoryDisk) go wrong, each fault once.
///
/// ```
/// use everfold_log::disk::{Access, Disk, Fault, FaultPlan, MemoryDisk};
/// let disk = MemoryDisk::new();
/// disk.set_plan(FaultPlan::new(7).at(Fault::FailedSync, 2));
/// let file = disk.open("a", Access::Store)?;
/// file.write_at(0, b"text")?;
/// assert!(file.sync().is_ok() && file.sync().is_err() && file.sync().is_ok());
/// assert_eq!(disk.tally().fired(Fault::FailedSync), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    pub(super) seed: u64,
    pub(super) planned: Vec<(Fault, u64)>,
    only: Vec<(Fault, &'static str)>,
}

impl FaultPlan {
    /// Nothing goes wrong; `seed` picks which bits and how many sectors when something does.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// A fault at the `nth` call of its kind, counted from 1 when the plan is given to a disk, or
    /// at the first one after that it can happen to.
    ///
    /// # Panics
    /// If no call brings the fault about.
    #[must_use]
    pub fn at(mut self, fault: Fault, nth: u64) -> Self {
        assert!(fault.call().is_some(), "{fault:?} happens to no call");
        self.planned.push((fault, nth));
        self
    }

    /// The fault happens only to files whose names end so.
    #[must_use]
    pub fn only(mut self, fault: Fault, suffix: &'static str) -> Self {
        self.only.push((fault, suffix));
        self
    }

    /// As many faults of these kinds as `count`, each at a random call up to the `within`th.
    ///
    /// # Panics
    /// If no call brings one of them about.
    #[must_use]
    pub fn drawn(mut self, faults: &[Fault], count: usize, within: u64) -> Self {
        let mut random = self.seed;
        for _ in 0..count {
            let fault = faults[super::split_mix(&mut random) as usize % faults.len()];
            let nth = super::split_mix(&mut random) % within.max(1) + 1;
            self = self.at(fault, nth);
        }
        self
    }

    /// Takes out the fault that is due at this call, if any.
    pub(super) fn due(
        &mut self,
        call: Call,
        count: u64,
        name: &str,
        may: impl Fn(Fault) -> bool,
    ) -> Option<Fault> {
        let at = self.planned.iter().position(|(fault, nth)| {
            let mut only = self.only.iter().filter(|(limited, _)| limited == fault);
            fault.call() == Some(call)
                && *nth <= count
                && only.all(|(_, suffix)| name.ends_with(suffix))
                && may(*fault)
        })?;
        Some(self.planned.swap_remove(at).0)
    }
}

/// How often each fault was planned and how often it happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<Fault, (u64, u64)>,
}

impl Tally {
    /// How often it was asked for; for what a crash does by itself, how often it happened.
    pub fn planned(&self, fault: Fault) -> u64 {
        self.counts.get(&fault).map_or(0, |counts| counts.0)
    }

    /// How often it happened.
    pub fn fired(&self, fault: Fault) -> u64 {
        self.counts.get(&fault).map_or(0, |counts| counts.1)
    }

    /// How often anything happened.
    pub fn total(&self) -> u64 {
        self.counts.values().map(|counts| counts.1).sum()
    }

    /// Adds the counts of another disk.
    pub fn add(&mut self, other: &Self) {
        for (fault, (planned, fired)) in &other.counts {
            let counts = self.counts.entry(*fault).or_default();
            *counts = (counts.0 + planned, counts.1 + fired);
        }
    }

    pub(super) fn plan(&mut self, fault: Fault) {
        self.counts.entry(fault).or_default().0 += 1;
    }

    pub(super) fn fire(&mut self, fault: Fault) {
        self.counts.entry(fault).or_default().1 += 1;
    }

    /// Something that nobody planned for this moment happened.
    pub(super) fn happen(&mut self, fault: Fault) {
        self.plan(fault);
        self.fire(fault);
    }
}

/// A table: kind, times planned, times fired.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<20} {:>10} {:>10}", "fault", "planned", "fired")?;
        Fault::ALL.iter().try_for_each(|fault| {
            let (planned, fired) = (self.planned(*fault), self.fired(*fault));
            let name = format!("{fault:?}");
            write!(f, "\n{name:<20} {planned:>10} {fired:>10}")
        })
    }
}
