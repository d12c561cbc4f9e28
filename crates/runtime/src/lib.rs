//! Runs applications over an engine: owns partitions, decides commands on state in memory, appends
//! what was decided, and hands it to views and reactors.

// What derives write names this crate by its facade.
extern crate self as everfold;

mod adopt;
mod application;
mod boundary;
mod decision;
mod entity;
mod entity_ref;
mod error;
mod event;
mod handler;
mod inspector;
mod key;
mod node;
mod options;
mod owner;
mod query;
mod reactor;
mod remote;
mod saga;
mod schema;
mod sending;
mod stream;
pub mod testing;
mod timers;
mod together;
mod trim;
mod view;

pub use adopt::{AdoptError, AdoptReport, Adoption, FirstEvents, RowOutcome};
pub use application::{Application, StartError};
pub use boundary::{BoundaryRef, Condition, Label, Query, Selection};
pub use decision::{Context, Decision, Emit, Verdict, beside, emit, reject, reply};
pub use entity::{Command, Decide, Entity, Evolve};
pub use entity_ref::{Commanded, EntityRef};
pub use error::{CommandError, QueryError, SendError};
pub use event::{DecodeError, Event, EventSchema};
pub use handler::{HandlerStatus, Parked};
pub use inspector::Inspector;
pub use key::Key;
pub use node::Node;
pub use options::{NodeOptions, PartitionPolicy, SnapshotPolicy, StateOptions, StateStore};
pub use owner::{OwnerReport, Sent};
pub use query::{
    BadFilter, Entities, Field, Filter, Found, FoundRows, Holder, Named, One, Operand, Placed,
    RowsRef,
};
pub use reactor::{At, Outbound, Reaction, Reactor, cancel, command, nothing};
pub use remote::{Accepting, Client, Membership, PeerError, Peers};
pub use saga::{
    Acting, Asks, Json, LiveSaga, Next, Operation, Question, Saga, SagaData, SagaEnd, SagaEvent,
    SagaOutcome, SagaRef, SagaRejection, SagaStatus, Starting, Step, StepOutcome, StepStatus,
    TimerPurpose, TimerStatus, again, ask, ask_together, done, fail, help,
};
pub use sending::Sending;
pub use stream::{Append, Expected, NewEvent, StreamRef};
pub use timers::{DataClock, TimerClock};
pub use together::{Combined, DecideTogether, Joint, Members, States, TogetherRef};
pub use trim::TrimError;
pub use view::{Ask, IntoKeys, Positioned, Row, View, ViewRef};

pub use everfold_engine as engine;
pub use everfold_engine::engine::{Parameter, Statement};

/// What derived code refers to; no part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use serde;
    pub use serde_json;

    pub use crate::event::{decode_json, encode_json};
    pub use everfold_engine::Text;
}
