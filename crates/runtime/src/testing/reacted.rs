//! Which commands follow from an event.

use std::any::TypeId;

use everfold_engine::{EntityKey, Text};
use serde_json::Value;

use super::{MOMENT, stored};
use crate::entity::{Command, Entity};
use crate::handler::Delivered;
use crate::reactor::{Reaction, Reactor};

/// Starts a specification of a reactor.
///
/// ```text
/// assert_eq!(
///     reactor(&release_credit()).on::<Order>("o-1", paid(20)),
///     [issued::<Customer>("c-1", ReleaseCredit { order: "o-1".into() })],
/// );
/// ```
pub fn reactor(reactor: &Reactor) -> ReactorSpec<'_> {
    ReactorSpec { reactor }
}

/// A reactor under specification.
pub struct ReactorSpec<'a> {
    reactor: &'a Reactor,
}

impl ReactorSpec<'_> {
    /// The commands that follow from an event of the entity `E` with this id, in order.
    #[track_caller]
    pub fn on<E: Entity>(&self, id: &str, event: E::Event) -> Vec<Issued> {
        let delivered = Delivered::new(stored::<E>(id, 1, MOMENT, &event));
        let mut listens = false;
        let mut all = Vec::new();
        for subscription in &self.reactor.subscriptions {
            if subscription.event != TypeId::of::<E::Event>() {
                continue;
            }
            listens = true;
            match (subscription.react)(&delivered) {
                Ok(reaction) => all.extend(commands(reaction)),
                Err(error) => panic!("an event cannot be read back: {error}"),
            }
        }
        let (name, event) = (&self.reactor.name, std::any::type_name::<E::Event>());
        assert!(
            listens,
            "reactor {name:?} does not listen to {event}: add `.on(...)`"
        );
        all
    }
}

/// A command on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Issued {
    /// The command's name.
    pub command: String,
    /// Who should decide it.
    pub entity: EntityKey,
    /// The command as it is sent.
    pub json: Value,
}

/// The command that a specification expects to be sent to the entity `E` with this id.
#[track_caller]
pub fn issued<E: Entity>(id: &str, command: impl Command) -> Issued {
    name_and_json(EntityKey::new(Text::from_static(E::NAME), id), &command)
}

fn name_and_json<C: Command>(entity: EntityKey, command: &C) -> Issued {
    let mut bytes = Vec::new();
    let json = match command
        .encode(&mut bytes)
        .and_then(|()| serde_json::from_slice(&bytes))
    {
        Ok(json) => json,
        Err(error) => panic!("{} cannot be written as JSON: {error}", C::NAME),
    };
    Issued {
        command: C::NAME.to_owned(),
        entity,
        json,
    }
}

/// The commands of a reaction: of what follows from a rejection, for instance.
pub fn commands(reaction: impl Into<Reaction>) -> Vec<Issued> {
    let issued = |(command, entity, json)| Issued {
        command,
        entity,
        json,
    };
    reaction
        .into()
        .outgoing
        .iter()
        .map(|one| issued(one.inspect()))
        .collect()
}
