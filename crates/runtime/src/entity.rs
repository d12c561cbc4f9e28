//! Entities and commands as applications write them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::decision::{Context, Decision};
use crate::event::Event;
use crate::key::Key;
use crate::remote::Accepting;

/// Something with an identity whose state is the fold of its events; derive it on the state.
///
/// The state before the first event is `Default`.
pub trait Entity: Default + std::marker::Send + 'static {
    /// The entity's type in streams and records; holds no `-`.
    const NAME: &'static str;

    /// Names and types of the state's fields: a snapshot of another shape is discarded.
    const SHAPE: &'static str;

    /// Whether an entity that was in memory is brought back there by whoever owns it next, before it
    /// is asked for: `#[entity(.., remembered)]`. One that had left memory is not.
    const REMEMBERED: bool = false;

    /// Identifies one entity.
    type Id: Key;

    /// What can happen to it.
    type Event: Event;

    /// The commands that other nodes may send; derived from `#[entity(commands(...))]`.
    fn accepts(accepting: &mut Accepting<Self>) {
        let _ = accepting;
    }

    /// Appends the state to `out` as JSON, for snapshots and inspection.
    ///
    /// # Errors
    /// [`serde_json::Error`] if a field cannot be written as JSON.
    fn encode_state(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error>;

    /// Reads a state that [`Entity::encode_state`] wrote.
    ///
    /// # Errors
    /// [`serde_json::Error`] if it is not of this shape.
    fn decode_state(bytes: &[u8]) -> Result<Self, serde_json::Error>;
}

/// How an event changes an entity. Pure: no I/O, no clock, no randomness, no failure.
pub trait Evolve: Entity {
    /// Folds one event into the state.
    fn evolve(&mut self, event: &Self::Event);
}

/// A request that an entity may accept or reject; derive it on a struct.
pub trait Command: Sized + std::marker::Send + 'static {
    /// The command's name, for traces and digests.
    const NAME: &'static str;

    /// Appends the command to `out` as JSON.
    ///
    /// # Errors
    /// [`serde_json::Error`] if a field cannot be written as JSON.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error>;

    /// Reads what [`Command::encode`] wrote.
    ///
    /// # Errors
    /// [`serde_json::Error`] if it is no such command.
    fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error>;
}

/// How an entity decides a command. Pure, like [`Evolve`]; it may run more than once.
pub trait Decide<C: Command>: Evolve {
    /// The answer to an accepted command.
    type Reply: Serialize + DeserializeOwned + std::marker::Send + 'static;

    /// Why it was understood and refused.
    type Rejection: Serialize + DeserializeOwned + std::marker::Send + 'static;

    /// Decides `command` on the present state.
    fn decide(&self, command: &C, context: &Context) -> Decision<Self, C>;
}
