//! Specifications of pure application code: given, when, then. No task, clock or disk runs.
//!
//! - [`spec`] decides commands on an entity's history;
//! - [`reactor`] shows the commands that follow from an event;
//! - [`saga`] plays a saga in virtual time;
//! - [`view`] folds events into rows in every order in which they may arrive.
//!
//! Everything passes through its stored form on the way, so that a field which does not survive
//! the log is found here. A specification that does not hold panics and says what it expected.

mod played;
mod reacted;
mod specified;
mod viewed;

use std::sync::Arc;

use everfold_engine::record::{Kind, Local, Portable};
use everfold_engine::{EntityKey, Offset, Record, Stamp, Text, Timestamp};
use serde_json::Value;

use crate::entity::Entity;
use crate::event::Event;
use crate::reactor::At;

pub use played::{SagaSpec, saga};
pub use reacted::{Issued, ReactorSpec, cancelled, commands, issued, reactor};
pub use specified::{Decided, Spec, spec};
pub use viewed::{ViewSpec, view};

/// The moment of specifications that name no other: 2000-01-01T00:00:00Z.
pub const MOMENT: Timestamp = Timestamp(946_684_800_000_000);

/// Where an event of an entity would stand as the entity's event number `version`.
#[track_caller]
pub fn at<E: Entity>(id: &str, version: u64, event: &E::Event) -> At {
    At::of(stored::<E>(id, version, MOMENT, event))
}

/// The record of an event, as the log would hold it.
#[track_caller]
fn stored<E: Entity>(id: &str, version: u64, moment: Timestamp, event: &E::Event) -> Arc<Record> {
    let mut payload = Vec::new();
    if let Err(error) = event.encode(&mut payload) {
        panic!("{} cannot be written as JSON: {error}", event.event_type());
    }
    let entity = EntityKey::new(Text::from_static(E::NAME), id);
    if let Err(error) = entity.check() {
        panic!("{error}");
    }
    let mut portable = Portable::new(entity, Text::from_static(event.event_type()));
    portable.schema_version = event.schema_version();
    portable.effective = moment;
    portable.labels = event
        .labels()
        .into_iter()
        .map(|(name, value)| (Text::from_static(name), value.into()))
        .collect();
    portable.payload = payload.into();
    let local = Local {
        offset: Offset(version),
        version,
        epoch: 1,
        batch: version,
        stamp: Stamp::next(Stamp::default(), moment, Default::default()),
        reply: None,
        link: Default::default(),
    };
    Arc::new(Record {
        kind: Kind::Event,
        portable,
        local,
    })
}

/// What comes back when an event is stored and read again.
#[track_caller]
fn through_the_log<V: Event>(event: &V) -> V {
    let mut payload = Vec::new();
    if let Err(error) = event.encode(&mut payload) {
        panic!("{} cannot be written as JSON: {error}", event.event_type());
    }
    match V::decode(event.event_type(), event.schema_version(), &payload) {
        Ok(event) => event,
        Err(error) => {
            panic!(
                "an event cannot be read back: {error}; written as {}",
                lossy(&payload)
            )
        }
    }
}

/// JSON as an answer to a caller would carry it.
#[track_caller]
fn json(value: &impl serde::Serialize) -> Value {
    match serde_json::to_value(value) {
        Ok(value) => value,
        Err(error) => panic!("a value cannot be written as JSON: {error}"),
    }
}

fn lossy(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
