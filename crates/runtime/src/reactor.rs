//! Reactors: what should follow from events, as values.

use std::any::TypeId;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use everfold_engine::engine::BoxFuture;
use everfold_engine::{EntityKey, Record, Text, Timestamp, Uuid};

use crate::entity::{Command, Decide};
use crate::error::{CommandError, SendError};
use crate::event::{DecodeError, Event};
use crate::handler::Delivered;
use crate::key::Key;
use crate::owner::{Envelope, Router};

/// Where an event stands: its entity, its moments, its ids.
#[derive(Clone, Debug)]
pub struct At {
    record: Arc<Record>,
}

impl At {
    pub(crate) fn of(record: Arc<Record>) -> Self {
        Self { record }
    }

    /// The id of the entity that the event belongs to.
    pub fn entity_id<K: Key>(&self) -> K {
        K::from_text(&self.record.portable.entity.id)
    }

    /// The entity's version after the event, from 1.
    pub fn version(&self) -> u64 {
        self.record.local.version
    }

    /// Business time.
    pub fn effective(&self) -> Timestamp {
        self.record.portable.effective
    }

    /// When it was recorded here, to the millisecond.
    pub fn recorded(&self) -> Timestamp {
        self.record.recorded()
    }

    /// Who asked for it; empty if nobody said.
    pub fn principal(&self) -> &str {
        &self.record.portable.principal
    }

    /// The event's id.
    pub fn event_id(&self) -> Uuid {
        self.record.portable.event_id
    }

    /// The whole record.
    pub fn record(&self) -> &Arc<Record> {
        &self.record
    }
}

/// Commands that should follow from an event. Only values: the runtime sends them, repeats them
/// until they are decided, and never sends them in a replay.
#[must_use = "a reaction takes effect only when it is returned to the runtime"]
#[derive(Default)]
pub struct Reaction {
    pub(crate) outgoing: Vec<Box<dyn Outgoing>>,
    pub(crate) timers: Vec<Timer>,
    pub(crate) cancelled: Vec<Cancelled>,
    /// What the order is kept for within the entity; for all of it if empty.
    pub(crate) strand: Text,
    /// What is parked of the entity is tried again.
    pub(crate) unparks: bool,
}

/// Commands that follow some time after their event.
pub(crate) struct Timer {
    pub(crate) name: Text,
    pub(crate) after: Duration,
    pub(crate) outgoing: Vec<Box<dyn Outgoing>>,
}

/// Timers of the event's entity that are not to fire any more.
pub(crate) enum Cancelled {
    Named(Text),
    /// All of them, and what is parked of the entity: it is over.
    All,
}

impl Reaction {
    /// Both, in this order; the second is sent when the first is decided.
    pub fn then(mut self, next: impl Into<Reaction>) -> Self {
        let next = next.into();
        self.outgoing.extend(next.outgoing);
        self.timers.extend(next.timers);
        self.cancelled.extend(next.cancelled);
        self.unparks |= next.unparks;
        self
    }

    /// The same as a durable timer: sent once `delay` has passed since the event, or as soon after
    /// as the node runs again; measured by the node's [`TimerClock`](crate::TimerClock). Timers of
    /// one entity fire in the order in which they are due. `name` is the timer's within this reactor
    /// and the event's entity: a later one of the same name takes its place, [`cancel`] stops it.
    ///
    /// Once it is due a timer is not called back: whoever decides the command has to look at its
    /// state. A timer fires once, but perhaps again if the engine lost what the reactor had stored
    /// beside the log. The event has to stay in the log until then, so it holds back trimming.
    ///
    /// What follows from a rejection cannot set timers: the event is parked.
    pub fn after(self, name: impl Into<Text>, delay: Duration) -> Self {
        let mut later = self;
        later.timers.push(Timer {
            name: name.into(),
            after: delay,
            outgoing: std::mem::take(&mut later.outgoing),
        });
        later
    }
}

/// Nothing follows.
pub fn nothing() -> Reaction {
    Reaction::default()
}

/// A timer that an earlier event of the same entity has set is not needed any more.
pub fn cancel(name: impl Into<Text>) -> Reaction {
    Reaction {
        cancelled: vec![Cancelled::Named(name.into())],
        ..Reaction::default()
    }
}

/// A command to an entity follows.
pub fn command<E, C>(id: impl std::borrow::Borrow<E::Id>, command: C) -> Outbound<E, C>
where
    E: Decide<C>,
    C: Command,
{
    let entity = EntityKey::new(Text::from_static(E::NAME), id.borrow().as_text());
    Outbound {
        entity,
        command,
        rejected: None,
        types: PhantomData,
    }
}

type OnRejection<R> = Box<dyn Fn(R, &At) -> Reaction + Send>;

/// A command on its way into a [`Reaction`].
#[must_use = "a command takes effect only when it is returned to the runtime"]
pub struct Outbound<E: Decide<C>, C: Command> {
    entity: EntityKey,
    command: C,
    rejected: Option<OnRejection<E::Rejection>>,
    types: PhantomData<fn() -> E>,
}

impl<E: Decide<C>, C: Command> Outbound<E, C> {
    pub(crate) fn into_parts(self) -> (EntityKey, C) {
        (self.entity, self.command)
    }

    /// What follows if the command is rejected; without this a rejection counts as done.
    pub fn rejected<I: Into<Reaction>>(
        mut self,
        follow: impl Fn(E::Rejection, &At) -> I + Send + 'static,
    ) -> Reaction {
        self.rejected = Some(Box::new(move |rejection, at| follow(rejection, at).into()));
        self.into()
    }

    /// The command as a durable timer: [`Reaction::after`].
    pub fn after(self, name: impl Into<Text>, delay: Duration) -> Reaction {
        Reaction::from(self).after(name, delay)
    }
}

impl<E: Decide<C>, C: Command> From<Outbound<E, C>> for Reaction {
    fn from(outbound: Outbound<E, C>) -> Self {
        Reaction {
            outgoing: vec![Box::new(outbound)],
            ..Reaction::default()
        }
    }
}

/// How a command of a reaction ended.
pub(crate) enum Outcome {
    /// Decided, and this follows.
    Done(Reaction),
    /// Rejected, and the reactor makes nothing of it.
    Unmapped,
}

/// A command of any type.
pub(crate) trait Outgoing: Send {
    fn send(
        self: Box<Self>,
        router: Router,
        envelope: Envelope,
        at: At,
    ) -> BoxFuture<'static, Result<Outcome, CommandError>>;

    fn target(&self) -> &EntityKey;

    /// Whether it only brings back what the event's own entity has asked for: no further reaction.
    fn comes_back(&self) -> bool {
        false
    }

    /// Whether it is still wanted, asked before it is sent once more: what was sent before may have
    /// been given up meanwhile. Nothing if it always is.
    fn still_wanted(
        &self,
        _: &Router,
        _: &At,
    ) -> Option<BoxFuture<'static, Result<bool, CommandError>>> {
        None
    }

    /// For the test kit: command name, target and JSON.
    fn inspect(&self) -> (String, EntityKey, serde_json::Value);
}

impl<E: Decide<C>, C: Command> Outgoing for Outbound<E, C> {
    fn send(
        self: Box<Self>,
        router: Router,
        envelope: Envelope,
        at: At,
    ) -> BoxFuture<'static, Result<Outcome, CommandError>> {
        let answer = router.send::<E, C>(self.entity, self.command, envelope);
        let rejected = self.rejected;
        Box::pin(async move {
            match answer.await {
                Ok(_) => Ok(Outcome::Done(nothing())),
                Err(SendError::Rejected(rejection)) => {
                    let entity = &at.record().portable.entity;
                    let map = || rejected.map(|follow| follow(rejection, &at));
                    let mapped = crate::owner::guard(entity, map)?;
                    Ok(mapped.map_or(Outcome::Unmapped, Outcome::Done))
                }
                Err(SendError::Failed(error)) => Err(error),
            }
        })
    }

    fn target(&self) -> &EntityKey {
        &self.entity
    }

    fn inspect(&self) -> (String, EntityKey, serde_json::Value) {
        let mut json = Vec::new();
        let value = match self.command.encode(&mut json) {
            Ok(()) => serde_json::from_slice(&json).unwrap_or_default(),
            Err(error) => serde_json::Value::String(error.to_string()),
        };
        (C::NAME.to_owned(), self.entity.clone(), value)
    }
}

type React = dyn Fn(&Delivered) -> Result<Reaction, DecodeError> + Send + Sync;

/// A handler that turns events into commands.
///
/// Order is kept per entity that the events come from. A command that fails is tried again with
/// growing pauses, then its entity's events are parked, in order, for a person.
pub struct Reactor {
    pub(crate) name: Text,
    pub(crate) subscriptions: Vec<Subscription>,
}

pub(crate) struct Subscription {
    pub(crate) event: TypeId,
    pub(crate) event_name: &'static str,
    /// Only of this type of entity, where several have these events.
    pub(crate) kind: Option<Text>,
    pub(crate) react: Arc<React>,
}

impl Reactor {
    /// A reactor that listens to nothing yet. Its name identifies its progress: a renamed reactor
    /// starts from the beginning.
    pub fn named(name: impl Into<Text>) -> Self {
        Self {
            name: name.into(),
            subscriptions: Vec::new(),
        }
    }

    /// What follows from the events of one kind of entity.
    #[must_use]
    pub fn on<V: Event, I: Into<Reaction>>(
        mut self,
        react: impl Fn(&V, &At) -> I + Send + Sync + 'static,
    ) -> Self {
        let react = move |delivered: &Delivered| {
            let event = delivered.event::<V>()?;
            Ok(react(&event, &At::of(delivered.record().clone())).into())
        };
        self.subscriptions.push(Subscription {
            event: TypeId::of::<V>(),
            event_name: std::any::type_name::<V>(),
            kind: None,
            react: Arc::new(react),
        });
        self
    }
}
