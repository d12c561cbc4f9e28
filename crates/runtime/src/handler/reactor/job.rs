//! The work that one event asks of a reactor: commands with derived ids, tried again until they are
//! decided.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use everfold_engine::record::{Dot, Source};
use everfold_engine::slot::Partition;
use everfold_engine::{Offset, Record, Text, Timestamp, Uuid};
use xxhash_rust::xxh3::xxh3_128;

use super::LaneStatus;
use crate::error::CommandError;
use crate::event::DecodeError;
use crate::handler::Ground;
use crate::owner::{Envelope, Heard};
use crate::reactor::{At, Outcome, Outgoing, Reaction};

/// A chain of reactions longer than this is taken for a loop.
const MOST_HOPS: u32 = 64;
/// What the places of timers' commands begin with; no reaction has as many commands.
const TIMER: u32 = u32::MAX;
/// Attempts before an entity's events are parked.
const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The work that one event asks for, at once or by a timer.
pub(super) struct Job {
    pub(super) name: Text,
    pub(super) partition: Partition,
    pub(super) ground: Ground,
    pub(super) status: Arc<LaneStatus>,
    pub(super) record: Arc<Record>,
    pub(super) timer: Option<Fired>,
    /// Its commands may have been sent before.
    pub(super) again: bool,
}

/// A command whose turn has not come.
struct Waiting {
    /// Its place in the reaction.
    path: Vec<u32>,
    outgoing: Box<dyn Outgoing>,
    /// What was answered to the command that it follows from.
    cause: Option<Dot>,
}

/// The timer whose commands are sent.
pub(super) struct Fired {
    pub(super) number: u64,
    /// Which of the event's timers.
    pub(super) index: u32,
    pub(super) at: Timestamp,
}

pub(super) type Reacted = Result<Result<Reaction, DecodeError>, CommandError>;

impl Job {
    /// Sends everything that follows from the event; the error says why it must be parked.
    pub(super) async fn run(
        &self,
        first: Reacted,
        again: impl Fn() -> Reacted,
    ) -> Result<(), String> {
        // Who waits in between is no loop.
        if self.timer.is_none() && self.record.portable.hops >= MOST_HOPS {
            return Err(self.describe_loop());
        }
        let mut reacted = first;
        let mut attempt = 1;
        let mut sent_before = self.again;
        let mut pause = FIRST_PAUSE;
        loop {
            let failure = match reacted {
                Ok(Ok(reaction)) => match self.send_all(reaction, sent_before).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
                // The same event leads to the same again, and its timers are not known.
                Ok(Err(error)) => return Err(error.to_string()),
                Err(error) => return Err(error.to_string()),
            };
            // Trouble of the store passes, and must not park half the log.
            let world = &self.ground.world;
            if failure.is_passing() {
                world.reached("reactor: command tried again until the store is there");
            } else {
                if attempt == ATTEMPTS {
                    return Err(failure.to_string());
                }
                world.reached("reactor: failed command tried again");
                attempt += 1;
            }
            self.status.retrying.fetch_add(1, Ordering::Relaxed);
            let room = failure.retry_after().unwrap_or_default();
            self.ground.world.sleep(pause.max(room)).await;
            self.status.retrying.fetch_sub(1, Ordering::Relaxed);
            if self.ground.is_stopping() {
                return Err("the node is closing".into());
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            sent_before = true;
            reacted = again();
        }
    }

    /// Sends commands one after the other, each with an id derived from its place, so that a
    /// repeated one is recognised.
    async fn send_all(&self, reaction: Reaction, sent_before: bool) -> Result<(), CommandError> {
        let mut waiting: VecDeque<Waiting> = VecDeque::new();
        let mut after = (self.record.local.stamp, self.record.portable.hybrid);
        let place = |path: &[u32], index: usize| [path, &[index as u32]].concat();
        let timer = self.timer.as_ref().map(|fired| [TIMER, fired.index]);
        let root: &[u32] = timer.as_ref().map_or(&[], |path| path);
        let first = reaction.outgoing.into_iter().enumerate();
        waiting.extend(first.map(|(index, outgoing)| Waiting {
            path: place(root, index),
            outgoing,
            cause: None,
        }));
        while let Some(next) = waiting.pop_front() {
            let heard = Arc::new(OnceLock::new());
            let envelope = Envelope {
                after,
                heard: Some(heard.clone()),
                ..self.envelope(&next)
            };
            let Waiting { path, outgoing, .. } = next;
            let at = At::of(self.record.clone());
            if sent_before
                && let Some(wanted) = outgoing.still_wanted(&self.ground.router, &at)
                && !wanted.await?
            {
                continue;
            }
            let sent = outgoing.send(self.ground.router.clone(), envelope, at);
            let outcome = match sent.await {
                Err(CommandError::Settled(_)) => {
                    let world = &self.ground.world;
                    world.reached("reactor: command was settled before");
                    return Ok(());
                }
                outcome => outcome?,
            };
            let heard: Option<Heard> = heard.get().cloned();
            if let Some(heard) = &heard {
                let ((stamp, hybrid), (later, higher)) = (after, heard.after);
                after = (stamp.max(later), hybrid.max(higher));
            }
            let cause = heard.and_then(|heard| heard.dot);
            match outcome {
                Outcome::Unmapped => {
                    let world = &self.ground.world;
                    world.reached("reactor: rejection that nobody maps");
                    self.status.unmapped.fetch_add(1, Ordering::Relaxed);
                }
                Outcome::Done(follow) => {
                    if !follow.timers.is_empty() || !follow.cancelled.is_empty() {
                        return Err(CommandError::MisplacedTimer);
                    }
                    let follow = follow.outgoing.into_iter().enumerate();
                    for (index, outgoing) in follow.rev() {
                        waiting.push_front(Waiting {
                            path: place(&path, index),
                            outgoing,
                            cause: cause.clone(),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn envelope(&self, next: &Waiting) -> Envelope {
        let (portable, outgoing) = (&self.record.portable, &next.outgoing);
        let target = self.ground.router.partition(&outgoing.target().id);
        let causes = portable.dot.iter().chain(&next.cause);
        let causes = causes.filter(|dot| dot.partition != target).cloned();
        let timer = self.timer.as_ref();
        let hops = match timer {
            Some(_) => 0,
            None if outgoing.comes_back() => portable.hops,
            None => portable.hops + 1,
        };
        let source = match timer {
            None => Source {
                handler: self.name.clone(),
                partition: self.partition,
                offset: self.record.local.offset,
                settled: Offset(self.status.settled.load(Ordering::Relaxed)),
            },
            Some(fired) => Source {
                handler: format!("timers of {}", self.name).into(),
                partition: self.partition,
                offset: Offset(fired.number),
                settled: Offset(self.status.settled_timers.load(Ordering::Relaxed)),
            },
        };
        Envelope {
            id: Some(self.derived_id(&next.path)),
            issued: None,
            effective: Some(timer.map_or(portable.effective, |fired| fired.at)),
            principal: portable.principal.clone(),
            causation: Some(portable.event_id),
            correlation: portable.correlation.or(Some(portable.event_id)),
            trace: portable.trace.clone(),
            causes: causes.collect(),
            hops,
            after: (self.record.local.stamp, portable.hybrid),
            source: Some(source),
            ..Envelope::default()
        }
    }

    /// From the handler's name, the event's identity and the command's place in the reaction.
    fn derived_id(&self, path: &[u32]) -> Uuid {
        let mut bytes = self.name.as_bytes().to_vec();
        bytes.push(0);
        if let Some(dot) = &self.record.portable.dot {
            bytes.extend_from_slice(dot.origin.site.as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(&dot.origin.incarnation.0.to_le_bytes());
            bytes.extend_from_slice(&dot.origin.layout.to_le_bytes());
            bytes.extend_from_slice(&dot.partition.0.to_le_bytes());
            bytes.extend_from_slice(&dot.counter.to_le_bytes());
        }
        path.iter()
            .for_each(|index| bytes.extend_from_slice(&index.to_le_bytes()));
        let hash = xxh3_128(&bytes).to_le_bytes();
        everfold_engine::name_based_id(hash)
    }

    fn describe_loop(&self) -> String {
        let portable = &self.record.portable;
        format!(
            "{} reactions in a row, the last to {} {} of {} (correlation {}): reactors answer each other in a loop",
            portable.hops,
            portable.event_type,
            portable.event_id,
            portable.entity,
            portable.correlation.unwrap_or_default(),
        )
    }
}
