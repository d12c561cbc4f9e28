//! Registers that hold one number each: read, written, and written on a condition.
//!
//! The smallest entity that shows whether many nodes behave like one: whoever reads has to see the
//! newest number, and of two who set it on the same condition one has to fail. `everfold chaos`
//! uses it for that.

use everfold::prelude::*;
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// The application, ready to be opened.
pub fn application() -> Application {
    Application::new("register").entity::<Register>()
}

/// Identifies a register.
#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegisterId(String);

/// What can happen to a register.
#[derive(Event, Clone, Debug, PartialEq)]
pub enum RegisterEvent {
    /// It was given a number.
    Written {
        /// Which.
        value: i64,
    },
    /// It was given a number because it held another one.
    Swapped {
        /// The number that it held.
        from: i64,
        /// The number that it holds now.
        to: i64,
    },
}

/// One number, or none yet.
#[derive(Entity, Default)]
#[entity(
    name = "register",
    id = RegisterId,
    event = RegisterEvent,
    commands(Write, CompareAndSet)
)]
pub struct Register {
    value: Option<i64>,
}

impl Register {
    /// What it holds; none until it is first written.
    pub fn value(&self) -> Option<i64> {
        self.value
    }
}

impl Evolve for Register {
    fn evolve(&mut self, event: &RegisterEvent) {
        self.value = match event {
            RegisterEvent::Written { value } => Some(*value),
            RegisterEvent::Swapped { to, .. } => Some(*to),
        };
    }
}

/// Gives it a number, whatever it holds.
#[derive(Command, Clone, Copy, Debug, PartialEq)]
pub struct Write {
    /// The number.
    pub value: i64,
}

impl Decide<Write> for Register {
    type Reply = ();
    type Rejection = Never;

    /// Also the number that it holds is written again: every write is to be found in the log.
    fn decide(&self, command: &Write, _: &Context) -> Decision<Self, Write> {
        let value = command.value;
        emit(RegisterEvent::Written { value }).reply(())
    }
}

/// Gives it a number if it holds a certain other one.
#[derive(Command, Clone, Copy, Debug, PartialEq)]
pub struct CompareAndSet {
    /// What it has to hold.
    pub from: i64,
    /// What it is to hold then.
    pub to: i64,
}

/// Why a register keeps what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CompareRejection {
    /// It holds something else.
    #[error("the register holds {found:?}")]
    Differs {
        /// What it holds.
        found: Option<i64>,
    },
}

impl Decide<CompareAndSet> for Register {
    type Reply = ();
    type Rejection = CompareRejection;

    fn decide(&self, command: &CompareAndSet, _: &Context) -> Decision<Self, CompareAndSet> {
        let CompareAndSet { from, to } = *command;
        match self.value {
            Some(value) if value == from => emit(RegisterEvent::Swapped { from, to }).reply(()),
            found => reject(CompareRejection::Differs { found }),
        }
    }
}
