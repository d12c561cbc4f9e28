//! A small domain for the tests of timers: clocks that note what rang. How one rings, and when, is
//! each test's.

use everfold::Node;
use everfold::prelude::*;

#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClockId(String);

#[derive(Event, Clone, Debug, PartialEq)]
pub(crate) enum ClockEvent {
    Wound { name: String, seconds: u64 },
    Stopped { name: String },
    Rang { name: String },
}

/// Rings as often as it was wound; keeps no count of its own.
#[derive(Entity, Default)]
#[entity(name = "clock", id = ClockId, event = ClockEvent)]
pub(crate) struct Clock {
    pub(crate) rang: Vec<String>,
}

impl Evolve for Clock {
    fn evolve(&mut self, event: &ClockEvent) {
        if let ClockEvent::Rang { name } = event {
            self.rang.push(name.clone());
        }
    }
}

#[derive(Command, Clone, Debug)]
pub(crate) struct Wind {
    pub(crate) name: String,
    pub(crate) seconds: u64,
}

#[derive(Command, Clone, Debug)]
pub(crate) struct Ring {
    pub(crate) name: String,
}

impl Decide<Wind> for Clock {
    type Reply = ();
    type Rejection = Never;

    fn decide(&self, command: &Wind, _: &Context) -> Decision<Self, Wind> {
        let Wind { name, seconds } = command.clone();
        emit(ClockEvent::Wound { name, seconds }).reply(())
    }
}

pub(crate) async fn wind(node: &Node, clock: &str, name: impl Into<String>, seconds: u64) {
    let name = name.into();
    let clock = node.entity::<Clock>(clock);
    clock.send(Wind { name, seconds }).await.unwrap();
}

pub(crate) async fn rang(node: &Node, clock: &str) -> Vec<String> {
    let clock = node.entity::<Clock>(clock);
    clock.read(|clock, _| clock.rang.clone()).await.unwrap()
}
