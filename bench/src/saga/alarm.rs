//! Alarms that ring when they are due, in a great number.

use std::sync::Arc;
use std::time::Duration;

use everfold::engine::engine::ReadLimit;
use everfold::engine::record::Kind;
use everfold::engine::{Offset, Timestamp};
use everfold::prelude::*;
use everfold::{CommandError, Node, SendError};
use tokio::task::JoinSet;

use crate::load::mix;

const ALARMS: u64 = 10_000;
const CLIENTS: u64 = 512;
/// Within how many seconds all are due.
const SPREAD: u64 = 30 * 86_400;

#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AlarmId(String);

#[derive(Event, Clone, Debug, PartialEq)]
pub(super) enum AlarmEvent {
    Set { number: u64, seconds: u64 },
    Rang { number: u64, seconds: u64 },
}

#[derive(Entity, Default)]
#[entity(name = "alarm", id = AlarmId, event = AlarmEvent)]
pub(super) struct Alarm {
    rang: u64,
}

impl Evolve for Alarm {
    fn evolve(&mut self, event: &AlarmEvent) {
        self.rang += u64::from(matches!(event, AlarmEvent::Rang { .. }));
    }
}

#[derive(Command, Clone, Debug)]
struct Set {
    number: u64,
    seconds: u64,
}

#[derive(Command, Clone, Debug)]
struct Ring {
    number: u64,
    seconds: u64,
}

impl Decide<Set> for Alarm {
    type Reply = ();
    type Rejection = Never;

    fn decide(&self, command: &Set, _: &Context) -> Decision<Self, Set> {
        let Set { number, seconds } = *command;
        emit(AlarmEvent::Set { number, seconds }).reply(())
    }
}

impl Decide<Ring> for Alarm {
    type Reply = ();
    type Rejection = Never;

    fn decide(&self, command: &Ring, _: &Context) -> Decision<Self, Ring> {
        let Ring { number, seconds } = *command;
        emit(AlarmEvent::Rang { number, seconds }).reply(())
    }
}

pub(super) fn application() -> Application {
    let ring = Reactor::named("ring").on(|event: &AlarmEvent, at| match *event {
        AlarmEvent::Set { number, seconds } => {
            let alarm: AlarmId = at.entity_id();
            command::<Alarm, _>(alarm, Ring { number, seconds })
                .after(number.to_string(), Duration::from_secs(seconds))
        }
        AlarmEvent::Rang { .. } => nothing(),
    });
    Application::new("alarms").entity::<Alarm>().reactor(ring)
}

/// Sets so many timers, all at the same moment of their clock.
pub(super) async fn set(node: &Arc<Node>, timers: u64, at: Timestamp) -> anyhow::Result<()> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let node = node.clone();
        clients.spawn(async move {
            for number in (client..timers).step_by(CLIENTS as usize) {
                let alarm = node.entity::<Alarm>(format!("a {}", number % ALARMS));
                let seconds = mix(number) % SPREAD;
                loop {
                    match alarm.send(Set { number, seconds }).at(at).await {
                        Ok(_) => break,
                        Err(SendError::Failed(CommandError::Overloaded {
                            retry_after, ..
                        })) => {
                            // The node's queues are full, and ask to be left alone for a while.
                            tokio::time::sleep(retry_after).await;
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(())
}

pub(super) async fn pending(node: &Node) -> anyhow::Result<u64> {
    let handlers = node.handlers().await?;
    Ok(handlers.iter().map(|handler| handler.timers).sum())
}

/// Reads the log: timers that rang before an earlier one of their entity, and timers that did not
/// ring exactly once.
pub(super) async fn check(node: &Node, timers: u64) -> anyhow::Result<(u64, u64)> {
    let mut rings = vec![0_u32; timers as usize];
    let mut last = std::collections::BTreeMap::new();
    let mut out_of_order = 0;
    let engine = node.engine();
    for partition in engine.identity().layout.all() {
        let mut after = Offset(0);
        loop {
            let chunk = engine.read(partition, after, ReadLimit::default()).await?;
            if chunk.next <= after {
                break;
            }
            after = chunk.next;
            for record in chunk.records.iter().filter(|it| it.kind == Kind::Event) {
                let portable = &record.portable;
                let (name, version) = (&portable.event_type, portable.schema_version);
                let event = AlarmEvent::decode(name, version, &portable.payload)?;
                if let AlarmEvent::Rang { number, seconds } = event {
                    if let Some(rings) = rings.get_mut(number as usize) {
                        *rings += 1;
                    }
                    let before = last.insert(portable.entity.id.clone(), seconds);
                    out_of_order += u64::from(before.is_some_and(|before| before > seconds));
                }
            }
        }
    }
    let not_once = rings.iter().filter(|rings| **rings != 1).count() as u64;
    Ok((out_of_order, not_once))
}
