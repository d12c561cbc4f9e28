//! Work that another node has to do: carried there, and after a move to the next.

use std::sync::Arc;
use std::time::Duration;

use everfold_engine::coordination::NodeId;
use everfold_engine::engine::Engine;
use everfold_engine::record::Reply;
use everfold_engine::slot::Partition;
use everfold_engine::world::new_id;
use everfold_engine::{Bytes, EntityKey};

use super::wire::{Outcome, Request, Response, What, decode, encode};
use super::{Duty, Membership, PeerError};
use crate::error::CommandError;
use crate::options::StateOptions;
use crate::owner::{Answer, Doubtful, Envelope, Loader, Router, Work};
use crate::schema::Registry;

/// Between two tries when nothing has told of a change.
const PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// What a node needs to carry work to others.
pub(crate) struct Remote {
    pub(crate) membership: Membership,
    /// To read what no other node can send; a client has none.
    pub(crate) engine: Option<Arc<dyn Engine>>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) options: StateOptions,
}

/// One try to have work done.
pub(crate) enum Tried {
    Answered(Response),
    /// Nothing was done, as far as it is known.
    Not(String),
    /// It may have been done.
    Perhaps(String),
}

impl Remote {
    pub(crate) fn duty(&self, partition: Partition) -> Duty {
        self.membership.duty(partition)
    }

    /// Has the owner do it, whoever that is by then.
    pub(crate) fn carry(self: &Arc<Self>, router: Router, at: Partition, work: Box<dyn Work>) {
        let (remote, world) = (self.clone(), router.world().clone());
        let task = async move { remote.deliver(&router, at, work).await };
        world.spawn("carry work", Box::pin(task));
    }

    async fn deliver(&self, router: &Router, at: Partition, mut work: Box<dyn Work>) {
        let world = router.world().clone();
        let mut what = match work.carried() {
            Ok(what) => what,
            Err(error) => {
                // What cannot leave waits for the partition to come here, if it is about to.
                if self.duty(at) == Duty::Own {
                    return router.submit_here(at, work);
                }
                return work.answer(Answer::Failed(error));
            }
        };
        if let What::Look { entity, .. } = &what
            && self.registry.of(entity).decode_state.is_none()
        {
            let entity = entity.clone();
            return self.look_here(work, &entity).await;
        }
        if what.is_command() && work.envelope().id.is_none() {
            // So that it can be asked again without being done twice.
            work.envelope_mut().id = Some(new_id(world.as_ref()));
        }
        let envelope = work.envelope().clone();
        let begun = world.elapsed();
        let (mut pause, mut perhaps) = (PAUSE, None);
        let backlog = router.backlog(at).cloned();
        let mut first = true;
        loop {
            if work.is_abandoned() {
                return;
            }
            if self.duty(at) == Duty::Own {
                return router.submit_here(at, work);
            }
            let left = (begun + self.membership.patience).saturating_sub(world.elapsed());
            // Who waits for a state may do so for long, and is in nobody's way.
            let waits = matches!(
                &what,
                What::Look {
                    beyond: Some(_),
                    ..
                }
            );
            let permit = match &backlog {
                Some(backlog) if !waits => tokio::select! { biased;
                    permit = backlog.may_ask(!first) => permit,
                    () = world.sleep(left) => None,
                },
                _ => None,
            };
            let asked = world.elapsed();
            let left = (begun + self.membership.patience).saturating_sub(asked);
            let tried = self.attempt(router, at, &envelope, &what, left).await;
            drop(permit);
            first = false;
            let reason = match tried {
                Tried::Answered(response) => {
                    if let Some(backlog) = backlog.as_ref().filter(|_| !waits) {
                        backlog.answered(world.elapsed().saturating_sub(asked));
                    }
                    if let Some(heard) = response.heard {
                        work.envelope().tell(|| heard);
                    }
                    match self.settle(work, &mut what, response.outcome) {
                        None => return,
                        Some(mut same) => {
                            let place = &mut same.envelope_mut().place;
                            if let Err(retry_after) = place.watch(|| world.elapsed()) {
                                let partition = at;
                                return same.answer(Answer::Failed(CommandError::Overloaded {
                                    partition,
                                    retry_after,
                                }));
                            }
                            work = same;
                            continue;
                        }
                    }
                }
                Tried::Not(reason) => reason,
                Tried::Perhaps(reason) => {
                    world.reached("node: request without an answer, sent again under its id");
                    if what.is_command() && perhaps.is_none() {
                        work = Doubtful::over(work);
                        perhaps = Some(reason.clone());
                    }
                    reason
                }
            };
            if left.is_zero() {
                let partition = at;
                return work.answer(Answer::Failed(match perhaps {
                    Some(reason) => CommandError::NoOwner { partition, reason },
                    None => CommandError::Unavailable { partition, reason },
                }));
            }
            let mut plan = self.membership.plan.clone();
            plan.mark_unchanged();
            tokio::select! { biased;
                // Without a planner there is still the pause.
                Ok(()) = plan.changed() => {}
                () = world.sleep(pause.min(left)) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    /// Has one node answer, whichever it is.
    pub(crate) async fn question(
        &self,
        node: NodeId,
        at: Partition,
        what: &What,
        left: Duration,
    ) -> Result<Outcome, String> {
        let request = Request {
            partition: at,
            envelope: Envelope::default(),
            hears: false,
            what: what.clone(),
            relayed: self.membership.relayed,
        };
        let request = encode(&request).map_err(|error| error.to_string())?;
        let answer = self.membership.peers.ask(node, request, left).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let response = decode::<Response>(&answer).map_err(|error| error.to_string())?;
        Ok(response.outcome)
    }

    pub(crate) async fn attempt(
        &self,
        router: &Router,
        at: Partition,
        envelope: &Envelope,
        what: &What,
        left: Duration,
    ) -> Tried {
        let owner = {
            let plan = self.membership.plan.borrow();
            plan.places.get(at.index()).and_then(|place| place.owner)
        };
        let Some(owner) = owner else {
            return Tried::Not("nobody owns it now".into());
        };
        let request = Request {
            partition: at,
            envelope: envelope.clone(),
            hears: envelope.heard.is_some(),
            what: what.clone(),
            relayed: self.membership.relayed,
        };
        let request = match encode(&request) {
            Ok(request) => request,
            Err(error) => return failed(error),
        };
        let asked = self.membership.peers.ask(owner, request, left);
        let answer = tokio::select! { biased;
            answer = asked => answer,
            // It may be frozen, and others know better by now.
            () = self.membership.owner_changes(at, owner) => {
                Err(PeerError::Lost("another node owns it by now".to_owned()))
            }
        };
        match answer {
            Ok(response) => match decode::<Response>(&response) {
                Ok(Response {
                    outcome: Outcome::Elsewhere,
                    ..
                }) => Tried::Not("its owner is changing".into()),
                // What it had not done yet another owner will do.
                Ok(Response {
                    outcome:
                        Outcome::Failed(error @ (CommandError::Fenced(_) | CommandError::Closed)),
                    ..
                }) => Tried::Not(error.to_string()),
                Ok(Response {
                    outcome: Outcome::Failed(error @ CommandError::Unknown(_)),
                    ..
                }) => Tried::Perhaps(error.to_string()),
                Ok(response) => Tried::Answered(response),
                Err(error) => failed(error),
            },
            Err(error @ PeerError::Unreachable(_)) => Tried::Not(error.to_string()),
            Err(error @ PeerError::Lost(_)) => Tried::Perhaps(error.to_string()),
            // Back to whoever asked, who knows whether it is still wanted: to ask again from here as
            // well would be more load where there is too much.
            Err(PeerError::Overloaded { retry_after }) => failed(CommandError::Overloaded {
                partition: at,
                retry_after: retry_after
                    .max(router.overloaded(at).retry_after().unwrap_or_default()),
            }),
        }
    }

    /// Tells what has come; gives the work back if it waits for another state.
    fn settle(
        &self,
        mut work: Box<dyn Work>,
        what: &mut What,
        outcome: Outcome,
    ) -> Option<Box<dyn Work>> {
        let answer = match outcome {
            Outcome::Done {
                body,
                rejected,
                offset,
            } => {
                let reply = Reply {
                    command_digest: Default::default(),
                    rejected,
                    body,
                    source: None,
                };
                Answer::Again(reply, offset)
            }
            Outcome::State {
                state,
                version,
                offset,
            } => match self.show(work.as_mut(), &state, version) {
                Ok(true) => Answer::Durable(offset),
                Ok(false) => {
                    if let What::Look { beyond, .. } = what {
                        *beyond = Some(version);
                    }
                    return Some(work);
                }
                Err(error) => Answer::Failed(error),
            },
            Outcome::Failed(error) => Answer::Failed(error),
            Outcome::Elsewhere => return Some(work),
            Outcome::Surveyed(_)
            | Outcome::Rows(_)
            | Outcome::Behind(_)
            | Outcome::UnknownView
            | Outcome::History(_) => Answer::Failed(CommandError::Encoding(
                "another node has answered something else than was asked".to_owned(),
            )),
        };
        work.answer(answer);
        None
    }

    fn show(&self, work: &mut dyn Work, state: &Bytes, version: u64) -> Result<bool, CommandError> {
        let Some(entity) = work.entities().first().cloned() else {
            return Ok(true);
        };
        let kind = self.registry.of(&entity);
        let unread = |reason: String| CommandError::History {
            entity: entity.to_string(),
            reason: format!("the state that its owner sent cannot be read: {reason}"),
        };
        let decode = kind.decode_state.ok_or_else(|| unread("no code".into()))?;
        let state = crate::owner::guard(&entity, || decode(state))?;
        let state = state.map_err(|error| unread(error.to_string()))?;
        work.look(state.as_ref(), version)
    }

    /// A state that no other node can send is made from the log.
    async fn look_here(&self, mut work: Box<dyn Work>, entity: &EntityKey) {
        let Some(engine) = &self.engine else {
            return work.answer(Answer::Failed(CommandError::NotCarried {
                entity: entity.to_string(),
                command: "a look at a boundary".to_owned(),
            }));
        };
        let loader = Loader {
            engine: engine.as_ref(),
            options: &self.options,
        };
        let partition = engine.identity().layout.partition(&entity.id);
        let head = engine.safe_head(partition).await;
        let loaded = loader
            .load(self.registry.of(entity), entity, u64::MAX)
            .await;
        let seen = loaded.and_then(|loaded| {
            let resident = loaded.resident;
            work.look(resident.state.as_ref(), resident.version)
        });
        work.answer(match (seen, head) {
            (Ok(_), Ok(head)) => Answer::Durable(head),
            (Ok(_), Err(error)) => Answer::Failed(CommandError::Unavailable {
                partition,
                reason: error.to_string(),
            }),
            (Err(error), _) => Answer::Failed(error),
        });
    }
}

fn failed(error: CommandError) -> Tried {
    Tried::Answered(Response {
        outcome: Outcome::Failed(error),
        heard: None,
    })
}
