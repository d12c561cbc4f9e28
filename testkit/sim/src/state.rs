//! What is there, what is ready, and the choice of what goes next.

use std::collections::BTreeMap;
use std::fmt::Arguments;
use std::task::Waker;
use std::time::Duration;

use everfold_engine::Timestamp;
use everfold_engine::engine::BoxFuture;
use everfold_engine::world::Machine;

use crate::random::Random;
use crate::trace::{Ran, Trace};

/// Something that can be run.
pub(crate) enum Work {
    /// Until it is done, one poll at a time.
    Task(BoxFuture<'static, ()>),
    /// Once.
    Job(Box<dyn FnOnce() + Send>),
    /// Until it is finished, one step at a time.
    Machine(Box<dyn Machine>),
    /// The future that the caller of the simulation waits for; the caller holds it.
    Main,
}

impl Work {
    fn label(&self) -> &'static str {
        match self {
            Self::Task(_) => "task",
            Self::Job(_) => "job",
            Self::Machine(_) => "machine",
            Self::Main => "main",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Resting,
    Ready,
    Running,
}

struct Item {
    process: usize,
    name: &'static str,
    label: &'static str,
    phase: Phase,
    /// Woken since it last went to rest. For a machine this is what a parked thread's token is: it
    /// outlives busy steps and is used up by resting.
    woken: bool,
    /// Away while it runs.
    work: Option<Work>,
}

struct Group {
    name: String,
    alive: bool,
    frozen: bool,
    /// Ready items of a frozen process.
    held: Vec<u64>,
    clock: i64,
}

/// What an item wants after it ran.
pub(crate) enum After {
    /// To run again when woken.
    Rest,
    /// To run again.
    Again,
    /// Nothing more.
    Done,
}

/// What to do next.
pub(crate) enum Next {
    /// Run this.
    Run(u64, Work),
    /// Wake these, the clock has moved.
    Wake(Vec<Waker>),
    /// Nothing can proceed up to the horizon.
    Nothing,
}

pub(crate) struct State {
    pub(crate) now: Duration,
    pub(crate) steps: u64,
    pub(crate) values: Random,
    pub(crate) timers: BTreeMap<(Duration, u64), Waker>,
    pub(crate) trace: Trace,
    /// How often the code came to a named place.
    pub(crate) reached: BTreeMap<&'static str, u64>,
    start: Timestamp,
    tick: Duration,
    order: Random,
    numbers: u64,
    items: BTreeMap<u64, Item>,
    /// Ascending, so that the choice does not depend on the order in which items were woken: tokio's
    /// `watch` wakes its receivers in an order that no seed governs.
    ready: Vec<u64>,
    groups: Vec<Group>,
}

impl State {
    pub(crate) fn new(seed: u64, start: Timestamp, tick: Duration, trace: usize) -> Self {
        let mut root = Random::new(seed);
        Self {
            now: Duration::ZERO,
            steps: 0,
            // Apart, so that a further draw by the code under test does not change the schedule.
            order: root.fork(),
            values: root.fork(),
            timers: BTreeMap::new(),
            trace: Trace::new(trace),
            reached: BTreeMap::new(),
            start,
            tick,
            numbers: 0,
            items: BTreeMap::new(),
            ready: Vec::new(),
            groups: Vec::new(),
        }
    }

    /// A number that nothing else has.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn note(&mut self, what: Arguments<'_>) {
        self.trace.add(self.steps, self.now, what);
    }

    /// Adds an item, ready; gives the work back if its process is dead.
    pub(crate) fn start(
        &mut self,
        process: usize,
        name: &'static str,
        work: Work,
    ) -> (u64, Option<Work>) {
        let number = self.number();
        if !self.groups[process].alive {
            return (number, Some(work));
        }
        let item = Item {
            process,
            name,
            label: work.label(),
            phase: Phase::Ready,
            woken: false,
            work: Some(work),
        };
        self.items.insert(number, item);
        self.make_ready(number);
        (number, None)
    }

    pub(crate) fn wake(&mut self, number: u64) {
        let Some(item) = self.items.get_mut(&number) else {
            return;
        };
        if item.phase == Phase::Resting {
            item.phase = Phase::Ready;
            self.make_ready(number);
        } else {
            item.woken = true;
        }
    }

    fn make_ready(&mut self, number: u64) {
        if let Err(place) = self.ready.binary_search(&number) {
            self.ready.insert(place, number);
        }
    }

    /// Chooses. Timers beyond the horizon stay.
    pub(crate) fn next(&mut self, horizon: Duration) -> Next {
        loop {
            let due = self.due();
            if !due.is_empty() {
                return Next::Wake(due);
            }
            if self.ready.is_empty() {
                match self.timers.first_key_value() {
                    Some((&(deadline, _), _)) if deadline <= horizon => {
                        self.now = deadline;
                        self.note(format_args!("time"));
                        continue;
                    }
                    _ => return Next::Nothing,
                }
            }
            let index = self.order.index(self.ready.len());
            let number = self.ready.remove(index);
            let Some(item) = self.items.get_mut(&number) else {
                continue;
            };
            let group = &mut self.groups[item.process];
            if group.frozen {
                group.held.push(number);
                continue;
            }
            let Some(work) = item.work.take() else {
                continue;
            };
            item.phase = Phase::Running;
            // A poll sees everything that happened before it; only machines keep the token.
            item.woken &= matches!(work, Work::Machine(_));
            self.steps += 1;
            self.now += self.tick;
            let ran = Ran {
                label: item.label,
                name: item.name,
                number,
                process: &group.name,
            };
            self.trace.step(self.steps, self.now, ran);
            return Next::Run(number, work);
        }
    }

    fn due(&mut self) -> Vec<Waker> {
        let mut due = Vec::new();
        while let Some(first) = self.timers.first_entry() {
            if first.key().0 > self.now {
                break;
            }
            due.push(first.remove());
        }
        due
    }

    /// Takes work back after it ran; what is returned is to be dropped by the caller.
    #[must_use]
    pub(crate) fn ran(&mut self, number: u64, work: Option<Work>, after: After) -> Option<Work> {
        let Some(item) = self.items.get_mut(&number) else {
            return work;
        };
        match after {
            After::Done => {
                self.items.remove(&number);
                return work;
            }
            After::Rest if !item.woken => item.phase = Phase::Resting,
            After::Rest => {
                item.woken = false;
                item.phase = Phase::Ready;
            }
            After::Again => item.phase = Phase::Ready,
        }
        item.work = work;
        if item.phase == Phase::Ready {
            self.make_ready(number);
        }
        None
    }

    /// Removes an item, whatever its phase.
    #[must_use]
    pub(crate) fn remove(&mut self, number: u64) -> Option<Work> {
        self.ready.retain(|ready| *ready != number);
        self.items.remove(&number)?.work
    }

    /// Names of what is there but cannot proceed.
    pub(crate) fn resting(&self) -> Vec<String> {
        let name = |item: &Item| {
            let group = &self.groups[item.process];
            let frozen = if group.frozen { " (frozen)" } else { "" };
            format!("{} {} of {}{frozen}", item.label, item.name, group.name)
        };
        self.items.values().map(name).collect()
    }

    pub(crate) fn join(&mut self, name: &str) -> usize {
        self.groups.push(Group {
            name: name.to_owned(),
            alive: true,
            frozen: false,
            held: Vec::new(),
            clock: 0,
        });
        self.groups.len() - 1
    }

    fn note_process(&mut self, what: &str, process: usize) {
        let name = &self.groups[process].name;
        self.trace
            .add(self.steps, self.now, format_args!("{what} {name}"));
    }

    #[must_use]
    pub(crate) fn kill(&mut self, process: usize) -> Vec<Work> {
        self.note_process("kill", process);
        self.groups[process].alive = false;
        self.groups[process].held.clear();
        let doomed: Vec<u64> = self
            .items
            .iter()
            .filter(|(_, item)| item.process == process && item.label != "main")
            .map(|(number, _)| *number)
            .collect();
        self.ready
            .retain(|number| doomed.binary_search(number).is_err());
        let removed = doomed
            .iter()
            .filter_map(|number| self.items.remove(number)?.work);
        removed.collect()
    }

    #[must_use]
    pub(crate) fn kill_all(&mut self) -> Vec<Work> {
        (0..self.groups.len())
            .flat_map(|process| self.kill(process))
            .collect()
    }

    pub(crate) fn freeze(&mut self, process: usize) {
        self.note_process("freeze", process);
        self.groups[process].frozen = true;
    }

    pub(crate) fn thaw(&mut self, process: usize) {
        self.note_process("thaw", process);
        let group = &mut self.groups[process];
        group.frozen = false;
        for number in std::mem::take(&mut group.held) {
            self.make_ready(number);
        }
    }

    pub(crate) fn step_clock(&mut self, process: usize, micros: i64) {
        self.note_process("clock", process);
        self.groups[process].clock += micros;
    }

    pub(crate) fn civil(&self, process: usize) -> Timestamp {
        let passed = self.now.as_micros() as i64;
        Timestamp(self.start.0 + passed + self.groups[process].clock)
    }
}
