//! The build that runs.

use everfold::prelude::*;

use super::{CounterId, Row};

#[derive(Event, Clone, Debug, PartialEq)]
pub enum CounterEvent {
    Counted { by: u64 },
    Mirrored { by: u64 },
}

#[derive(Entity, Default, Clone, Debug, PartialEq)]
#[entity(name = "counter", id = CounterId, event = CounterEvent, commands(Count, Mirror))]
pub struct Counter {
    pub total: u64,
    pub mirrored: u64,
}

impl Evolve for Counter {
    fn evolve(&mut self, event: &CounterEvent) {
        match event {
            CounterEvent::Counted { by } => self.total += by,
            CounterEvent::Mirrored { by } => self.mirrored += by,
        }
    }
}

#[derive(Command, Clone, Debug)]
pub struct Count {
    pub by: u64,
}

impl Decide<Count> for Counter {
    type Reply = u64;
    type Rejection = Never;

    fn decide(&self, command: &Count, _: &Context) -> Decision<Self, Count> {
        emit(CounterEvent::Counted { by: command.by }).reply(self.total + command.by)
    }
}

#[derive(Command, Clone, Debug)]
pub struct Mirror {
    pub by: u64,
}

impl Decide<Mirror> for Counter {
    type Reply = ();
    type Rejection = Never;

    fn decide(&self, command: &Mirror, _: &Context) -> Decision<Self, Mirror> {
        emit(CounterEvent::Mirrored { by: command.by }).reply(())
    }
}

pub fn totals() -> View<String, Row> {
    View::named("totals").on(
        |_: &CounterEvent, at| at.entity_id::<String>(),
        |row: &mut Row, event, _| match event {
            CounterEvent::Counted { by } => row.total += by,
            CounterEvent::Mirrored { by } => row.mirrored += by,
        },
    )
}

pub fn counters() -> Application {
    let mirror = Reactor::named("mirror").on(|event: &CounterEvent, at| match event {
        CounterEvent::Counted { by } => {
            let id = CounterId::from(format!("mirror of {}", at.entity_id::<String>()));
            command::<Counter, _>(id, Mirror { by: *by }).into()
        }
        _ => nothing(),
    });
    Application::new("counters")
        .entity::<Counter>()
        .view(totals())
        .reactor(mirror)
}
