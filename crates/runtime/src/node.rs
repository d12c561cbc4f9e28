//! A running application.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use everfold_engine::coordination::{Held, Role};
use everfold_engine::engine::{BoxFuture, Engine, Epoch, OwnerError, ReadError};
use everfold_engine::indexed::Indexed;
use everfold_engine::slot::Partition;
use everfold_engine::{Bytes, EntityKey, Offset, Position, Text, World};
use tokio::sync::{mpsc, watch};

use crate::application::{Application, Sagas, StartError};
use crate::boundary::BoundaryRef;
use crate::entity::Entity;
use crate::entity_ref::EntityRef;
use crate::error::{CommandError, QueryError};
use crate::handler::{
    Feed, Ground, HandlerStatus, Ownership, Parked, ReactorTask, RunningReactor, check_schemas,
};
use crate::inspector;
use crate::key::Key;
use crate::options::{NodeOptions, StateOptions};
use crate::owner::{Loader, Owner, OwnerReport, OwnerStatus, Router};
use crate::query::{Directory, Entities, Named, Placed, Source, Surveyor};
use crate::remote::{Duty, Membership, Remote, receive};
use crate::schema::Registry;
use crate::stream::StreamRef;
use crate::timers::TimerClock;
use crate::together::TogetherRef;
use crate::view::{Row, Running, RunningView, View, ViewRef};

/// A running application: takes commands, answers queries.
pub struct Node {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) router: Router,
    pub(crate) registry: Arc<Registry>,
    pub(crate) source: Source,
    views: Vec<Arc<dyn Running>>,
    reactors: Vec<RunningReactor>,
    pub(crate) sagas: Sagas,
    owners: Vec<Arc<OwnerStatus>>,
    ownerships: Arc<[watch::Receiver<Ownership>]>,
    state: StateOptions,
    timers: TimerClock,
    ended: Vec<watch::Receiver<bool>>,
    stop_handlers: watch::Sender<bool>,
    stop_owners: watch::Sender<bool>,
}

impl Node {
    pub(crate) async fn start(
        application: Application,
        registry: Registry,
        sagas: Sagas,
        engine: Arc<dyn Engine>,
        world: Arc<dyn World>,
        options: NodeOptions,
        membership: Option<Membership>,
    ) -> Result<Self, StartError> {
        let engine = Indexed::over(engine, world.random());
        let layout = engine.identity().layout;
        let registry = Arc::new(registry);
        // Before anything is claimed: a build that cannot run must not fence one that does.
        check_schemas(engine.as_ref(), &registry, None).await?;
        let (stop_owners, closing) = watch::channel(false);
        let (stop_handlers, stop) = watch::channel(false);
        let (mut inboxes, mut states, mut owners, mut ended) = (vec![], vec![], vec![], vec![]);
        let share = StateOptions {
            memory_bytes: options.state.memory_bytes / usize::from(layout.partitions),
            ..options.state
        };
        let mut waiting = Vec::new();
        for _ in layout.all() {
            let (sender, inbox) = mpsc::channel(options.waiting_commands.max(1));
            inboxes.push(sender);
            waiting.push(inbox);
        }
        let clustered = membership.is_some();
        let remote = membership.map(|membership| Remote {
            membership,
            engine: Some(engine.clone()),
            registry: registry.clone(),
            options: share,
        });
        let start = engine.identity().start();
        let router = Router::new(
            layout,
            start,
            inboxes,
            options.allowed(),
            world.clone(),
            remote,
        );
        for (partition, inbox) in layout.all().zip(waiting) {
            let (ready, state) = watch::channel(None);
            let status = Arc::new(OwnerStatus::default());
            let owner = Owner {
                partition,
                engine: engine.clone(),
                world: world.clone(),
                registry: registry.clone(),
                inbox,
                closing: closing.clone(),
                ready,
                status: status.clone(),
                options: share,
                router: router.clone(),
                warm: None,
            };
            let (end, over) = watch::channel(false);
            let task = async move {
                owner.run().await;
                end.send_replace(true);
            };
            world.spawn("owner", Box::pin(task));
            states.push(state);
            owners.push(status);
            ended.push(over);
        }
        let mut node = Self {
            engine: engine.clone(),
            router: router.clone(),
            registry: registry.clone(),
            source: Source {
                router: router.clone(),
                here: Some(Arc::new(Surveyor {
                    engine: engine.clone(),
                    registry: registry.clone(),
                    router: router.clone(),
                    options: share,
                    directory: Directory::new(world.random()),
                })),
            },
            views: Vec::new(),
            reactors: Vec::new(),
            sagas,
            owners,
            ownerships: states.clone().into(),
            state: options.state,
            timers: options.timers.clone(),
            ended,
            stop_handlers,
            stop_owners,
        };
        if clustered {
            note_schemas(&engine, &registry, &world, &states);
        } else {
            node = node.claim(&mut states).await?;
        }
        let feed = |partition: Partition| {
            let status = node.owners[partition.index()].clone();
            let mixed = clustered.then(|| (registry.clone(), status));
            Arc::new(Feed::new(engine.clone(), partition, mixed))
        };
        let feeds = layout.all().map(feed).collect();
        let ground = Ground {
            engine,
            world,
            router,
            feeds,
            owners: states.into(),
            timers: options.timers.clone(),
            stop,
        };
        for view in application.views {
            node.views.push(view.start(ground.clone(), &registry));
        }
        for reactor in application.reactors {
            node.reactors
                .push(ReactorTask(reactor).start(&ground, &registry));
        }
        Ok(node)
    }

    /// Waits until everything is owned, and notes the types of events.
    async fn claim(self, states: &mut [watch::Receiver<Ownership>]) -> Result<Self, StartError> {
        let noted = match claimed(states).await {
            Ok(epoch) => check_schemas(self.engine.as_ref(), &self.registry, Some(epoch)).await,
            Err(error) => Err(error.into()),
        };
        match noted {
            Ok(()) => Ok(self),
            Err(error) => {
                self.close().await;
                Err(error)
            }
        }
    }

    /// Does what another node asks for; the answer is what that node's [`Peers`](crate::Peers)
    /// expects. On a node that was not opened by [`Application::join_on`] it is done here in any case.
    pub fn answer(&self, request: &[u8]) -> BoxFuture<'static, Bytes> {
        receive(self, request)
    }

    /// One entity.
    pub fn entity<E: Entity>(&self, id: impl Into<E::Id>) -> EntityRef<'_, E> {
        EntityRef::new(&self.router, Some(&self.engine), &id.into())
    }

    /// The entities of a type, to be found by range and filter, wherever they are owned.
    pub fn entities<E: Entity>(&self) -> Entities<E> {
        Entities::new(self.source.clone(), Text::from_static(E::NAME))
    }

    /// The entities of a type known by its name, their states as JSON.
    pub fn entities_named(&self, kind: impl Into<Text>) -> Entities<Named> {
        Entities::new(self.source.clone(), kind.into())
    }

    /// Who has which partition, as far as this node knows.
    pub fn placed(&self) -> Vec<Placed> {
        Placed::all(&self.router)
    }

    /// Commands over several entities that share a tag.
    pub fn together(&self) -> TogetherRef<'_> {
        TogetherRef {
            router: &self.router,
        }
    }

    /// A stream by name, `type-id`, without code.
    pub fn stream(&self, name: &str) -> StreamRef<'_> {
        StreamRef {
            node: self,
            entity: EntityKey::of_stream(name),
        }
    }

    /// One instance of a declared boundary.
    pub fn boundary(&self, name: &'static str, id: impl Into<Text>) -> BoundaryRef<'_> {
        BoundaryRef {
            node: self,
            entity: EntityKey::new(Text::from_static(name), id),
        }
    }

    /// A view that runs here.
    pub fn view<K: Key, R: Row>(&self, view: &View<K, R>) -> ViewRef<K, R> {
        let running = self.running(view.name, view.version);
        let running = running.and_then(|view| view.as_any().downcast::<RunningView<R>>().ok());
        let unknown = || QueryError::UnknownView(view.name.to_owned());
        ViewRef {
            view: running.ok_or_else(unknown),
            keys: PhantomData,
        }
    }

    pub(crate) fn running(&self, view: &str, version: u32) -> Option<Arc<dyn Running>> {
        let same =
            |running: &&Arc<dyn Running>| running.name() == view && running.version() == version;
        self.views.iter().find(same).cloned()
    }

    /// The engine that the node runs on.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// The world that the node runs in.
    pub fn world(&self) -> &Arc<dyn World> {
        self.router.world()
    }

    /// Everything that is settled now.
    ///
    /// # Errors
    /// [`ReadError`] if the engine does not answer.
    pub async fn position(&self) -> Result<Position, ReadError> {
        let mut position = self.engine.identity().start();
        for partition in self.engine.identity().layout.all() {
            position.advance(partition, self.engine.safe_head(partition).await?);
        }
        Ok(position)
    }

    /// Whether a partition is this node's, if there are others.
    fn serves(&self, partition: Partition) -> bool {
        let remote = self.router.remote();
        remote.is_none_or(|remote| remote.duty(partition) == Duty::Own)
    }

    /// Waits until all handlers of this node have processed everything, what followed from it and timers that are
    /// due included, and nothing new has come meanwhile. Returns that position. Of several nodes each
    /// has the reactors of the partitions that it owns.
    ///
    /// # Errors
    /// [`ReadError`] if the engine does not answer.
    pub async fn caught_up(&self) -> Result<Position, ReadError> {
        loop {
            let before = self.position().await?;
            for partition in self.engine.identity().layout.all() {
                let head = before.offset(partition);
                for reactor in &self.reactors {
                    if let Some(mut reached) = reactor.reached(partition) {
                        tokio::select! { biased;
                            _ = reached.wait_for(|reached| *reached >= head) => {}
                            () = self.elsewhere(partition) => {}
                        }
                    }
                }
            }
            while self.owes_timers() {
                self.world().sleep(Duration::from_millis(1)).await;
            }
            let heads = self.heads(&before);
            while self.views.iter().any(|view| view.status(&heads).behind > 0) {
                self.world().sleep(Duration::from_millis(1)).await;
            }
            if self.position().await? == before {
                return Ok(before);
            }
        }
    }

    /// Completes when another node owns a partition.
    async fn elsewhere(&self, partition: Partition) {
        match self.router.remote() {
            Some(remote) => remote.membership.not_mine(partition).await,
            None => std::future::pending().await,
        }
    }

    fn owes_timers(&self) -> bool {
        let now = self.timers.now(self.world().as_ref());
        let all = self.engine.identity().layout.all();
        all.into_iter()
            .any(|partition| self.reactors.iter().any(|it| it.owes(partition, now)))
    }

    fn heads(&self, position: &Position) -> Vec<Offset> {
        let layout = self.engine.identity().layout;
        layout
            .all()
            .map(|partition| position.offset(partition))
            .collect()
    }

    /// How views and reactors are doing.
    ///
    /// # Errors
    /// [`ReadError`] if the engine does not answer.
    pub async fn handlers(&self) -> Result<Vec<HandlerStatus>, ReadError> {
        let heads = self.heads(&self.position().await?);
        let views = self.views.iter().map(|view| view.status(&heads));
        // What another node owns its reactors process.
        let all = self.engine.identity().layout.all().zip(&heads);
        let mine = all.map(|(partition, head)| {
            if self.serves(partition) {
                *head
            } else {
                Offset(0)
            }
        });
        let mine: Vec<Offset> = mine.collect();
        let reactors = self.reactors.iter().map(|reactor| reactor.status(&mine));
        Ok(views.chain(reactors).collect())
    }

    /// Up to where each handler has stored that it is done with a partition, and holds nothing
    /// parked.
    pub(crate) async fn handlers_done(
        &self,
        partition: Partition,
    ) -> Result<Vec<Offset>, ReadError> {
        let mut done = Vec::new();
        for view in &self.views {
            done.push(view.stored(partition).await?);
        }
        done.extend(self.reactors.iter().map(|reactor| reactor.done(partition)));
        Ok(done)
    }

    /// Up to where all reactors are done with a partition, if there are any.
    pub(crate) fn reactors_done(&self, partition: Partition) -> Option<Offset> {
        let done = self.reactors.iter().map(|reactor| reactor.done(partition));
        done.min()
    }

    /// Events that were set aside for a person.
    pub fn parked(&self) -> Vec<Parked> {
        let views = self.views.iter().flat_map(|view| view.parked());
        views
            .chain(self.reactors.iter().flat_map(RunningReactor::parked))
            .collect()
    }

    /// Tries the parked events of one entity of a reactor again. Says whether there were any.
    pub fn retry_parked(&self, reactor: &str, key: &str) -> bool {
        let named = self
            .reactors
            .iter()
            .find(|running| running.name() == reactor);
        named.is_some_and(|running| running.retry(key))
    }

    /// What the owners of this node hold.
    ///
    /// # Errors
    /// [`ReadError`] if the engine does not answer.
    pub async fn owners(&self) -> Result<Vec<OwnerReport>, ReadError> {
        let position = self.position().await?;
        let layout = self.engine.identity().layout;
        Ok(layout
            .all()
            .zip(&self.owners)
            .map(|(partition, status)| status.report(partition, position.offset(partition)))
            .collect())
    }

    /// Whether this node owns a partition, as far as it knows.
    pub fn owns(&self, partition: Partition) -> bool {
        let ownership = self.ownerships.get(partition.index());
        ownership.is_some_and(|it| matches!(&*it.borrow(), Some(Ok(_))))
    }

    /// The partitions whose state this node has in memory, as it tells the others, and those that it
    /// cannot serve because a later build has written them.
    pub fn held(&self) -> Vec<Held> {
        let standing_by = |partition| {
            let remote = self.router.remote();
            remote.is_some_and(|remote| remote.duty(partition) == Duty::StandBy)
        };
        let layout = self.engine.identity().layout;
        let each = layout.all().zip(self.owners.iter().zip(&*self.ownerships));
        let unable = layout
            .all()
            .zip(&self.owners)
            .filter_map(|(partition, status)| {
                status.unreadable.load(Ordering::Relaxed).then_some(Held {
                    partition,
                    role: Role::Unable,
                    offset: Offset(0),
                    epoch: Epoch(0),
                })
            });
        let held = each.filter_map(|(partition, (status, ownership))| {
            let owned = ownership.borrow().clone();
            let (role, epoch) = match owned {
                Some(Ok(epoch)) => (Role::Owner, epoch),
                _ if standing_by(partition) => (Role::Standby, Epoch(0)),
                _ => return None,
            };
            let offset = Offset(status.reached.load(Ordering::Relaxed));
            Some(Held {
                partition,
                role,
                offset,
                epoch,
            })
        });
        held.chain(unable).collect()
    }

    /// The names of the entity types with code.
    pub fn entity_types(&self) -> Vec<Text> {
        self.registry
            .all()
            .into_iter()
            .map(|kind| kind.name.clone())
            .collect()
    }

    /// An entity's durable state as JSON after `version` (the newest if `None`), and the version;
    /// `None` if it has no events. For inspection.
    ///
    /// # Errors
    /// [`CommandError::UnknownEntity`] if the application has no such type.
    pub async fn inspect(
        &self,
        entity: &EntityKey,
        version: Option<u64>,
    ) -> Result<Option<(serde_json::Value, u64)>, CommandError> {
        let loader = Loader {
            engine: self.engine.as_ref(),
            options: &self.state,
        };
        inspector::inspect(&loader, &self.registry, entity, version).await
    }

    /// Names and versions of the views that run here.
    pub fn views(&self) -> Vec<(String, u32)> {
        self.views
            .iter()
            .map(|view| (view.name().to_owned(), view.version()))
            .collect()
    }

    /// Rows of a view as JSON, ascending by key from `after` on, for inspection; `None` if no such
    /// view runs here.
    pub fn view_rows(
        &self,
        view: &str,
        after: &str,
        limit: usize,
    ) -> Option<Vec<(String, serde_json::Value)>> {
        self.views
            .iter()
            .find(|running| running.name() == view)
            .map(|v| v.rows(after, limit))
    }

    /// One row of a view as JSON, for inspection.
    pub fn view_row(&self, view: &str, key: &str) -> Option<serde_json::Value> {
        self.views
            .iter()
            .find(|running| running.name() == view)?
            .row(key)
    }

    /// Stops handlers, stores their progress, answers every waiting command and lets go of the
    /// engine.
    pub async fn close(&self) {
        self.stop_handlers.send_replace(true);
        let views = self.views.iter().map(|view| view.finished());
        let reactors = self.reactors.iter().flat_map(RunningReactor::finished);
        for mut finished in views.chain(reactors) {
            let _ = finished.wait_for(|finished| *finished).await;
        }
        self.stop_owners.send_replace(true);
        for ended in &self.ended {
            let _ = ended.clone().wait_for(|ended| *ended).await;
        }
        self.engine.close().await;
    }
}

/// Notes the types of events under the first ownership of the first partition that comes here.
fn note_schemas(
    engine: &Arc<dyn Engine>,
    registry: &Arc<Registry>,
    world: &Arc<dyn World>,
    states: &[watch::Receiver<Ownership>],
) {
    let Some(mut state) = states.first().cloned() else {
        return;
    };
    let (engine, registry, pausing) = (engine.clone(), registry.clone(), world.clone());
    let task = async move {
        loop {
            let owned = state.wait_for(|state| matches!(state, Some(Ok(_)))).await;
            let Some(epoch) = owned.ok().and_then(|state| state.clone()?.ok()) else {
                return;
            };
            // Another node that has noted a type meanwhile makes this one look again.
            if check_schemas(engine.as_ref(), &registry, Some(epoch))
                .await
                .is_ok()
            {
                return;
            }
            pausing.sleep(Duration::from_secs(1)).await;
        }
    };
    world.spawn("note schemas", Box::pin(task));
}

/// Waits for all partitions; the epoch of the first.
async fn claimed(states: &mut [watch::Receiver<Ownership>]) -> Result<Epoch, OwnerError> {
    let mut first = Epoch(0);
    for (index, state) in states.iter_mut().enumerate() {
        let known = state.wait_for(Option::is_some).await;
        let stopped = || OwnerError::Stopped("its owner has ended".into());
        let known = known.map_err(|_| stopped())?;
        let epoch = known.clone().unwrap_or_else(|| Err(stopped()))?;
        if index == 0 {
            first = epoch;
        }
    }
    Ok(first)
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("identity", self.engine.identity())
            .finish_non_exhaustive()
    }
}
