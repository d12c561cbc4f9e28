//! Notices an event whose fields changed without a new schema version.

use everfold_engine::engine::{Area, Engine, Epoch, Put, ReadError};
use everfold_engine::slot::Partition;
use everfold_engine::{Bytes, Text};

use crate::application::StartError;
use crate::schema::Registry;

/// Compares every event type with what was noted when its version was first run. Under an epoch of
/// the first partition it notes new ones too; without, it disturbs nobody.
pub(crate) async fn check_schemas(
    engine: &dyn Engine,
    registry: &Registry,
    epoch: Option<Epoch>,
) -> Result<(), StartError> {
    let area = area();
    let unavailable = |error: String| StartError::Unavailable(error);
    let previous = engine
        .revision(&area)
        .await
        .map_err(|error| unavailable(error.to_string()))?;
    let mut changes = Vec::new();
    for kind in registry.all() {
        for schema in kind.schemas {
            let key = format!("{}/{}/{}", kind.name, schema.name, schema.version);
            let noted = engine.get(&area, key.as_bytes()).await;
            match noted.map_err(|error| unavailable(error.to_string()))? {
                None => {
                    let shape = Bytes::from_static(schema.shape.as_bytes());
                    changes.push((Bytes::from(key), Some(shape)));
                }
                Some(noted) if noted == schema.shape.as_bytes() => {}
                Some(noted) => {
                    return Err(StartError::SchemaChanged {
                        entity: kind.name.to_string(),
                        event: schema.name,
                        version: schema.version,
                        noted: String::from_utf8_lossy(&noted).into_owned(),
                        now: schema.shape,
                    });
                }
            }
        }
    }
    let (Some(epoch), false) = (epoch, changes.is_empty()) else {
        return Ok(());
    };
    let incarnation = engine.identity().incarnation;
    let put = Put {
        area,
        epoch,
        incarnation,
        previous,
        clear: false,
        changes,
    };
    engine
        .put(put)
        .await
        .map(drop)
        .map_err(|error| unavailable(error.to_string()))
}

fn area() -> Area {
    Area {
        name: Text::from_static("schemas"),
        partition: Partition(0),
    }
}

/// A type of entities that another application has had code for on this log, as far as it is noted.
pub(crate) async fn foreign_kind(
    engine: &dyn Engine,
    registry: &Registry,
) -> Result<Option<String>, ReadError> {
    let ours = registry.all();
    let is_ours = |key: &str| {
        let mut rests = ours
            .iter()
            .filter_map(|kind| key.strip_prefix(&kind.name[..]));
        rests.any(|rest| rest.starts_with('/'))
    };
    let mut last: Option<Bytes> = None;
    loop {
        let page = engine.scan(&area(), last.as_deref(), 1024).await?;
        let Some((key, _)) = page.last() else {
            return Ok(None);
        };
        last = Some(key.clone());
        for (key, _) in &page {
            let key = String::from_utf8_lossy(key);
            if !is_ours(&key) {
                let kind = key.split('/').next().unwrap_or_default();
                return Ok(Some(kind.to_owned()));
            }
        }
    }
}
