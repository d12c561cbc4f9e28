//! A saga of four steps, and the same records without it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use everfold::engine::engine::{Engine, ReadLimit};
use everfold::engine::memory::Memory;
use everfold::engine::record::Kind;
use everfold::engine::{Offset, Record};
use everfold::prelude::*;
use everfold::{Expected, NewEvent, NodeOptions, SagaEnd};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::world;

pub(super) const STEPS: usize = 4;
const PARTITIONS: u16 = 4;
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PartId(String);

#[derive(Event, Clone, Debug, PartialEq)]
enum PartEvent {
    Acted { of: String },
}

#[derive(Entity, Default)]
#[entity(name = "part", id = PartId, event = PartEvent)]
struct Part {
    acted: u64,
}

impl Evolve for Part {
    fn evolve(&mut self, _: &PartEvent) {
        self.acted += 1;
    }
}

#[derive(Command, Clone, Debug)]
struct Act {
    of: String,
}

impl Decide<Act> for Part {
    type Reply = u64;
    type Rejection = Never;

    fn decide(&self, command: &Act, _: &Context) -> Decision<Self, Act> {
        let of = command.of.clone();
        emit(PartEvent::Acted { of }).reply(self.acted + 1)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Job {
    name: String,
    replies: Vec<u64>,
}

fn job() -> Saga<Job> {
    const NAMES: [&str; STEPS] = ["one", "two", "three", "four"];
    let act = |step: usize| {
        let act = ask(move |job: &Job| {
            let part = PartId::from(format!("{} {step}", job.name));
            let of = job.name.clone();
            command::<Part, _>(part, Act { of })
        });
        act.replied(|job, count| {
            job.replies.push(count);
            done()
        })
    };
    let steps = NAMES.iter().enumerate();
    steps.fold(Saga::named("job"), |saga, (index, name)| {
        saga.step(Step::named(name, act(index)).undo(act(index)))
    })
}

/// Runs sagas on a log in memory. Returns how long it took, and the units that they left there.
pub(super) async fn sagas(count: usize, at_once: usize) -> anyhow::Result<(Duration, Vec<Unit>)> {
    let engine: Arc<dyn Engine> = Arc::new(Memory::new(world(), PARTITIONS)?);
    let application = Application::new("jobs").entity::<Part>().saga(job());
    let opened = application.open_on(engine.clone(), world(), NodeOptions::default());
    let node = Arc::new(opened.await?);
    let begin = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..at_once {
        let node = node.clone();
        clients.spawn(async move {
            for number in (client..count).step_by(at_once) {
                let name = format!("job {number}");
                let data = Job {
                    name: name.clone(),
                    replies: Vec::new(),
                };
                let saga = node.saga(&job());
                saga.start(&name, data).await?;
                let end = saga.outcome(&name, PATIENCE).await?.end;
                anyhow::ensure!(end == SagaEnd::Completed, "{name} is {end}");
            }
            Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    node.caught_up().await?;
    let taken = begin.elapsed();
    let units = units(engine.as_ref()).await?;
    node.close().await;
    Ok((taken, units))
}

/// What was appended as one.
pub(super) struct Unit {
    pub(super) records: Vec<Arc<Record>>,
}

async fn units(engine: &dyn Engine) -> anyhow::Result<Vec<Unit>> {
    let mut units = Vec::new();
    for partition in engine.identity().layout.all() {
        let mut after = Offset(0);
        loop {
            let chunk = engine.read(partition, after, ReadLimit::default()).await?;
            if chunk.next <= after {
                break;
            }
            after = chunk.next;
            let mut records = Vec::new();
            for record in chunk
                .records
                .into_iter()
                .filter(|it| it.kind == Kind::Event)
            {
                let last = record.portable.unit.is_last();
                records.push(record);
                if last {
                    let records = std::mem::take(&mut records);
                    units.push(Unit { records });
                }
            }
        }
    }
    Ok(units)
}

/// Appends the same units as they are to another log in memory, through its owners.
pub(super) async fn appends(units: Vec<Unit>, at_once: usize) -> anyhow::Result<Duration> {
    let engine: Arc<dyn Engine> = Arc::new(Memory::new(world(), PARTITIONS)?);
    let streams = Application::new("streams");
    let opened = streams.open_on(engine, world(), NodeOptions::default());
    let node = Arc::new(opened.await?);
    let mut queues: Vec<Vec<(String, Vec<NewEvent>)>> = (0..at_once).map(|_| vec![]).collect();
    for (number, unit) in units.into_iter().enumerate() {
        let stream = unit.records[0].portable.entity.stream();
        let events = unit.records.iter().map(|record| {
            let portable = &record.portable;
            let mut event = NewEvent::json(portable.event_type.clone(), portable.payload.clone());
            event.labels.clone_from(&portable.labels);
            event
        });
        queues[number % at_once].push((stream, events.collect()));
    }
    let begin = Instant::now();
    let mut clients = JoinSet::new();
    for queue in queues {
        let node = node.clone();
        clients.spawn(async move {
            for (stream, events) in queue {
                node.stream(&stream).append(events, Expected::Any).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    let taken = begin.elapsed();
    node.close().await;
    Ok(taken)
}
