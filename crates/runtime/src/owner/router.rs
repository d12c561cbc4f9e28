//! Takes work to the owner of its partition.

use std::future::Future;
use std::sync::Arc;

use everfold_engine::slot::Partition;
use everfold_engine::{EntityKey, Layout, Offset, Position, World};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::backlog::{Allowed, Backlog};
use super::single::Single;
use super::work::{Answer, Envelope, Work};
use crate::entity::{Command, Decide};
use crate::error::{CommandError, SendError};
use crate::remote::{Duty, Remote};

/// An accepted command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent<Reply> {
    /// The answer.
    pub reply: Reply,
    position: Position,
}

impl<Reply> Sent<Reply> {
    pub(crate) fn new(reply: Reply, position: Position) -> Self {
        Self { reply, position }
    }

    /// A token: a query that is given it reflects this command.
    pub fn position(&self) -> &Position {
        &self.position
    }
}

/// Knows who owns what.
#[derive(Clone)]
pub(crate) struct Router {
    inner: Arc<Inner>,
}

struct Inner {
    layout: Layout,
    start: Position,
    inboxes: Vec<mpsc::Sender<Box<dyn Work>>>,
    backlogs: Vec<Arc<Backlog>>,
    world: Arc<dyn World>,
    /// The way to other nodes, if there are any.
    remote: Option<Arc<Remote>>,
}

impl Router {
    pub(crate) fn new(
        layout: Layout,
        start: Position,
        inboxes: Vec<mpsc::Sender<Box<dyn Work>>>,
        allowed: Allowed,
        world: Arc<dyn World>,
        remote: Option<Remote>,
    ) -> Self {
        let backlog = |_| Arc::new(Backlog::new(allowed));
        Self {
            inner: Arc::new(Inner {
                layout,
                start,
                inboxes,
                backlogs: layout.all().map(backlog).collect(),
                world,
                remote: remote.map(Arc::new),
            }),
        }
    }

    pub(crate) fn world(&self) -> &Arc<dyn World> {
        &self.inner.world
    }

    pub(crate) fn layout(&self) -> Layout {
        self.inner.layout
    }

    /// The log's beginning.
    pub(crate) fn start(&self) -> &Position {
        &self.inner.start
    }

    pub(crate) fn partition(&self, id: &str) -> Partition {
        self.inner.layout.partition(id)
    }

    /// The token of an offset.
    pub(crate) fn position(&self, partition: Partition, offset: Offset) -> Position {
        self.inner.start.clone().with(partition, offset)
    }

    pub(crate) fn remote(&self) -> Option<&Arc<Remote>> {
        self.inner.remote.as_ref()
    }

    pub(crate) fn backlog(&self, partition: Partition) -> Option<&Arc<Backlog>> {
        self.inner.backlogs.get(partition.index())
    }

    /// What is said to who is refused because too much waits.
    pub(crate) fn overloaded(&self, partition: Partition) -> CommandError {
        let backlog = self.backlog(partition);
        let hint = backlog.map(|backlog| backlog.hint(self.inner.world.elapsed()));
        CommandError::Overloaded {
            partition,
            retry_after: hint.unwrap_or_default(),
        }
    }

    /// Hands work to the owner of a partition, wherever it is, if there is room for one more.
    pub(crate) fn submit(&self, partition: Partition, work: Box<dyn Work>) {
        self.submit_sized(partition, work, None);
    }

    /// The same for work of so many bytes.
    pub(crate) fn submit_sized(
        &self,
        partition: Partition,
        mut work: Box<dyn Work>,
        bytes: Option<usize>,
    ) {
        if let Some(backlog) = self.backlog(partition) {
            let bytes = || bytes.unwrap_or_else(|| work.bytes());
            match backlog.admit(bytes, || self.inner.world.elapsed()) {
                Ok(place) => work.envelope_mut().place = place,
                Err(retry_after) => {
                    self.inner.world.reached("router: too much waits");
                    return work.answer(Answer::Failed(CommandError::Overloaded {
                        partition,
                        retry_after,
                    }));
                }
            }
        }
        match self.remote() {
            Some(remote) if remote.duty(partition) != Duty::Own => {
                remote.carry(self.clone(), partition, work);
            }
            _ => self.submit_here(partition, work),
        }
    }

    /// Work that this node has taken and cannot do. Without other nodes it comes back.
    pub(crate) fn pass_on(
        &self,
        partition: Partition,
        work: Box<dyn Work>,
    ) -> Option<Box<dyn Work>> {
        let Some(remote) = self.remote() else {
            return Some(work);
        };
        remote.carry(self.clone(), partition, work);
        None
    }

    /// Hands work to this node's owner; work that cannot be taken is answered at once.
    pub(crate) fn submit_here(&self, partition: Partition, work: Box<dyn Work>) {
        let sent = match self.inner.inboxes.get(partition.index()) {
            Some(inbox) => inbox.try_send(work),
            None => Err(TrySendError::Closed(work)),
        };
        match sent {
            Ok(()) => {}
            Err(TrySendError::Full(work)) => {
                work.answer(Answer::Failed(self.overloaded(partition)));
            }
            Err(TrySendError::Closed(work)) => work.answer(Answer::Failed(CommandError::Closed)),
        }
    }

    /// Sends a typed command; it is on its way when this returns, awaited or not.
    pub(crate) fn send<E: Decide<C>, C: Command>(
        &self,
        entity: EntityKey,
        command: C,
        envelope: Envelope,
    ) -> impl Future<Output = Result<Sent<E::Reply>, SendError<E::Rejection>>> + Send + 'static
    {
        let partition = self.partition(&entity.id);
        let refused = entity.check().err().map(CommandError::from);
        let (work, answer) = Single::<E, C>::new(entity, command, envelope);
        match refused {
            None => self.submit(partition, Box::new(work)),
            Some(error) => Box::new(work).answer(Answer::Failed(error)),
        }
        let router = self.clone();
        async move {
            let (reply, offset) = answer
                .await
                .unwrap_or(Err(SendError::Failed(CommandError::Closed)))?;
            Ok(Sent::new(reply, router.position(partition, offset)))
        }
    }
}
