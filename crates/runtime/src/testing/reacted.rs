//! Which commands follow from an event.

use std::any::TypeId;
use std::time::Duration;

use everfold_engine::{EntityKey, Text};
use serde_json::Value;

use super::{MOMENT, stored};
use crate::entity::{Command, Entity};
use crate::handler::Delivered;
use crate::reactor::{Cancelled, Outgoing, Reaction, Reactor};

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
    /// The commands that follow from an event of the entity `E` with this id, in order; those of
    /// timers last.
    #[track_caller]
    pub fn on<E: Entity>(&self, id: &str, event: E::Event) -> Vec<Issued> {
        commands(self.reaction::<E>(id, event))
    }

    /// The names of the timers that an event of the entity `E` with this id cancels.
    #[track_caller]
    pub fn cancelled_on<E: Entity>(&self, id: &str, event: E::Event) -> Vec<String> {
        cancelled(self.reaction::<E>(id, event))
    }

    #[track_caller]
    fn reaction<E: Entity>(&self, id: &str, event: E::Event) -> Reaction {
        let delivered = Delivered::new(stored::<E>(id, 1, MOMENT, &event));
        let mut listens = false;
        let mut all = Reaction::default();
        for subscription in &self.reactor.subscriptions {
            if subscription.event != TypeId::of::<E::Event>() {
                continue;
            }
            listens = true;
            match (subscription.react)(&delivered) {
                Ok(reaction) => all = all.then(reaction),
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
    /// The name of the timer that sends it, and how long after the event; at once if none.
    pub timer: Option<(String, Duration)>,
}

impl Issued {
    /// The same by a timer.
    #[must_use]
    pub fn after(mut self, name: &str, delay: Duration) -> Self {
        self.timer = Some((name.to_owned(), delay));
        self
    }
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
        timer: None,
    }
}

/// The commands of a reaction, those of timers last: of what follows from a rejection, for instance.
pub fn commands(reaction: impl Into<Reaction>) -> Vec<Issued> {
    let reaction = reaction.into();
    let at_once = reaction.outgoing.iter().map(|one| shown(&**one, None));
    let later = reaction.timers.iter().flat_map(|timer| {
        let when = (timer.name.to_string(), timer.after);
        let outgoing = timer.outgoing.iter();
        outgoing.map(move |one| shown(&**one, Some(when.clone())))
    });
    at_once.chain(later).collect()
}

fn shown(outgoing: &dyn Outgoing, timer: Option<(String, Duration)>) -> Issued {
    let (command, entity, json) = outgoing.inspect();
    Issued {
        command,
        entity,
        json,
        timer,
    }
}

/// The names of the timers that a reaction cancels.
pub fn cancelled(reaction: impl Into<Reaction>) -> Vec<String> {
    let names = reaction.into().cancelled.into_iter();
    let name = |cancelled| match cancelled {
        Cancelled::Named(name) => name.to_string(),
        Cancelled::All => "*".to_owned(),
    };
    names.map(name).collect()
}
