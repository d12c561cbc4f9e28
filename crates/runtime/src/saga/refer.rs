//! Instances of a saga, as an application and its operators reach them.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use everfold_engine::{EntityKey, Text};
use tokio::sync::oneshot;

use super::definition::{Definitions, SagaData};
use super::event::{Json, Operation, SagaEnd};
use super::instance::{Instance, Phase, SagaStatus};
use super::turn::Input;
use super::work::{Answered, SagaRejection, SagaWork};
use crate::error::{CommandError, SendError};
use crate::node::Node;
use crate::owner::{Envelope, Router, Sent, Strength, Watch, not_json};
use crate::sending::Sending;

/// The instances of one saga.
pub struct SagaRef<'a, D> {
    pub(crate) node: &'a Node,
    pub(crate) name: &'static str,
    pub(crate) definitions: Arc<Definitions>,
    pub(crate) types: PhantomData<fn() -> D>,
}

/// How an instance has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SagaOutcome<D> {
    /// In which way.
    pub end: SagaEnd,
    /// Why, if it was not completed.
    pub reason: Option<String>,
    /// What it was about, as the answers have left it.
    pub data: D,
}

impl<D: SagaData> SagaRef<'_, D> {
    fn key(&self, id: &str) -> EntityKey {
        EntityKey::new(Text::from_static(self.name), id)
    }

    /// Begins an instance; sent when it is awaited. To begin it again with the same data changes
    /// nothing, with other data it is rejected.
    pub fn start(&self, id: impl Into<String>, data: D) -> Sending<Starting> {
        let version = self.definitions.keys().next_back().copied().unwrap_or(1);
        let input = Json::of(&data).map(|data| Input::Begin { version, data });
        let what = Starting(self.told(&id.into(), input));
        Sending::new(&self.node.router, what)
    }

    /// Helps an instance, or stops it; sent when it is awaited. What was set aside because its
    /// definition was missing is tried again as well, unless it ends by [`Operation::Force`].
    pub fn act(&self, id: impl Into<String>, operation: Operation) -> Sending<Acting> {
        let what = Acting(self.told(&id.into(), Ok(Input::Operate { operation })));
        Sending::new(&self.node.router, what)
    }

    fn told(&self, id: &str, input: Result<Input, serde_json::Error>) -> Told {
        Told {
            definitions: self.definitions.clone(),
            entity: self.key(id),
            input: input.map_err(not_json),
        }
    }

    /// Waits until an instance has ended, for at most `patience`. It may not have begun yet.
    ///
    /// # Errors
    /// [`CommandError::Deadline`] if it has not; [`CommandError::Encoding`] if its data does not fit
    /// the type.
    pub async fn outcome(
        &self,
        id: &str,
        patience: Duration,
    ) -> Result<SagaOutcome<D>, CommandError> {
        let ended = self.watch(id, Strength::Eventual, |instance, _| match instance.phase {
            Phase::Ended(end) => Some((end, instance.reason.clone(), instance.data.clone())),
            _ => None,
        });
        let deadline = self.node.world().sleep(patience);
        let (end, reason, data) = tokio::select! { biased;
            ended = ended => ended?,
            () = deadline => return Err(CommandError::Deadline),
        };
        let data = data.unwrap_or_else(Json::null);
        let data = serde_json::from_str(data.as_str()).map_err(not_json)?;
        Ok(SagaOutcome { end, reason, data })
    }

    /// How an instance stands now; none if it was never begun.
    ///
    /// # Errors
    /// [`CommandError`] as for a linearizable read of an entity.
    pub async fn status(&self, id: &str) -> Result<Option<SagaStatus>, CommandError> {
        let entity = self.key(id);
        let look = move |instance: &Instance, _| {
            let begun = instance.phase != Phase::New;
            Some(begun.then(|| instance.status(&entity)))
        };
        self.watch(id, Strength::Linearizable, look).await
    }

    fn watch<T, F>(
        &self,
        id: &str,
        strength: Strength,
        look: F,
    ) -> impl Future<Output = Result<T, CommandError>> + Send + use<T, F, D>
    where
        T: Send + 'static,
        F: FnMut(&Instance, u64) -> Option<T> + Send + 'static,
    {
        let entity = self.key(id);
        let refused = entity.check().err();
        let router = &self.node.router;
        let partition = router.partition(id);
        let (watch, answer) = Watch::<Instance, T, F>::new(entity, strength, look);
        if refused.is_none() {
            router.submit(partition, Box::new(watch));
        }
        async move {
            if let Some(refused) = refused {
                return Err(refused.into());
            }
            let seen = answer.await.unwrap_or(Err(CommandError::Closed));
            seen.map(|(seen, _)| seen)
        }
    }
}

struct Told {
    definitions: Arc<Definitions>,
    entity: EntityKey,
    input: Result<Input, CommandError>,
}

/// An instance about to begin.
pub struct Starting(Told);

/// An operator's hand on an instance.
pub struct Acting(Told);

type Done = Result<Sent<()>, SendError<SagaRejection>>;
type Delivery = Pin<Box<dyn Future<Output = Done> + Send>>;

impl IntoFuture for Sending<Starting> {
    type Output = Done;
    type IntoFuture = Delivery;

    fn into_future(self) -> Delivery {
        deliver(self.router, self.envelope, self.what.0)
    }
}

impl IntoFuture for Sending<Acting> {
    type Output = Done;
    type IntoFuture = Delivery;

    fn into_future(self) -> Delivery {
        deliver(self.router, self.envelope, self.what.0)
    }
}

fn deliver(router: Router, envelope: Envelope, told: Told) -> Delivery {
    let partition = router.partition(&told.entity.id);
    let submitted: Result<oneshot::Receiver<Answered>, CommandError> = (|| {
        told.entity.check()?;
        let (work, answer) = SagaWork::new(
            told.definitions,
            told.entity,
            told.input?,
            envelope,
            router.world(),
        );
        router.submit(partition, Box::new(work));
        Ok(answer)
    })();
    Box::pin(async move {
        let closed = Err(SendError::Failed(CommandError::Closed));
        let offset = submitted?.await.unwrap_or(closed)?;
        Ok(Sent::new((), router.position(partition, offset)))
    })
}
