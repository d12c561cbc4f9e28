//! Commands over several entities that share a `{tag}`: one decision, one atomic change.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use everfold_engine::engine::Statement;
use everfold_engine::slot::Partition;
use everfold_engine::{EntityKey, Offset, Text};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::decision::Context;
use crate::entity::{Command, Entity, Evolve};
use crate::error::{CommandError, SendError};
use crate::key::Key;
use crate::owner::{
    Answer, Decided, Desk, Draft, Envelope, Residents, Router, Ruling, Sent, Work, context,
    digest_of, draft, guard, not_json, to_json,
};
use crate::remote::{Carried, What, told};
use crate::schema::AnyState;
use crate::sending::Sending;

/// A command that several entities decide as one. Their ids share a `{tag}`.
pub trait DecideTogether: Command {
    /// The answer to an accepted command.
    type Reply: Serialize + DeserializeOwned + std::marker::Send + 'static;

    /// Why it was understood and refused.
    type Rejection: Serialize + DeserializeOwned + std::marker::Send + 'static;

    /// The entities concerned.
    fn members(&self) -> Members;

    /// Decides on the present states of all members. Pure; it may run more than once.
    fn decide(&self, states: &States<'_>, context: &Context)
    -> Joint<Self::Reply, Self::Rejection>;
}

/// The entities of one command.
#[derive(Clone, Debug, Default)]
pub struct Members {
    keys: Vec<EntityKey>,
}

impl Members {
    /// No entity yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// And this one.
    #[must_use]
    pub fn and<E: Entity>(mut self, id: &E::Id) -> Self {
        let key = key_of::<E>(id);
        if !self.keys.contains(&key) {
            self.keys.push(key);
        }
        self
    }

    pub(crate) fn first(&self) -> Option<&EntityKey> {
        self.keys.first()
    }
}

fn key_of<E: Entity>(id: &E::Id) -> EntityKey {
    EntityKey::new(Text::from_static(E::NAME), id.as_text())
}

fn is_key_of<E: Entity>(key: &EntityKey, id: &str) -> bool {
    &key.id[..] == id && key.tenant.is_empty() && &key.kind[..] == E::NAME
}

/// The states of the members of a command.
pub struct States<'a> {
    residents: &'a Residents,
    members: &'a [EntityKey],
}

impl States<'_> {
    /// The state of a member; `None` if the command does not name it as one.
    pub fn of<E: Entity>(&self, id: &E::Id) -> Option<&E> {
        let is_it = |key: &&EntityKey| is_key_of::<E>(key, id.as_text());
        let member = self.members.iter().find(is_it)?;
        let state = self.residents.state::<E>(member).ok();
        state.map(|(state, _)| state)
    }
}

type Change = Box<dyn FnOnce(&mut AnyState) + std::marker::Send>;

/// What several entities decided as one: events of each and a reply, or a rejection.
#[must_use = "a decision counts only when it is returned"]
pub struct Joint<Reply, Rejection> {
    events: Vec<(Result<Draft, CommandError>, Change)>,
    statements: Vec<Statement>,
    verdict: Result<Reply, Rejection>,
}

impl<Reply, Rejection> Joint<Reply, Rejection> {
    /// Accepted; events and statements may be added.
    pub fn reply(reply: Reply) -> Self {
        Self {
            events: Vec::new(),
            statements: Vec::new(),
            verdict: Ok(reply),
        }
    }

    /// Understood and refused; nothing happens.
    pub fn reject(rejection: Rejection) -> Self {
        Self {
            events: Vec::new(),
            statements: Vec::new(),
            verdict: Err(rejection),
        }
    }

    /// And this happened to a member.
    pub fn emit<E: Evolve>(mut self, id: &E::Id, event: E::Event) -> Self {
        let draft = draft(key_of::<E>(id), &event);
        let change: Change = Box::new(move |state: &mut AnyState| {
            if let Some(state) = state.downcast_mut::<E>() {
                state.evolve(&event);
            }
        });
        self.events.push((draft, change));
        self
    }

    /// And a table beside the log changes with it; see [`Emit::beside`](crate::Emit::beside).
    pub fn beside(mut self, statement: Statement) -> Self {
        self.statements.push(statement);
        self
    }
}

/// Sends commands over several entities.
pub struct TogetherRef<'a> {
    pub(crate) router: &'a Router,
}

impl TogetherRef<'_> {
    /// A command for its members; sent when it is awaited. Fails with
    /// [`CommandError::NotTogether`] if they do not share a tag.
    pub fn send<C: DecideTogether>(&self, command: C) -> Sending<Combined<C>> {
        Sending::new(self.router, Combined::of(command))
    }
}

/// A command over several entities.
pub struct Combined<C> {
    command: C,
}

impl<C: DecideTogether> Combined<C> {
    pub(crate) fn of(command: C) -> Self {
        Self { command }
    }
}

type Outcome<C> =
    Result<Sent<<C as DecideTogether>::Reply>, SendError<<C as DecideTogether>::Rejection>>;

impl<C: DecideTogether> IntoFuture for Sending<Combined<C>> {
    type Output = Outcome<C>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + std::marker::Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let sent = self.submit();
        Box::pin(async move {
            let (answer, router, partition) = sent?;
            let closed = Err(SendError::Failed(CommandError::Closed));
            let (reply, offset) = answer.await.unwrap_or(closed)?;
            Ok(Sent::new(reply, router.position(partition, offset)))
        })
    }
}

type Submitted<C> = (oneshot::Receiver<Answered<C>>, Router, Partition);

/// Makes a command over several entities again that another node has sent.
pub(crate) fn accept<C: DecideTogether>(
    body: &[u8],
    envelope: Envelope,
) -> Result<Carried, CommandError> {
    let command = C::decode(body).map_err(not_json)?;
    let (work, _, answer) = joint(command, envelope)?;
    Ok((Box::new(work), Box::pin(told(answer))))
}

type Made<C> = (JointWork<C>, EntityKey, oneshot::Receiver<Answered<C>>);

/// Finds mistakes in a command before it is sent.
fn joint<C: DecideTogether>(command: C, envelope: Envelope) -> Result<Made<C>, CommandError> {
    let members = command.members().keys;
    let first = members.first().cloned();
    let first =
        first.ok_or_else(|| CommandError::Conflict("the command names no entity".into()))?;
    for member in &members {
        member.check()?;
        if member.slot() != first.slot() {
            let (one, other) = (first.to_string(), member.to_string());
            return Err(CommandError::NotTogether(one, other));
        }
    }
    let (answer, receiver) = oneshot::channel();
    let work = JointWork {
        envelope,
        members,
        command,
        changes: Vec::new(),
        verdict: None,
        answer,
    };
    Ok((work, first, receiver))
}

impl<C: DecideTogether> Sending<Combined<C>> {
    /// Puts the command on its way, awaited or not.
    fn submit(self) -> Result<Submitted<C>, CommandError> {
        let router = self.router;
        let (work, first, receiver) = joint(self.what.command, self.envelope)?;
        let partition = router.partition(&first.id);
        router.submit(partition, Box::new(work));
        Ok((receiver, router, partition))
    }
}

type Answered<C> =
    Result<(<C as DecideTogether>::Reply, Offset), SendError<<C as DecideTogether>::Rejection>>;

struct JointWork<C: DecideTogether> {
    envelope: Envelope,
    members: Vec<EntityKey>,
    command: C,
    /// By the place of the member that changes.
    changes: Vec<(usize, Change)>,
    verdict: Option<Result<C::Reply, C::Rejection>>,
    answer: oneshot::Sender<Answered<C>>,
}

impl<C: DecideTogether> Work for JointWork<C> {
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    fn carried(&self) -> Result<What, CommandError> {
        let mut body = Vec::new();
        self.command.encode(&mut body).map_err(not_json)?;
        Ok(What::Together {
            name: Text::from_static(C::NAME),
            body: body.into(),
        })
    }

    fn entities(&self) -> &[EntityKey] {
        &self.members
    }

    fn digest(&self) -> Result<u128, CommandError> {
        digest_of(&self.command, &self.members)
    }

    fn decide(&mut self, desk: &Desk<'_>) -> Result<Ruling, CommandError> {
        let Some(first) = self.members.first() else {
            return Err(CommandError::Conflict("the command names no entity".into()));
        };
        for member in &self.members {
            desk.residents.get(member)?;
        }
        let states = States {
            residents: desk.residents,
            members: &self.members,
        };
        let context = context(desk, first, 0, &self.envelope);
        let joint = guard(first, || self.command.decide(&states, &context))?;
        let remembered = self.envelope.id.is_some();
        self.changes.clear();
        let mut drafts = Vec::with_capacity(joint.events.len());
        let mut statements = Vec::new();
        let (rejected, reply) = match &joint.verdict {
            Ok(reply) => {
                for (draft, change) in joint.events {
                    let draft = draft?;
                    let is_it = |member: &EntityKey| *member == draft.entity;
                    let Some(member) = self.members.iter().position(is_it) else {
                        let reason = format!(
                            "{} has events but is no member of the command",
                            draft.entity
                        );
                        return Err(CommandError::Conflict(reason));
                    };
                    drafts.push(draft);
                    self.changes.push((member, change));
                }
                statements = joint.statements;
                (false, remembered.then(|| to_json(reply)).transpose()?)
            }
            Err(rejection) => (true, remembered.then(|| to_json(rejection)).transpose()?),
        };
        self.verdict = Some(joint.verdict);
        Ok(Ruling::Decided(Decided {
            drafts,
            statements,
            rejected,
            reply,
        }))
    }

    fn evolve(&mut self, residents: &mut Residents) -> Result<(), CommandError> {
        for (member, change) in self.changes.drain(..) {
            let key = &self.members[member];
            let state = residents.get_mut(key)?.state.as_mut();
            guard(key, || change(state))?;
        }
        Ok(())
    }

    fn answer(self: Box<Self>, answer: Answer) {
        let unread = |error: serde_json::Error| {
            SendError::Failed(CommandError::Unknown(format!(
                "its answer cannot be read: {error}"
            )))
        };
        let result = match (answer, self.verdict) {
            (Answer::Durable(offset), Some(Ok(reply))) => Ok((reply, offset)),
            (Answer::Durable(_), Some(Err(rejection))) => Err(SendError::Rejected(rejection)),
            (Answer::Durable(_), None) => Err(SendError::Failed(CommandError::Closed)),
            (Answer::Again(reply, _), _) if reply.rejected => {
                let rejection = serde_json::from_slice(&reply.body).map_err(unread);
                rejection.and_then(|rejection| Err(SendError::Rejected(rejection)))
            }
            (Answer::Again(reply, offset), _) => serde_json::from_slice(&reply.body)
                .map_err(unread)
                .map(|reply| (reply, offset)),
            (Answer::Failed(error), _) => Err(SendError::Failed(error)),
        };
        let _ = self.answer.send(result);
    }
}
