//! The store as a node reaches it over the network: every call is a message, every answer another.

use std::sync::Arc;
use std::time::Duration;

use everfold::engine::coordination::Coordinator;
use everfold::engine::engine::*;
use everfold::engine::{Bytes, EntityKey, Offset, Partition, Record, Stamp, World};
use tokio::sync::oneshot;

use crate::network::{Message, Network, Place};
use crate::store::Store;

/// How long a node waits for an answer of the store.
const PATIENCE: Duration = Duration::from_millis(600);
/// How long the store holds a question for what is new.
const HELD: Duration = Duration::from_millis(1500);

pub(crate) struct Remote {
    pub(crate) identity: Identity,
    pub(crate) limits: Limits,
    pub(crate) indexed: bool,
    pub(crate) line: Line,
    pub(crate) coordinator: Option<Arc<dyn Coordinator>>,
}

/// A node's way to the store.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) node: u32,
    /// The node's.
    pub(crate) world: Arc<dyn World>,
    pub(crate) store: Arc<Store>,
    pub(crate) network: Arc<Network>,
}

type Job<T> = Box<dyn FnOnce(Arc<dyn Engine>, Arc<dyn World>) -> BoxFuture<'static, T> + Send>;

impl Line {
    /// Asks the store; `None` if no answer came: it may or may not have been done.
    async fn call<T: Send + 'static>(
        &self,
        patience: Duration,
        answer: Message,
        job: Job<T>,
    ) -> Option<T> {
        let (tell, told) = oneshot::channel();
        let here = Place::Node(self.node);
        let ways = self.network.travel(here, Place::Store, Message::Request);
        match ways.into_iter().min() {
            // The second copy of a request is recognised by its number.
            Some(delay) => {
                let (store, network) = (self.store.clone(), self.network.clone());
                let node = self.node;
                self.network.after(delay, move || {
                    serve(&store, &network, node, answer, job, tell);
                });
            }
            None => self.network.never_answer(tell),
        }
        let mut over = self.world.sleep(patience);
        tokio::select! { biased;
            told = told => told.ok(),
            () = &mut over => None,
        }
    }

    /// A call that may be repeated.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(Arc<dyn Engine>) -> BoxFuture<'static, T> + Send + 'static,
    ) -> Option<T> {
        let job: Job<T> = Box::new(move |engine, _| job(engine));
        self.call(PATIENCE, Message::Answer, job).await
    }
}

/// What happens when a request has arrived: nothing, if nobody is there.
fn serve<T: Send + 'static>(
    store: &Arc<Store>,
    network: &Arc<Network>,
    node: u32,
    answer: Message,
    job: Job<T>,
    tell: oneshot::Sender<T>,
) {
    let Some(running) = store.running() else {
        return;
    };
    let world = running.process.world();
    let (store, network, inner) = (store.clone(), network.clone(), world.clone());
    let served = async move {
        let engine = store.watched(node, running.engine);
        let result = job(engine, inner).await;
        let ways = network.travel(Place::Store, Place::Node(node), answer);
        match ways.into_iter().min() {
            Some(delay) => network.after(delay, move || drop(tell.send(result))),
            None => network.never_answer(tell),
        }
    };
    world.spawn("serve a node", Box::pin(served));
}

pub(crate) const SILENT: &str = "the store did not answer";

fn owner_silent() -> OwnerError {
    OwnerError::Unavailable(SILENT.into())
}

fn read_silent() -> ReadError {
    ReadError::Unavailable(SILENT.into())
}

/// One method: what is asked, and what silence means.
macro_rules! asks {
    ($self:ident, $silence:expr, |$engine:ident| $call:expr) => {
        Box::pin(async move {
            let asked = $self
                .line
                .ask(move |$engine| Box::pin(async move { $call.await }));
            asked.await.unwrap_or_else(|| Err($silence))
        })
    };
}

impl Engine for Remote {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn claim(&self, partition: Partition) -> BoxFuture<'_, Result<Claim, OwnerError>> {
        asks!(self, owner_silent(), |engine| engine.claim(partition))
    }

    fn renew(
        &self,
        partition: Partition,
        epoch: Epoch,
        floor: Stamp,
    ) -> BoxFuture<'_, Result<(), OwnerError>> {
        asks!(self, owner_silent(), |engine| engine
            .renew(partition, epoch, floor))
    }

    fn release(&self, partition: Partition, epoch: Epoch) -> BoxFuture<'_, Result<(), OwnerError>> {
        asks!(self, owner_silent(), |engine| engine
            .release(partition, epoch))
    }

    fn confirm(&self, partition: Partition, epoch: Epoch) -> BoxFuture<'_, Result<(), OwnerError>> {
        asks!(self, owner_silent(), |engine| engine
            .confirm(partition, epoch))
    }

    fn append(
        &self,
        partition: Partition,
        epoch: Epoch,
        batch: Batch,
    ) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async move {
            let job: Job<_> = Box::new(move |engine, _| {
                Box::pin(async move { engine.append(partition, epoch, batch).await })
            });
            let answer = self
                .line
                .call(PATIENCE, Message::Acknowledgement, job)
                .await;
            answer.unwrap_or_else(|| Err(AppendError::Unknown(SILENT.into())))
        })
    }

    fn read(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Chunk, ReadError>> {
        asks!(self, read_silent(), |engine| engine
            .read(partition, after, limit))
    }

    fn read_chained(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Chunk, ReadError>> {
        asks!(self, read_silent(), |engine| engine
            .read_chained(partition, after, limit))
    }

    fn safe_head(&self, partition: Partition) -> BoxFuture<'_, Result<Offset, ReadError>> {
        asks!(self, read_silent(), |engine| engine.safe_head(partition))
    }

    fn wait(
        &self,
        partition: Partition,
        after: Offset,
    ) -> BoxFuture<'_, Result<Offset, ReadError>> {
        Box::pin(async move {
            loop {
                let job: Job<Result<Offset, ReadError>> = Box::new(move |engine, world| {
                    Box::pin(async move {
                        let mut held = world.sleep(HELD);
                        tokio::select! { biased;
                            head = engine.wait(partition, after) => head,
                            () = &mut held => Ok(after),
                        }
                    })
                });
                let asked = self.line.call(HELD + PATIENCE, Message::Answer, job);
                match asked.await {
                    Some(Ok(head)) if head <= after => {}
                    Some(answer) => return answer,
                    None => self.line.world.sleep(Duration::from_millis(50)).await,
                }
            }
        })
    }

    fn indexes_entities(&self) -> bool {
        self.indexed
    }

    fn read_entity<'a>(
        &'a self,
        partition: Partition,
        entity: &'a EntityKey,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Arc<Record>>, ReadError>> {
        let entity = entity.clone();
        asks!(self, read_silent(), |engine| engine
            .read_entity(partition, &entity, after, limit))
    }

    fn find<'a>(
        &'a self,
        partition: Partition,
        query: &'a Query,
        after: Offset,
        limit: usize,
    ) -> BoxFuture<'a, Result<Chunk, ReadError>> {
        let query = query.clone();
        asks!(self, read_silent(), |engine| engine
            .find(partition, &query, after, limit))
    }

    fn put(&self, put: Put) -> BoxFuture<'_, Result<Revision, PutError>> {
        asks!(self, PutError::Unavailable(SILENT.into()), |engine| engine
            .put(put))
    }

    fn revision<'a>(&'a self, area: &'a Area) -> BoxFuture<'a, Result<Revision, ReadError>> {
        let area = area.clone();
        asks!(self, read_silent(), |engine| engine.revision(&area))
    }

    fn get<'a>(
        &'a self,
        area: &'a Area,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, ReadError>> {
        let (area, key) = (area.clone(), key.to_vec());
        asks!(self, read_silent(), |engine| engine.get(&area, &key))
    }

    fn scan<'a>(
        &'a self,
        area: &'a Area,
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Entries, ReadError>> {
        let (area, after) = (area.clone(), after.map(<[u8]>::to_vec));
        asks!(self, read_silent(), |engine| engine.scan(
            &area,
            after.as_deref(),
            limit
        ))
    }

    fn coordinator(&self) -> Option<Arc<dyn Coordinator>> {
        self.coordinator.clone()
    }

    fn doctor(&self) -> Vec<Finding> {
        Vec::new()
    }

    fn durability(&self) -> String {
        "what the store says".into()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        // The store is not this node's to close.
        Box::pin(async {})
    }
}
