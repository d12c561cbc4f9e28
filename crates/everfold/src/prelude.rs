//! What nearly every application needs: `use everfold::prelude::*;`.

#[doc(no_inline)]
pub use crate::{
    Application, At, Command, Context, Decide, Decision, Entity, Event, Evolve, Key, Never,
    Reaction, Reactor, Saga, Statement, Step, View, again, ask, ask_together, beside, cancel,
    command, done, emit, fail, help, nothing, reject, reply,
};

/// For `application.open("./data")`; without the name, which applications may want for a command.
#[doc(no_inline)]
pub use crate::Open as _;
