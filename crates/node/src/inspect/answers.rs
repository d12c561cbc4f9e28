//! What the paths of the inspection answer.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use everfold::engine::{EntityKey, Offset, Partition, Position};
use everfold::{BadFilter, CommandError, Holder, Node, Placed};
use everfold_store::http::{Failure, Name};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::events::{self, Asked, Page, Wanted};
use super::record;
use crate::demo::figures::count_events;

pub(super) type Answer = Result<Json<Value>, Failure>;

pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Failure> {
    let query = Query::<T>::try_from_uri(uri);
    query
        .map(|Query(query)| query)
        .map_err(|error| Failure::bad_request(error.body_text()))
}

pub(super) fn limit(limit: Option<usize>, default: usize) -> Result<usize, Failure> {
    match limit.unwrap_or(default) {
        limit @ 1..=1000 => Ok(limit),
        limit => Err(Failure::bad_request(format!("limit {limit}: 1 to 1000"))),
    }
}

/// The logs that this node serves.
pub(super) async fn logs(State(node): State<Arc<Node>>) -> Json<Value> {
    Json(json!({ "logs": [&*node.engine().identity().log] }))
}

pub(super) async fn node(State(node): State<Arc<Node>>) -> Answer {
    let engine = node.engine();
    let identity = engine.identity();
    let findings = engine.doctor().into_iter().map(|finding| {
        json!({ "name": finding.name, "value": finding.value, "loses_data": finding.loses_data })
    });
    let types: Vec<String> = node.entity_types().iter().map(|t| t.to_string()).collect();
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "log": &*identity.log,
        "site": &*identity.site,
        "incarnation": identity.incarnation.to_string(),
        "layout": identity.layout.number,
        "partitions": identity.layout.partitions,
        "chained": identity.chained,
        "durability": engine.durability(),
        "doctor": findings.collect::<Vec<_>>(),
        "entity_types": types,
        "sagas": node.saga_names(),
        "events": count_events(&node).await?,
        "position": node.position().await?.to_string(),
    })))
}

pub(super) async fn partitions(State(node): State<Arc<Node>>) -> Answer {
    Ok(Json(json!({ "partitions": node.owners().await? })))
}

pub(super) async fn handlers(State(node): State<Arc<Node>>) -> Answer {
    let handlers = node.handlers().await?;
    Ok(Json(
        json!({ "handlers": handlers, "parked": node.parked() }),
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Events {
    partition: Option<u16>,
    entity: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    entity_type: Option<String>,
    label: Option<String>,
    since: Option<String>,
    until: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
    /// The last ones instead of the first ones.
    #[serde(default)]
    last: bool,
    #[serde(default)]
    all_kinds: bool,
}

pub(super) async fn events(State(node): State<Arc<Node>>, uri: Uri) -> Answer {
    let asked: Events = query(&uri)?;
    let limit = limit(asked.limit, 100)?;
    let engine = &**node.engine();
    let what = Asked {
        event_type: asked.event_type,
        entity_type: asked.entity_type,
        label: asked.label,
        since: asked.since,
        until: asked.until,
    };
    let query = what.query().map_err(Failure::bad_request)?;
    if let Some(entity) = &asked.entity {
        let after = number(asked.after.as_deref(), "a version of the entity")?;
        let entity = EntityKey::of_stream(entity);
        let found = events::of_entity(engine, &entity, after, limit).await?;
        let next = found.last().map_or(after, |record| record.local.version);
        let more = found.len() == limit;
        let wanted = |record: &&Arc<_>| Asked::wants(&query, record);
        let shown: Vec<Value> = found
            .iter()
            .filter(wanted)
            .map(|r| record::shown(r))
            .collect();
        return Ok(Json(
            json!({ "events": shown, "next": next.to_string(), "more": more }),
        ));
    }
    let wanted = Wanted {
        partition: asked.partition.map(Partition),
        query,
        all_kinds: asked.all_kinds,
    };
    if let Some(partition) = wanted.partition
        && partition.0 >= engine.identity().layout.partitions
    {
        return Err(Failure::not_found("partition", &partition.to_string()));
    }
    let page = if asked.last {
        events::last(engine, &wanted, limit).await?
    } else {
        let start = engine.identity().start();
        let position = begin(asked.after.as_deref(), wanted.partition, start);
        let position = position.map_err(Failure::bad_request)?;
        events::after(engine, &position, &wanted, limit).await?
    };
    let Page {
        records,
        next,
        more,
    } = page;
    let shown: Vec<Value> = records.iter().map(|record| record::shown(record)).collect();
    Ok(Json(
        json!({ "events": shown, "next": next.to_string(), "more": more }),
    ))
}

fn number(text: Option<&str>, what: &str) -> Result<u64, Failure> {
    let text = text.unwrap_or("0");
    text.parse()
        .map_err(|_| Failure::bad_request(format!("after {text:?}: {what}, a whole number")))
}

/// Where to begin: a token, or within one partition an offset.
///
/// # Errors
/// Neither.
pub(crate) fn begin(
    after: Option<&str>,
    partition: Option<Partition>,
    start: Position,
) -> Result<Position, String> {
    let Some(text) = after else {
        return Ok(start);
    };
    match (text.parse::<u64>(), partition) {
        (Ok(offset), Some(partition)) => Ok(start.with(partition, Offset(offset))),
        (Ok(0), None) => Ok(start),
        (Ok(_), None) => Err(format!(
            "after {text}: an offset needs a partition; over all partitions give a position token"
        )),
        (Err(_), _) => {
            let position: Position = text.parse().map_err(|error| format!("{text:?}: {error}"))?;
            let checked = position.check(&start).map_err(|error| error.to_string());
            checked.map(|()| position)
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneEntity {
    version: Option<u64>,
    after: Option<u64>,
    limit: Option<usize>,
}

pub(super) async fn entity(
    State(node): State<Arc<Node>>,
    Name((kind, id)): Name<(String, String)>,
    uri: Uri,
) -> Answer {
    let asked: OneEntity = query(&uri)?;
    let limit = limit(asked.limit, 1000)?;
    let key = EntityKey::new(kind, id);
    let unknown = || Failure::not_found("entity", &key.stream());
    let newest = match node.inspect(&key, None).await {
        Err(CommandError::UnknownEntity(kind)) => {
            let message = format!("there is no entity type {kind:?}");
            return Err(Failure::new(StatusCode::NOT_FOUND, "UNKNOWN_TYPE", message));
        }
        found => found?.ok_or_else(unknown)?,
    };
    let (state, version) = match asked.version {
        Some(0) => (Value::Null, 0),
        Some(version) if version < newest.1 => node
            .inspect(&key, Some(version))
            .await?
            .ok_or_else(unknown)?,
        _ => newest.clone(),
    };
    let after = asked.after.unwrap_or(0);
    let history = events::of_entity(&**node.engine(), &key, after, limit).await?;
    let history: Vec<Value> = history.iter().map(|record| record::shown(record)).collect();
    Ok(Json(json!({
        "entity": key.stream(),
        "version": version,
        "newest": newest.1,
        "state": state,
        "history": history,
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanting {
    from: Option<String>,
    before: Option<String>,
    /// Where the last answer ended.
    after: Option<String>,
    #[serde(rename = "where")]
    filter: Option<String>,
    /// A token that the answer has to reflect.
    position: Option<String>,
    #[serde(default)]
    linearizable: bool,
    limit: Option<usize>,
}

/// Entities of a type, from their owners.
pub(super) async fn entities(
    State(node): State<Arc<Node>>,
    Name(kind): Name<String>,
    uri: Uri,
) -> Answer {
    let asked: Wanting = query(&uri)?;
    if !node.entity_types().iter().any(|known| **known == *kind) {
        let message = format!("there is no entity type {kind:?}");
        return Err(Failure::new(StatusCode::NOT_FOUND, "UNKNOWN_TYPE", message));
    }
    let limit = limit(asked.limit, 100)?;
    let bad = |error: String| Failure::bad_request(error);
    let mut entities = node.entities_named(kind).limit(limit as u32);
    if let Some(from) = &asked.from {
        entities = entities.from(from);
    }
    if let Some(before) = &asked.before {
        entities = entities.before(before);
    }
    if let Some(after) = &asked.after {
        entities = entities.beyond(after);
    }
    if let Some(filter) = &asked.filter {
        entities = entities.matching(
            filter
                .parse()
                .map_err(|error: BadFilter| bad(error.to_string()))?,
        );
    }
    if let Some(position) = &asked.position {
        let position: Position = position
            .parse()
            .map_err(|error| bad(format!("position {position:?}: {error}")))?;
        entities = entities.after(&position);
    }
    if asked.linearizable {
        entities = entities.linearizable();
    }
    let found = entities.await?;
    let next = found.entities.last().filter(|_| found.more);
    let next = next.map(|one| one.id.to_string());
    let shown = found
        .entities
        .iter()
        .map(|one| json!({ "id": &*one.id, "version": one.version, "state": one.state }));
    Ok(Json(json!({
        "entities": shown.collect::<Vec<_>>(),
        "next": next,
        "position": found.position.to_string(),
    })))
}

/// Who has which partition, as far as this node knows.
pub(super) async fn placed(State(node): State<Arc<Node>>) -> Json<Value> {
    let shown = |placed: Placed| {
        let owner = match placed.owner {
            Holder::Here => json!("here"),
            Holder::Node(node) => json!(node.to_string()),
            Holder::Nobody => Value::Null,
        };
        let standbys = placed.standbys.iter().map(ToString::to_string);
        json!({
            "partition": placed.partition.0,
            "owner": owner,
            "standbys": standbys.collect::<Vec<_>>(),
        })
    };
    let placed = node.placed().into_iter().map(shown);
    Json(json!({ "placed": placed.collect::<Vec<_>>() }))
}

pub(super) async fn views(State(node): State<Arc<Node>>) -> Answer {
    let views = node.views().into_iter();
    let views = views.map(|(name, version)| json!({ "name": name, "version": version }));
    Ok(Json(json!({ "views": views.collect::<Vec<_>>() })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    key: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn view(
    State(node): State<Arc<Node>>,
    Name(name): Name<String>,
    uri: Uri,
) -> Answer {
    let asked: Rows = query(&uri)?;
    let limit = limit(asked.limit, 100)?;
    let after = asked.after.unwrap_or_default();
    // One more than shown, to know whether there are more.
    let rows = node.view_rows(&name, &after, limit + 1);
    let mut rows = rows.ok_or_else(|| Failure::not_found("view", &name))?;
    if let Some(key) = asked.key {
        let row = node.view_row(&name, &key);
        let row = row.ok_or_else(|| Failure::not_found("row", &key))?;
        return Ok(Json(json!({ "key": key, "row": row })));
    }
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|(key, _)| key.clone());
    let rows = rows
        .into_iter()
        .map(|(key, row)| json!({ "key": key, "row": row }));
    Ok(Json(
        json!({ "rows": rows.collect::<Vec<_>>(), "next": next }),
    ))
}
