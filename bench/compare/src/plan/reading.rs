//! Reading: a log is loaded, and then replayed, looked into and followed, by turns.

use std::time::Instant;

use tokio::sync::mpsc;

use super::{Open, PAUSE, Plan};
use crate::machine::{Place, disk_bytes};
use crate::report::{Failed, Reading, Report, median};
use crate::store::Replayed;
use crate::stores::Group;
use crate::workload::{ENTITIES, HISTORY, PAYLOAD, mix};

/// Entities read per repetition.
const READS: usize = 1_000;
/// Events appended per repetition while a subscriber follows.
const FOLLOWED: usize = 200;

/// What the turns of one store found.
#[derive(Default)]
struct Turns {
    replays: Vec<f64>,
    histories: Vec<f64>,
    received: Vec<f64>,
    acknowledged: Vec<f64>,
}

impl Plan {
    pub(super) async fn reading(
        &self,
        group: &Group,
        place: &Place,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let mut opened = self.open(group, "read", place, report).await?;
        // All of a group read a log of the same size.
        let fewest = opened.iter().map(|it| it.kind.about().most_events).min();
        let events = self.events.min(fewest.unwrap_or_default());
        let entities = (events / HISTORY).clamp(1, ENTITIES);
        for open in &opened {
            if let Err(error) = open.subject.fill(entities, HISTORY).await {
                report.failed.push(Failed::new(open.kind, "fill", &error));
            }
        }
        opened.retain(|open| !report.lacks(open.kind));
        tokio::time::sleep(PAUSE * 10).await;
        let mut turns: Vec<Turns> = opened.iter().map(|_| Turns::default()).collect();
        for repetition in 0..self.repetitions {
            for (open, turns) in opened.iter().zip(&mut turns) {
                let done = turns.read(open, entities, mix(repetition as u64)).await;
                note(report, open, "read", done);
            }
        }
        self.follow(&opened, &mut turns, report).await?;
        for (open, turns) in opened.into_iter().zip(turns) {
            let about = open.kind.about();
            let version = about.software.version(&self.programs);
            let folder = open.folder.clone();
            let durability = open.durability();
            open.close(report).await;
            if turns.replays.len() < self.repetitions {
                continue;
            }
            let stored = entities * HISTORY + turns.received.len() * FOLLOWED;
            report.readings.push(Reading {
                group: group.name,
                store: about.name,
                version,
                events: entities * HISTORY,
                replay_per_second: median(turns.replays.iter().copied()),
                everfold_times: None,
                history_p50_us: middle(&turns.histories),
                tail_p50_us: middle(&turns.received),
                tail_ack_p50_us: middle(&turns.acknowledged),
                disk_bytes_per_event: disk_bytes(&folder)? as f64 / stored as f64,
                replays: turns.replays,
                durability,
            });
        }
        Ok(())
    }

    /// Comes after everything else: it makes the log longer.
    async fn follow(
        &self,
        opened: &[Open],
        turns: &mut [Turns],
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let mut followed = Vec::new();
        for (open, turns) in opened.iter().zip(turns) {
            let (sender, receiver) = mpsc::unbounded_channel();
            match open.subject.store.follow(sender).await {
                Ok(true) => followed.push((open, turns, receiver)),
                Ok(false) => {}
                Err(error) => note(report, open, "follow", Err(error)),
            }
        }
        tokio::time::sleep(PAUSE).await;
        for repetition in 0..self.repetitions {
            for (open, turns, receiver) in &mut followed {
                if !report.lacks(open.kind) {
                    let done = turns.follow(open, receiver, mix(repetition as u64)).await;
                    note(report, open, "follow", done);
                }
            }
        }
        Ok(())
    }
}

impl Turns {
    async fn read(&mut self, open: &Open, entities: usize, seed: u64) -> anyhow::Result<()> {
        let subject = &open.subject;
        self.replays
            .push(subject.replay(of(entities * HISTORY)).await?);
        let found = subject
            .histories(entities, READS, of(HISTORY), seed)
            .await?;
        self.histories.extend(found);
        Ok(())
    }

    async fn follow(
        &mut self,
        open: &Open,
        receiver: &mut mpsc::UnboundedReceiver<Instant>,
        seed: u64,
    ) -> anyhow::Result<()> {
        let (received, acknowledged) = open.subject.tail(receiver, FOLLOWED, seed).await?;
        self.received.push(received);
        self.acknowledged.push(acknowledged);
        Ok(())
    }
}

fn note(report: &mut Report, open: &Open, what: &str, done: anyhow::Result<()>) {
    if let Err(error) = done {
        report.failed.push(Failed::new(open.kind, what, &error));
    }
}

fn middle(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| median(values.iter().copied()))
}

fn of(events: usize) -> Replayed {
    Replayed {
        events,
        bytes: events * PAYLOAD,
    }
}
