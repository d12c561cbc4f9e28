//! Keeps a view up to date: one lane per source partition, and one task that stores progress.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use everfold_engine::engine::{BoxFuture, PutError, ReadError};
use everfold_engine::record::Kind;
use everfold_engine::slot::Partition;
use everfold_engine::{Offset, Position, Text};
use tokio::sync::{mpsc, watch};

use super::rows::{ParkedRow, Rows};
use super::{Row, View};
use crate::error::QueryError;
use crate::handler::{
    ByKind, Delivered, Flag, Ground, HandlerStatus, Parked, Vector, by_kind, raised,
};
use crate::key::Key;
use crate::owner::guard;
use crate::query::{RowsAsked, RowsPage};
use crate::schema::Registry;

/// Rows and progress are stored at least this often while there is progress.
const COMMIT_EVERY: Duration = Duration::from_secs(5);

/// A view that can be started.
pub(crate) trait ViewTask: Send {
    fn name(&self) -> &'static str;
    fn events(&self) -> Vec<(std::any::TypeId, &'static str)>;
    fn start(self: Box<Self>, ground: Ground, registry: &Registry) -> Arc<dyn Running>;
}

/// A view that runs, its types erased.
pub(crate) trait Running: Send + Sync {
    fn name(&self) -> &str;
    fn version(&self) -> u32;
    fn status(&self, heads: &[Offset]) -> HandlerStatus;
    fn parked(&self) -> Vec<Parked>;
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    /// Up to where it is stored that a partition's events are folded into all rows, and none is
    /// parked.
    fn stored(&self, source: Partition) -> BoxFuture<'_, Result<Offset, ReadError>>;
    /// Resolves when rows and progress have been stored for the last time.
    fn finished(&self) -> watch::Receiver<bool>;
    /// Rows as JSON, for inspection: keys from `after` on, at most `limit`.
    fn rows(&self, after: &str, limit: usize) -> Vec<(String, serde_json::Value)>;
    fn row(&self, key: &str) -> Option<serde_json::Value>;
    /// Rows as they are asked for from elsewhere, once the view has reached a token.
    fn page(
        self: Arc<Self>,
        asked: RowsAsked,
        after: Option<Position>,
    ) -> BoxFuture<'static, Result<RowsPage, QueryError>>;
}

pub(crate) struct RunningView<R> {
    pub(super) name: &'static str,
    pub(super) version: u32,
    pub(super) rows: Rows<R>,
    pub(super) ground: Ground,
    folds: ByKind<Arc<super::Fold<R>>>,
    /// Whether rows were loaded, and how far all lanes must come before the rows agree.
    loaded: watch::Sender<Option<Vector>>,
    finished: watch::Sender<bool>,
}

impl<K: Key, R: Row> ViewTask for View<K, R> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn events(&self) -> Vec<(std::any::TypeId, &'static str)> {
        self.subscriptions
            .iter()
            .map(|sub| (sub.event, sub.event_name))
            .collect()
    }

    fn start(self: Box<Self>, ground: Ground, registry: &Registry) -> Arc<dyn Running> {
        let partitions = usize::from(ground.engine.identity().layout.partitions);
        let area = self.area();
        let folds = self.subscriptions.into_iter().flat_map(|sub| {
            let kinds = registry.owners_of(sub.event).into_iter();
            kinds.map(move |kind| (kind, sub.fold.clone()))
        });
        let view = Arc::new(RunningView {
            name: self.name,
            version: self.version,
            rows: Rows::new(area, partitions, ground.world.random(), self.forgets),
            folds: by_kind(folds),
            ground: ground.clone(),
            finished: watch::Sender::new(false),
            loaded: watch::Sender::new(None),
        });
        ground
            .world
            .spawn("view", Box::pin(supervise(view.clone())));
        view
    }
}

/// Loads and runs; begins anew from what is stored when a fold has failed.
async fn supervise<R: Row>(view: Arc<RunningView<R>>) {
    let mut faults: Vec<Fault> = Vec::new();
    while !view.ground.is_stopping() {
        match view.load().await {
            Ok(()) => {}
            Err(_) => {
                view.ground.world.sleep(Duration::from_millis(250)).await;
                continue;
            }
        }
        // All of them, every time: what was parked since the last commit is forgotten by the load.
        for fault in &faults {
            view.ground.world.reached("view: row parked");
            let row = ParkedRow {
                reason: fault.reason.clone(),
                events: Vec::new(),
            };
            view.rows.park(fault.partition, fault.key.clone(), row);
        }
        faults.extend(view.clone().run().await);
    }
    view.finished.send_replace(true);
}

struct Fault {
    partition: Partition,
    key: Text,
    reason: String,
}

/// Events in stretches that end with a unit, and are not long: whoever looks waits for one.
fn whole_units(mut events: &[Arc<Delivered>]) -> impl Iterator<Item = &[Arc<Delivered>]> {
    const LONG: usize = 64;
    std::iter::from_fn(move || {
        let is_last = |event: &Arc<Delivered>| event.record().portable.unit.is_last();
        let least = events.len().min(LONG).checked_sub(1)?;
        let end = events[least..]
            .iter()
            .position(is_last)
            .map_or(events.len(), |end| least + end + 1);
        let (units, rest) = events.split_at(end);
        events = rest;
        Some(units)
    })
}

impl<R: Row> RunningView<R> {
    pub(super) fn loaded(&self) -> watch::Ref<'_, Option<Vector>> {
        self.loaded.borrow()
    }

    /// Waits until the rows are loaded and agree with each other.
    pub(super) async fn whole(&self) {
        loop {
            let furthest = match self.loaded.subscribe().wait_for(Option::is_some).await {
                Ok(loaded) => loaded.clone().unwrap_or_default(),
                Err(_) => return,
            };
            let mut agreed = true;
            for (source, furthest) in self.rows.partitions().zip(furthest) {
                if let Some(mut reached) = self.rows.reached(source) {
                    agreed &= reached
                        .wait_for(|reached| *reached >= furthest)
                        .await
                        .is_ok();
                }
            }
            if agreed && self.loaded.borrow().is_some() {
                return;
            }
        }
    }

    async fn heads(&self) -> Result<Vec<Offset>, ReadError> {
        let mut heads = Vec::new();
        for partition in self.ground.engine.identity().layout.all() {
            heads.push(self.ground.engine.safe_head(partition).await?);
        }
        Ok(heads)
    }

    async fn load(&self) -> Result<(), ReadError> {
        // First of all: no token is honoured by rows that are about to go back.
        self.loaded.send_replace(None);
        self.rows.forget();
        let engine = self.ground.engine.as_ref();
        let heads = self.heads().await?;
        for partition in self.rows.partitions() {
            if self.rows.load(engine, partition, &heads).await? {
                let world = &self.ground.world;
                world.reached("view: stored part of another log or build discarded");
            }
        }
        self.rows.restart();
        self.loaded.send_replace(Some(self.rows.furthest()));
        Ok(())
    }

    /// Runs until the node stops or a fold fails; all tasks have ended when this returns.
    async fn run(self: Arc<Self>) -> Vec<Fault> {
        let over = Arc::new(Flag::default());
        let (ended, mut endings) = mpsc::unbounded_channel();
        let (halt, halted) = watch::channel(false);
        let mut lanes = 0;
        for source in self.rows.partitions() {
            let (view, over) = (self.clone(), over.clone());
            let (ended, mut halted) = (ended.clone(), halted.clone());
            lanes += 1;
            let lane = async move {
                let mut stop = view.ground.stop.clone();
                let fault = tokio::select! { biased;
                    () = raised(&mut stop) => None,
                    () = raised(&mut halted) => None,
                    fault = view.lane(source, &over) => fault,
                };
                let _ = ended.send(fault);
            };
            self.ground.world.spawn("view lane", Box::pin(lane));
        }
        let mut faults = Vec::new();
        let mut tick = self.ground.world.sleep(COMMIT_EVERY);
        while lanes > 0 {
            tokio::select! { biased;
                ending = endings.recv() => {
                    lanes -= 1;
                    if let Some(fault) = ending.flatten() {
                        over.raise();
                        halt.send_replace(true);
                        faults.push(fault);
                    }
                }
                () = &mut tick => {
                    if !over.is_raised() {
                        self.commit().await;
                    }
                    tick = self.ground.world.sleep(COMMIT_EVERY);
                }
            }
        }
        if faults.is_empty() {
            self.commit().await;
        }
        faults
    }

    async fn commit(&self) {
        let engine = self.ground.engine.as_ref();
        for partition in self.rows.partitions() {
            let Some(epoch) = self.ground.epoch(partition) else {
                continue;
            };
            match self.rows.commit(engine, partition, epoch).await {
                // The next tick tries again. Otherwise somebody else owns it now.
                Ok(()) => {}
                Err(PutError::Unavailable(_) | PutError::Changed(_)) => {
                    self.ground
                        .world
                        .reached("view: put without an answer, done again");
                }
                Err(PutError::Fenced(_)) => {
                    let world = &self.ground.world;
                    world.reached("view: put of a past ownership refused");
                }
                Err(_) => return,
            }
        }
    }

    /// Folds one source partition into the rows; ends only with a fault.
    async fn lane(&self, source: Partition, over: &Flag) -> Option<Fault> {
        let mut cursor = *self.rows.reached(source)?.borrow();
        let feed = self.ground.feeds.get(source.index())?.clone();
        let mut pause = Duration::from_millis(50);
        loop {
            let fed = match feed.next(cursor).await {
                Ok(fed) => fed,
                Err(_) => {
                    self.ground.world.sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                    continue;
                }
            };
            pause = Duration::from_millis(50);
            for units in whole_units(fed.after(cursor)) {
                if over.is_raised() {
                    return None;
                }
                let _unseen = self.rows.folding();
                for delivered in units {
                    if let Err(fault) = self.fold(source, delivered) {
                        over.raise();
                        return Some(fault);
                    }
                }
            }
            cursor = fed.next;
            self.rows.reach(source, cursor);
        }
    }

    /// Folds one event into the rows that it names.
    fn fold(&self, source: Partition, delivered: &Delivered) -> Result<(), Fault> {
        let record = delivered.record();
        let entity = &record.portable.entity;
        if record.kind != Kind::Event {
            return Ok(());
        }
        let layout = self.ground.engine.identity().layout;
        let offset = record.local.offset;
        let mut fault = None;
        for fold in self.folds.get(&entity.kind).into_iter().flatten() {
            let mut rows = |key: &str, change: &mut dyn FnMut(&mut R)| {
                let partition = layout.partition(key);
                let changed = self.rows.change(partition, source, offset, key, change);
                if changed.is_err() {
                    let reason = format!("the fold panicked on offset {offset} of {source}");
                    let key = key.into();
                    fault = Some(Fault {
                        partition,
                        key,
                        reason,
                    });
                }
            };
            match guard(entity, || fold(delivered, &mut rows)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.set_aside(source, record, error.to_string()),
                Err(error) => self.set_aside(source, record, error.to_string()),
            }
        }
        fault.map_or(Ok(()), Err)
    }

    /// An event that no row can be found for: set aside under its entity's name.
    fn set_aside(&self, source: Partition, record: &everfold_engine::Record, reason: String) {
        let key = Text::from(format!("event of {}", record.portable.entity));
        let partition = self.ground.engine.identity().layout.partition(&key);
        let place = (source.0, record.local.offset.0);
        let known = self.rows.part(partition).parked.get(&key).cloned();
        if known.is_none_or(|known| !known.events.contains(&place)) {
            self.rows.park(
                partition,
                key,
                ParkedRow {
                    reason,
                    events: vec![place],
                },
            );
        }
    }
}

impl<R: Row> Running for RunningView<R> {
    fn name(&self) -> &str {
        self.name
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn status(&self, heads: &[Offset]) -> HandlerStatus {
        let reached = self.rows.vector();
        let behind = |(head, reached): (&Offset, Offset)| head.0.saturating_sub(reached.0);
        let parked = self.rows.parked(self.name);
        HandlerStatus {
            name: self.name.to_owned(),
            kind: "view",
            version: self.version,
            behind: heads.iter().zip(reached).map(behind).sum(),
            parked: parked
                .iter()
                .map(|parked| parked.offsets.len().max(1) as u64)
                .sum(),
            retrying: 0,
            unmapped_rejections: 0,
            timers: 0,
        }
    }

    fn parked(&self) -> Vec<Parked> {
        self.rows.parked(self.name)
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn stored(&self, source: Partition) -> BoxFuture<'_, Result<Offset, ReadError>> {
        Box::pin(self.rows.stored(self.ground.engine.as_ref(), source))
    }

    fn finished(&self) -> watch::Receiver<bool> {
        self.finished.subscribe()
    }

    fn rows(&self, after: &str, limit: usize) -> Vec<(String, serde_json::Value)> {
        let mut keys: Vec<Text> = Vec::new();
        for partition in self.rows.partitions() {
            let part = self.rows.part(partition);
            let later = part.rows().map(|(key, _)| key);
            keys.extend(
                later
                    .filter(|key| AsRef::<str>::as_ref(key) > after)
                    .cloned(),
            );
        }
        keys.sort_unstable();
        let found = keys.iter().take(limit);
        found
            .filter_map(|key| Some((key.to_string(), self.row(key)?)))
            .collect()
    }

    fn row(&self, key: &str) -> Option<serde_json::Value> {
        let partition = self.ground.engine.identity().layout.partition(key);
        let _whole_units = self.rows.looking();
        let part = self.rows.part(partition);
        part.row(key).and_then(|row| serde_json::to_value(row).ok())
    }

    fn page(
        self: Arc<Self>,
        asked: RowsAsked,
        after: Option<Position>,
    ) -> BoxFuture<'static, Result<RowsPage, QueryError>> {
        Box::pin(self.answer_page(asked, after))
    }
}
