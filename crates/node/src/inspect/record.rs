//! A record as JSON.

use data_encoding::{BASE64, HEXLOWER};
use everfold::engine::Record;
use everfold::engine::record::{Kind, Link};
use serde_json::{Map, Value, json};

/// All of a record. A payload that is JSON is shown as such, any other in base 64; numbers that most
/// readers of JSON would round are text.
pub fn shown(record: &Record) -> Value {
    let (portable, local) = (&record.portable, &record.local);
    let mut shown = json!({
        "partition": local.stamp.partition().0,
        "offset": local.offset.0,
        "kind": kind(record.kind),
        "entity": portable.entity.stream(),
        "version": local.version,
        "type": &*portable.event_type,
        "schema_version": portable.schema_version,
        "recorded": record.recorded().to_string(),
        "effective": portable.effective.to_string(),
        "event_id": portable.event_id.to_string(),
        "command": portable.command.map(|id| id.to_string()),
        "causation": portable.causation.map(|id| id.to_string()),
        "correlation": portable.correlation.map(|id| id.to_string()),
        "hops": portable.hops,
        "unit": { "index": portable.unit.index, "count": portable.unit.count },
        "principal": &*portable.principal,
        "trace": &*portable.trace,
        "labels": labels(record),
        "tenant": &*portable.entity.tenant,
        "subject_key": &*portable.subject_key,
        "hybrid": portable.hybrid.0.to_string(),
        "stamp": local.stamp.0.to_string(),
        "epoch": local.epoch,
        "batch": local.batch,
        "link": (local.link != Link::default()).then(|| HEXLOWER.encode(&local.link.0)),
        "content_type": &*portable.content_type,
    });
    if let Some(dot) = &portable.dot {
        shown["dot"] = json!({
            "site": &*dot.origin.site,
            "incarnation": dot.origin.incarnation.to_string(),
            "layout": dot.origin.layout,
            "partition": dot.partition.0,
            "counter": dot.counter,
        });
    }
    let causes = portable.causes.iter();
    let causes = causes.map(|dot| json!({ "partition": dot.partition.0, "counter": dot.counter }));
    shown["causes"] = causes.collect();
    if !portable.metadata.is_empty() {
        shown["metadata_base64"] = BASE64.encode(&portable.metadata).into();
    }
    match serde_json::from_slice::<Value>(&portable.payload) {
        Ok(payload) => shown["payload"] = payload,
        Err(_) => shown["payload_base64"] = BASE64.encode(&portable.payload).into(),
    }
    shown
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Event => "event",
        Kind::Outcome => "outcome",
        Kind::Claim => "claim",
        Kind::Mark => "mark",
        Kind::Baseline => "baseline",
        Kind::Stub => "stub",
    }
}

fn labels(record: &Record) -> Value {
    let labels = record.portable.labels.iter();
    let labels = labels.map(|(name, value)| (name.to_string(), Value::from(&**value)));
    Value::Object(labels.collect::<Map<_, _>>())
}
