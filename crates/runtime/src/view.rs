//! Views: read models kept up to date from events.

use std::any::TypeId;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use everfold_engine::Text;

use crate::event::{DecodeError, Event};
use crate::handler::Delivered;
use crate::key::Key;
use crate::reactor::At;

mod query;
mod rows;
mod runner;

pub use query::{Ask, Positioned, ViewRef};
pub(crate) use runner::{Running, RunningView, ViewTask};

/// What a view keeps per key; starts as `Default`.
pub trait Row: Default + Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<R: Default + Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Row for R {}

/// One key, no key, or several: the rows that an event changes.
pub trait IntoKeys<K> {
    /// Calls `with` for each key.
    fn for_each_key(self, with: impl FnMut(K));
}

impl<K: Key> IntoKeys<K> for K {
    fn for_each_key(self, mut with: impl FnMut(K)) {
        with(self);
    }
}

impl<K: Key> IntoKeys<K> for Option<K> {
    fn for_each_key(self, with: impl FnMut(K)) {
        self.into_iter().for_each(with);
    }
}

impl<K: Key> IntoKeys<K> for Vec<K> {
    fn for_each_key(self, with: impl FnMut(K)) {
        self.into_iter().for_each(with);
    }
}

/// Given the key of each row that an event names, and the change of that row.
pub(crate) type Rows<'a, R> = dyn FnMut(&str, &mut dyn FnMut(&mut R)) + 'a;

pub(crate) type Fold<R> =
    dyn Fn(&Delivered, &mut Rows<'_, R>) -> Result<(), DecodeError> + Send + Sync;

pub(crate) struct Subscription<R> {
    pub(crate) event: TypeId,
    pub(crate) event_name: &'static str,
    pub(crate) fold: Arc<Fold<R>>,
}

/// A read model: rows by key, each the fold of the events that name it.
///
/// Rows may see events of different partitions in any order; the fold must give the same row for
/// each ([`crate::testing::view`] checks it). Exactly once: rows and progress are one commit.
pub struct View<K, R> {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
    pub(crate) subscriptions: Vec<Subscription<R>>,
    pub(crate) forgets: Option<Arc<Forgets<R>>>,
    keys: PhantomData<fn() -> K>,
}

pub(crate) type Forgets<R> = dyn Fn(&R) -> bool + Send + Sync;

impl<K: Key, R: Row> View<K, R> {
    /// A view that folds nothing yet.
    pub fn named(name: &'static str) -> Self {
        Self {
            name,
            version: 1,
            subscriptions: Vec::new(),
            forgets: None,
            keys: PhantomData,
        }
    }

    /// Another version is built anew from the beginning of the log.
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Folds the events of one kind of entity: first the key of the row, then the change.
    #[must_use]
    pub fn on<V: Event, I: IntoKeys<K>>(
        mut self,
        key: impl Fn(&V, &At) -> I + Send + Sync + 'static,
        fold: impl Fn(&mut R, &V, &At) + Send + Sync + 'static,
    ) -> Self {
        let subscribe = move |delivered: &Delivered, rows: &mut Rows<'_, R>| {
            let event = delivered.event::<V>()?;
            let at = At::of(delivered.record().clone());
            key(&event, &at).for_each_key(|key| {
                rows(key.as_text(), &mut |row| fold(row, &event, &at));
            });
            Ok(())
        };
        self.subscriptions.push(Subscription {
            event: TypeId::of::<V>(),
            event_name: std::any::type_name::<V>(),
            fold: Arc::new(subscribe),
        });
        self
    }

    /// Rows that are not kept: looked at after each change. An event that names the key later begins
    /// a new row. All events of a key have to come from one partition, or a row may be begun anew by
    /// an event that only came late.
    #[must_use]
    pub fn forgets(mut self, forgets: impl Fn(&R) -> bool + Send + Sync + 'static) -> Self {
        self.forgets = Some(Arc::new(forgets));
        self
    }

    /// Where the view's rows and progress are kept.
    pub(crate) fn area(&self) -> Text {
        format!("view/{}/{}", self.name, self.version).into()
    }
}
