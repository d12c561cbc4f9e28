//! Linearizability of registers, one by one: whether the operations on each can be put into an order
//! that explains every answer and keeps what ended before something else began before it.
//!
//! The search follows the history from end to end and keeps all states that the register may be in
//! (Wing and Gong, with Lowe's states in place of orders). A state is the number that it holds,
//! which of the operations under way have taken effect, and how many of each sort of those whose
//! outcome is unknown. Of two states that differ only in the latter the one that has used less can do
//! whatever the other can, so the other is dropped: that keeps the search small where many outcomes
//! are unknown, which otherwise would double it each.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Violation, ViolationKind};
use crate::chaos::history::{Operation, Outcome};

/// How many states may be made for one key before the search is given up.
pub const BUDGET: u64 = 5_000_000;

/// What an operation does to a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    Read(Option<i64>),
    Write(i64),
    Swap(i64, i64),
}

impl Effect {
    /// What the register holds afterwards; nothing if the operation cannot stand here.
    fn on(self, held: Option<i64>) -> Option<Option<i64>> {
        match self {
            Self::Read(seen) => (seen == held).then_some(held),
            Self::Write(value) => Some(Some(value)),
            Self::Swap(from, to) => (held == Some(from)).then_some(Some(to)),
        }
    }

    /// What a line says; nothing for an operation without effect.
    fn of(operation: &Operation) -> Result<Option<Self>, String> {
        let number = |value: &Value| {
            let strange = || format!("{value} is no number: {}", operation.shown());
            value.as_i64().ok_or_else(strange)
        };
        match (&*operation.f, &operation.outcome) {
            (_, Outcome::Refused) | ("read", Outcome::Unknown) => Ok(None),
            ("read", Outcome::Done(Value::Null)) => Ok(Some(Self::Read(None))),
            ("read", Outcome::Done(value)) => Ok(Some(Self::Read(Some(number(value)?)))),
            ("write", _) => Ok(Some(Self::Write(number(&operation.asked)?))),
            ("cas", _) => match operation.asked.as_array().map(Vec::as_slice) {
                Some([from, to]) => Ok(Some(Self::Swap(number(from)?, number(to)?))),
                _ => Err(format!("not two numbers: {}", operation.shown())),
            },
            (other, _) => Err(format!("{other:?} is nothing that a register does")),
        }
    }
}

/// A state that the register may be in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    held: Option<i64>,
    /// Of the operations under way, those that have taken effect, ascending.
    done: Vec<usize>,
}

/// How many operations of unknown outcome have taken effect, by sort.
type Used = Vec<u16>;

/// Judges all keys.
pub fn check(operations: &[Operation]) -> Vec<Violation> {
    check_within(operations, BUDGET)
}

/// The same with another limit on the search for each key.
pub fn check_within(operations: &[Operation], budget: u64) -> Vec<Violation> {
    let mut by_key: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        by_key.entry(&operation.key).or_default().push(operation);
    }
    let judged = by_key.into_iter().filter_map(|(key, operations)| {
        let found = Search::of(&operations, budget).map(Search::run);
        match found {
            Ok(Ok(())) => None,
            Ok(Err(Stopped::NoOrder(what))) => {
                Some(Violation::new(ViolationKind::NotLinearizable, key, what))
            }
            Ok(Err(Stopped::Budget(what))) => {
                Some(Violation::new(ViolationKind::Undecided, key, what))
            }
            Err(what) => Some(Violation::new(ViolationKind::Unreadable, key, what)),
        }
    });
    judged.collect()
}

enum Stopped {
    NoOrder(String),
    Budget(String),
}

enum Step {
    Begin(usize),
    End(usize),
}

struct Search<'a> {
    operations: Vec<(&'a Operation, Effect)>,
    /// Beginnings and ends, in the order in which they happened.
    steps: Vec<Step>,
    /// Sorts of operations whose outcome is unknown, and how many of each have begun.
    unknown: BTreeMap<Effect, (usize, u16)>,
    sorts: Vec<Effect>,
    under_way: BTreeSet<usize>,
    states: BTreeMap<State, Vec<Used>>,
    left: u64,
    budget: u64,
}

impl<'a> Search<'a> {
    fn of(all: &[&'a Operation], budget: u64) -> Result<Self, String> {
        let mut operations = Vec::new();
        let mut steps = Vec::new();
        let mut sorts = BTreeSet::new();
        for operation in all {
            let Some(effect) = Effect::of(operation)? else {
                continue;
            };
            let index = operations.len();
            steps.push((operation.begun, Step::Begin(index)));
            match operation.ended {
                Some(ended) => steps.push((ended, Step::End(index))),
                None => drop(sorts.insert(effect)),
            }
            operations.push((*operation, effect));
        }
        steps.sort_by_key(|(place, _)| *place);
        let sorts: Vec<Effect> = sorts.into_iter().collect();
        let numbered = sorts.iter().enumerate();
        let unknown = numbered.map(|(number, sort)| (*sort, (number, 0)));
        let start = State {
            held: None,
            done: Vec::new(),
        };
        Ok(Self {
            operations,
            steps: steps.into_iter().map(|(_, step)| step).collect(),
            unknown: unknown.collect(),
            states: BTreeMap::from([(start, vec![vec![0; sorts.len()]])]),
            sorts,
            under_way: BTreeSet::new(),
            left: budget,
            budget,
        })
    }

    fn run(mut self) -> Result<(), Stopped> {
        let steps = std::mem::take(&mut self.steps);
        for step in steps {
            match step {
                Step::Begin(index) => {
                    let (operation, effect) = self.operations[index];
                    if operation.ended.is_some() {
                        self.under_way.insert(index);
                    } else if let Some((_, begun)) = self.unknown.get_mut(&effect) {
                        *begun += 1;
                    }
                }
                Step::End(index) => self.end(index)?,
            }
        }
        Ok(())
    }

    /// Keeps the states in which an operation has taken effect by now, however it came to that.
    fn end(&mut self, index: usize) -> Result<(), Stopped> {
        let before = std::mem::take(&mut self.states);
        let mut after: BTreeMap<State, Vec<Used>> = BTreeMap::new();
        let mut seen: BTreeMap<State, Vec<Used>> = BTreeMap::new();
        let mut waiting: Vec<(State, Used)> = Vec::new();
        for (state, used) in &before {
            waiting.extend(used.iter().map(|used| (state.clone(), used.clone())));
        }
        while let Some((state, used)) = waiting.pop() {
            if self.left == 0 {
                return Err(Stopped::Budget(self.gave_up(index)));
            }
            self.left -= 1;
            if !keep(seen.entry(state.clone()).or_default(), &used) {
                continue;
            }
            if let Ok(place) = state.done.binary_search(&index) {
                let mut state = state;
                state.done.remove(place);
                keep(after.entry(state).or_default(), &used);
                // What else may happen may as well happen after the end.
                continue;
            }
            for next in &self.under_way {
                let Err(place) = state.done.binary_search(next) else {
                    continue;
                };
                if let Some(held) = self.operations[*next].1.on(state.held) {
                    let mut done = state.done.clone();
                    done.insert(place, *next);
                    waiting.push((State { held, done }, used.clone()));
                }
            }
            for sort in &self.sorts {
                let (number, begun) = self.unknown[sort];
                // What changes nothing can be left for later.
                let held = sort.on(state.held).filter(|held| *held != state.held);
                if let Some(held) = held
                    && used[number] < begun
                {
                    let mut used = used.clone();
                    used[number] += 1;
                    let done = state.done.clone();
                    waiting.push((State { held, done }, used));
                }
            }
        }
        self.under_way.remove(&index);
        if after.is_empty() {
            return Err(Stopped::NoOrder(self.contradiction(index, &before)));
        }
        self.states = after;
        Ok(())
    }

    fn contradiction(&self, index: usize, before: &BTreeMap<State, Vec<Used>>) -> String {
        let (operation, _) = self.operations[index];
        let held: BTreeSet<String> = before
            .keys()
            .map(|state| match state.held {
                Some(value) => value.to_string(),
                None => "nothing".to_owned(),
            })
            .collect();
        let held: Vec<String> = held.into_iter().collect();
        let beside = self.under_way.iter().filter(|other| **other != index);
        let beside: Vec<String> = beside
            .map(|other| self.operations[*other].0.shown())
            .collect();
        let beside = match beside.is_empty() {
            true => "nothing was under way beside it".to_owned(),
            false => format!("under way beside it: {}", beside.join("; ")),
        };
        format!(
            "{} fits nowhere; before it ended the register could hold {}; {beside}",
            operation.shown(),
            held.join(" or "),
        )
    }

    fn gave_up(&self, index: usize) -> String {
        format!(
            "the search was given up after {} states, at {}: it is not known whether an order exists",
            self.budget,
            self.operations[index].0.shown()
        )
    }
}

/// Notes what was used to come to a state, unless it is known how to come there with less.
fn keep(known: &mut Vec<Used>, used: &Used) -> bool {
    let less = |one: &Used, other: &Used| one.iter().zip(other).all(|(one, other)| one <= other);
    if known.iter().any(|known| less(known, used)) {
        return false;
    }
    known.retain(|known| !less(used, known));
    known.push(used.clone());
    true
}

#[cfg(test)]
mod tests;
