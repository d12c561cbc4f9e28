//! One entity, from wherever it is asked.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use everfold_engine::engine::Engine;
use everfold_engine::{EntityKey, Offset, Position, Record, Text};

use crate::entity::{Command, Decide, Entity};
use crate::error::{CommandError, SendError};
use crate::key::Key;
use crate::owner::{Router, Sent, Strength, Watch};
use crate::query::{self, Placed};
use crate::sending::Sending;

/// One entity of a node, wherever its state is.
pub struct EntityRef<'a, E> {
    router: &'a Router,
    /// Of a node; a client has none.
    engine: Option<&'a Arc<dyn Engine>>,
    entity: EntityKey,
    types: PhantomData<fn() -> E>,
}

impl<'a, E: Entity> EntityRef<'a, E> {
    pub(crate) fn new(router: &'a Router, engine: Option<&'a Arc<dyn Engine>>, id: &E::Id) -> Self {
        Self {
            router,
            engine,
            entity: EntityKey::new(Text::from_static(E::NAME), id.as_text()),
            types: PhantomData,
        }
    }

    pub(crate) fn key(&self) -> &EntityKey {
        &self.entity
    }

    /// A command for this entity; sent when it is awaited.
    pub fn send<C: Command>(&self, command: C) -> Sending<Commanded<E, C>>
    where
        E: Decide<C>,
    {
        let what = Commanded {
            entity: self.entity.clone(),
            command,
            types: PhantomData,
        };
        Sending::new(self.router, what)
    }

    /// What `look` sees in the entity's newest state: linearizable.
    ///
    /// # Errors
    /// [`CommandError`] as for a command.
    pub fn read<T, F>(
        &self,
        mut look: F,
    ) -> impl Future<Output = Result<T, CommandError>> + use<E, T, F>
    where
        T: std::marker::Send + 'static,
        F: FnMut(&E, u64) -> T + std::marker::Send + 'static,
    {
        self.watch(Strength::Linearizable, move |state, version| {
            Some(look(state, version))
        })
    }

    /// What `look` sees in a durable state that may not be the newest; at least as new as any token
    /// this node has handed out for the entity's partition.
    ///
    /// # Errors
    /// [`CommandError`] as for a command.
    pub fn read_eventual<T, F>(
        &self,
        mut look: F,
    ) -> impl Future<Output = Result<T, CommandError>> + use<E, T, F>
    where
        T: std::marker::Send + 'static,
        F: FnMut(&E, u64) -> T + std::marker::Send + 'static,
    {
        self.watch(Strength::Eventual, move |state, version| {
            Some(look(state, version))
        })
    }

    /// What `look` sees once the partition reflects a token, for which it waits for at most
    /// `patience`: session consistency.
    ///
    /// # Errors
    /// [`CommandError`] as for a command; [`CommandError::Conflict`] for a token of another log;
    /// [`CommandError::Deadline`] for one that the log does not reach in time.
    pub async fn read_after<T: std::marker::Send + 'static>(
        &self,
        position: &Position,
        patience: Duration,
        mut look: impl FnMut(&E, u64) -> T + std::marker::Send + 'static,
    ) -> Result<T, CommandError> {
        let here = self.router.start();
        position
            .check(here)
            .map_err(|error| CommandError::Conflict(error.to_string()))?;
        let partition = self.router.partition(&self.entity.id);
        let offset = position.offset(partition);
        let deadline = self.router.world().sleep(patience);
        let seen = async {
            // The owner that a client asks proves that it knows the newest.
            if let Some(engine) = self.engine
                && offset > Offset(0)
            {
                let reached = engine.wait(partition, Offset(offset.0 - 1)).await;
                reached.map_err(|error| CommandError::Unavailable {
                    partition,
                    reason: error.to_string(),
                })?;
            }
            let look = move |state: &E, version| Some(look(state, version));
            self.watch(Strength::After(offset), look).await
        };
        tokio::select! { biased;
            seen = seen => seen,
            () = deadline => Err(CommandError::Deadline),
        }
    }

    /// Waits until `look` finds what it looks for in a durable state, for at most `patience`.
    ///
    /// # Errors
    /// [`CommandError::Deadline`] if it does not.
    pub fn until<T, F>(
        &self,
        patience: Duration,
        mut look: F,
    ) -> impl Future<Output = Result<T, CommandError>> + use<E, T, F>
    where
        T: std::marker::Send + 'static,
        F: FnMut(&E) -> Option<T> + std::marker::Send + 'static,
    {
        let deadline = self.router.world().sleep(patience);
        let found = self.watch(Strength::Eventual, move |state, _| look(state));
        async move {
            tokio::select! { biased;
                found = found => found,
                () = deadline => Err(CommandError::Deadline),
            }
        }
    }

    /// Who has the entity, as far as it is known here.
    pub fn placed(&self) -> Placed {
        Placed::of(self.router, self.router.partition(&self.entity.id))
    }

    /// The entity's events with a version above `after`, at most `limit`; from the log, or for a
    /// client from the owner, or else from another node.
    ///
    /// # Errors
    /// [`CommandError::Unavailable`] if nobody can read the log.
    pub async fn history(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Record>>, CommandError> {
        let Some(engine) = self.engine else {
            return query::history(self.router, &self.entity, after, limit).await;
        };
        let partition = self.router.partition(&self.entity.id);
        let read = engine.read_entity(partition, &self.entity, after, limit);
        read.await.map_err(|error| CommandError::Unavailable {
            partition,
            reason: error.to_string(),
        })
    }

    fn watch<T, F>(
        &self,
        strength: Strength,
        look: F,
    ) -> impl Future<Output = Result<T, CommandError>> + use<E, T, F>
    where
        T: std::marker::Send + 'static,
        F: FnMut(&E, u64) -> Option<T> + std::marker::Send + 'static,
    {
        let router = self.router;
        let refused = self.entity.check().err();
        let (watch, answer) = Watch::<E, T, F>::new(self.entity.clone(), strength, look);
        if refused.is_none() {
            router.submit(router.partition(&self.entity.id), Box::new(watch));
        }
        async move {
            if let Some(refused) = refused {
                return Err(refused.into());
            }
            answer
                .await
                .unwrap_or(Err(CommandError::Closed))
                .map(|(seen, _)| seen)
        }
    }
}

/// A command to one entity.
pub struct Commanded<E, C> {
    entity: EntityKey,
    command: C,
    types: PhantomData<fn() -> E>,
}

type Answer<E, C> = Result<Sent<<E as Decide<C>>::Reply>, SendError<<E as Decide<C>>::Rejection>>;

impl<E: Decide<C>, C: Command> IntoFuture for Sending<Commanded<E, C>> {
    type Output = Answer<E, C>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Commanded {
            entity, command, ..
        } = self.what;
        Box::pin(self.router.send::<E, C>(entity, command, self.envelope))
    }
}
