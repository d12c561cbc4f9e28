//! Finding instances of sagas: those of a running node, and those of a log that is only looked at.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use everfold_engine::engine::{ReadError, ReadLimit};
use everfold_engine::record::Kind;
use everfold_engine::{EntityKey, Offset, Partition, Text, Timestamp};

use super::definition::{Saga, SagaData};
use super::event::SagaEvent;
use super::instance::{Instance, Phase, SagaStatus};
use super::live::{Live, LiveSaga};
use super::refer::SagaRef;
use crate::error::CommandError;
use crate::event::Event;
use crate::inspector::{Inspector, log_alone};
use crate::node::Node;
use crate::owner::Loader;

impl Node {
    /// The instances of a saga of the application.
    pub fn saga<D: SagaData>(&self, saga: &Saga<D>) -> SagaRef<'_, D> {
        let unknown = Arc::default;
        SagaRef {
            node: self,
            name: saga.name,
            definitions: self.sagas.get(saga.name).cloned().unwrap_or_else(unknown),
            types: PhantomData,
        }
    }

    /// The instances of a saga by name, without code; none if the application has no such saga.
    pub fn saga_named(&self, name: &str) -> Option<SagaRef<'_, serde_json::Value>> {
        let (name, definitions) = self.sagas.get_key_value(name)?;
        Some(SagaRef {
            node: self,
            name,
            definitions: definitions.clone(),
            types: PhantomData,
        })
    }

    /// The names of the application's sagas.
    pub fn saga_names(&self) -> Vec<&'static str> {
        self.sagas.keys().copied().collect()
    }

    /// Instances of sagas that have not ended, by saga and id; at most so many, from `after`, the
    /// stream of an instance, on. As far as the view `sagas` has come.
    pub fn sagas(&self, after: &str, limit: usize) -> Vec<LiveSaga> {
        let rows = self.view_rows("sagas", after, limit).unwrap_or_default();
        rows.into_iter()
            .filter_map(|(_, row)| serde_json::from_value::<Live>(row).ok())
            .map(|live| live.shown())
            .collect()
    }
}

impl Inspector {
    /// The names of the application's sagas, ascending.
    pub fn saga_names(&self) -> Vec<Text> {
        let mut names = self.registry.owners_of(TypeId::of::<SagaEvent>());
        names.sort();
        names
    }

    /// How an instance stands; none if it was never begun.
    ///
    /// # Errors
    /// [`CommandError::UnknownEntity`] if the application has no such saga, others if the log cannot
    /// be read.
    pub async fn saga(&self, saga: &str, id: &str) -> Result<Option<SagaStatus>, CommandError> {
        let unknown = || CommandError::UnknownEntity(saga.to_owned());
        let kind = self.registry.named(saga).ok_or_else(unknown)?.clone();
        if kind.events != Some(TypeId::of::<SagaEvent>()) {
            return Err(unknown());
        }
        let options = log_alone();
        let loader = Loader {
            engine: self.engine.as_ref(),
            options: &options,
        };
        let entity = EntityKey::new(saga, id);
        let resident = loader.load(kind, &entity, u64::MAX).await?.resident;
        let instance = resident.state.downcast_ref::<Instance>();
        let begun = instance.filter(|instance| instance.phase != Phase::New);
        Ok(begun.map(|instance| instance.status(&entity)))
    }

    /// Instances that have not ended, by saga and id. Reads all of the log.
    ///
    /// # Errors
    /// [`CommandError`] if the log cannot be read.
    pub async fn sagas(&self) -> Result<Vec<LiveSaga>, CommandError> {
        let names = self.saga_names();
        let mut open: BTreeMap<EntityKey, (Timestamp, Timestamp)> = BTreeMap::new();
        for partition in self.engine.identity().layout.all() {
            let unread = |error| unavailable(partition, &error);
            let mut after = Offset(0);
            loop {
                let chunk = self.engine.read(partition, after, ReadLimit::default());
                let chunk = chunk.await.map_err(unread)?;
                for record in &chunk.records {
                    let entity = &record.portable.entity;
                    let stands_for_events = matches!(record.kind, Kind::Event | Kind::Baseline);
                    if !stands_for_events || !names.contains(&entity.kind) {
                        continue;
                    }
                    let name = &record.portable.event_type;
                    let version = record.portable.schema_version;
                    let ended = record.kind == Kind::Event
                        && matches!(
                            SagaEvent::decode(name, version, &record.portable.payload),
                            Ok(SagaEvent::Ended { .. })
                        );
                    if ended {
                        open.remove(entity);
                        continue;
                    }
                    let recorded = record.recorded();
                    let since = open.entry(entity.clone()).or_insert((recorded, recorded));
                    since.1 = recorded;
                }
                if chunk.next <= after || chunk.next >= chunk.safe_head {
                    break;
                }
                after = chunk.next;
            }
        }
        let mut live = Vec::new();
        for (entity, (begun, changed)) in open {
            // A baseline may stand for an end.
            if let Some(status) = self.saga(&entity.kind, &entity.id).await?
                && !status.has_ended()
            {
                live.push(LiveSaga {
                    status,
                    begun,
                    changed,
                });
            }
        }
        Ok(live)
    }
}

fn unavailable(partition: Partition, error: &ReadError) -> CommandError {
    CommandError::Unavailable {
        partition,
        reason: error.to_string(),
    }
}
