//! A batch of records as bytes.
//!
//! Within one batch a field that repeats the record before it takes one bit, and the origin of the
//! log itself takes none; nothing refers outside its batch, so every batch can be read alone.

mod decode;

use crate::Text;
use crate::name::EntityKey;
use crate::position::Offset;
use crate::record::wire::Writer;
use crate::record::{Dot, Link, Origin, Portable, Record, Unit};
use crate::slot::Partition;
use crate::time::Stamp;

pub use decode::{decode, decode_some};

/// What a batch's records share with its log, kept outside their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The log's own origin.
    pub origin: Origin,
    /// The partition of the batch.
    pub partition: Partition,
    /// The owner's epoch.
    pub epoch: u64,
    /// The batch's id.
    pub batch: u64,
    /// The offset of its first record; the others follow one by one.
    pub first: Offset,
    /// Whether the log keeps the hash chain; only the last record's link is written.
    pub chained: bool,
    /// The link before the first record.
    pub previous_link: Link,
}

// One bit per field: set where the field is written. A field left out has the value it has in the
// record before, or, in a batch's first record, its empty value.
mod field {
    pub(super) const EVENT_ID: u32 = 1;
    pub(super) const DOT: u32 = 1 << 1;
    pub(super) const FOREIGN_DOT: u32 = 1 << 2;
    pub(super) const CONTEXT: u32 = 1 << 3;
    pub(super) const CAUSES: u32 = 1 << 4;
    pub(super) const TENANT: u32 = 1 << 5;
    pub(super) const ENTITY_TYPE: u32 = 1 << 6;
    pub(super) const ENTITY_ID: u32 = 1 << 7;
    pub(super) const EVENT_TYPE: u32 = 1 << 8;
    pub(super) const SCHEMA_VERSION: u32 = 1 << 9;
    pub(super) const EFFECTIVE: u32 = 1 << 10;
    pub(super) const COMMAND: u32 = 1 << 11;
    pub(super) const CAUSATION: u32 = 1 << 12;
    pub(super) const CORRELATION: u32 = 1 << 13;
    pub(super) const UNIT: u32 = 1 << 14;
    pub(super) const HOPS: u32 = 1 << 15;
    pub(super) const PRINCIPAL: u32 = 1 << 16;
    pub(super) const TRACE: u32 = 1 << 17;
    pub(super) const LABELS: u32 = 1 << 18;
    pub(super) const SUBJECT_KEY: u32 = 1 << 19;
    pub(super) const CONTENT_TYPE: u32 = 1 << 20;
    pub(super) const METADATA: u32 = 1 << 21;
    pub(super) const REPLY: u32 = 1 << 22;
    pub(super) const REJECTED: u32 = 1 << 23;
    pub(super) const SOURCE: u32 = 1 << 24;
    // Ids that coincide, as they do for most commands from outside.
    pub(super) const EVENT_ID_IS_COMMAND: u32 = 1 << 25;
    pub(super) const CAUSATION_IS_COMMAND: u32 = 1 << 26;
    pub(super) const CORRELATION_IS_COMMAND: u32 = 1 << 27;
    pub(super) const CORRELATION_IS_CAUSATION: u32 = 1 << 28;
    pub(super) const KNOWN: u32 = (1 << 29) - 1;
}

/// Appends the bytes of `records` to `out`. Of the local part, offset, epoch and batch are taken to
/// be those of the frame.
pub fn encode(out: &mut Vec<u8>, records: &[Record], frame: &Frame) {
    let blank = Portable::new(EntityKey::new("", ""), "");
    let mut before = &blank;
    let mut stamp = 0;
    for record in records {
        encode_record(out, record, before, stamp, &frame.origin);
        stamp = record.local.stamp.0;
        before = &record.portable;
    }
    if let Some(last) = records.last().filter(|_| frame.chained) {
        out.extend_from_slice(&last.local.link.0);
    }
}

/// Texts are mostly shared: then there is nothing to compare.
fn differ(one: &Text, other: &Text) -> bool {
    let shared = one.as_ptr() == other.as_ptr() && one.len() == other.len();
    !shared && one != other
}

fn encode_record(out: &mut Vec<u8>, record: &Record, before: &Portable, stamp: i64, home: &Origin) {
    let p = &record.portable;
    let mut fields = 0;
    let mut set = |bit: u32, on: bool| fields |= if on { bit } else { 0 };
    let id_is_command = p.command == Some(p.event_id);
    set(field::EVENT_ID_IS_COMMAND, id_is_command);
    set(field::EVENT_ID, !id_is_command);
    set(field::DOT, p.dot.is_some());
    set(
        field::FOREIGN_DOT,
        p.dot.as_ref().is_some_and(|dot| dot.origin != *home),
    );
    set(field::CONTEXT, p.context != before.context);
    set(field::CAUSES, p.causes != before.causes);
    set(
        field::TENANT,
        differ(&p.entity.tenant, &before.entity.tenant),
    );
    set(
        field::ENTITY_TYPE,
        differ(&p.entity.kind, &before.entity.kind),
    );
    set(field::ENTITY_ID, differ(&p.entity.id, &before.entity.id));
    set(field::EVENT_TYPE, differ(&p.event_type, &before.event_type));
    set(
        field::SCHEMA_VERSION,
        p.schema_version != before.schema_version,
    );
    let recorded = record.recorded();
    set(field::EFFECTIVE, p.effective != recorded);
    set(field::COMMAND, p.command.is_some());
    let causation_is_command = p.causation.is_some() && p.causation == p.command;
    set(field::CAUSATION_IS_COMMAND, causation_is_command);
    set(
        field::CAUSATION,
        p.causation.is_some() && !causation_is_command,
    );
    let correlation_is_command = p.correlation.is_some() && p.correlation == p.command;
    let correlation_is_causation =
        p.correlation.is_some() && p.correlation == p.causation && !correlation_is_command;
    set(field::CORRELATION_IS_COMMAND, correlation_is_command);
    set(field::CORRELATION_IS_CAUSATION, correlation_is_causation);
    let correlation = p
        .correlation
        .filter(|_| !correlation_is_command && !correlation_is_causation);
    set(field::CORRELATION, correlation.is_some());
    set(field::UNIT, p.unit != Unit::SINGLE);
    set(field::HOPS, p.hops != before.hops);
    set(field::PRINCIPAL, differ(&p.principal, &before.principal));
    set(field::TRACE, differ(&p.trace, &before.trace));
    set(field::LABELS, p.labels != before.labels);
    set(
        field::SUBJECT_KEY,
        differ(&p.subject_key, &before.subject_key),
    );
    set(
        field::CONTENT_TYPE,
        differ(&p.content_type, &before.content_type),
    );
    set(field::METADATA, !p.metadata.is_empty());
    let reply = record.local.reply.as_ref();
    let source = reply.and_then(|reply| reply.source.as_ref());
    set(field::REPLY, reply.is_some());
    set(field::REJECTED, reply.is_some_and(|reply| reply.rejected));
    set(field::SOURCE, source.is_some());
    let has = |bit: u32| fields & bit != 0;

    out.put_u8(record.kind as u8);
    out.put_u32(fields);
    if has(field::EVENT_ID) {
        out.put_u128(p.event_id.as_u128());
    }
    if let Some(dot) = &p.dot {
        if has(field::FOREIGN_DOT) {
            put_dot(out, dot);
        } else {
            out.put_varint(u64::from(dot.partition.0));
            out.put_varint(dot.counter);
        }
    }
    if has(field::CONTEXT) {
        out.put_varint(p.context.len() as u64);
        for (origin, counter) in &p.context {
            put_origin(out, origin);
            out.put_varint(*counter);
        }
    }
    if has(field::CAUSES) {
        out.put_varint(p.causes.len() as u64);
        p.causes.iter().for_each(|dot| put_dot(out, dot));
    }
    for (bit, text) in [
        (field::TENANT, &p.entity.tenant),
        (field::ENTITY_TYPE, &p.entity.kind),
        (field::ENTITY_ID, &p.entity.id),
        (field::EVENT_TYPE, &p.event_type),
    ] {
        if has(bit) {
            out.put_text(text);
        }
    }
    if has(field::SCHEMA_VERSION) {
        out.put_varint(u64::from(p.schema_version));
    }
    out.put_signed(record.local.stamp.0.wrapping_sub(stamp));
    out.put_signed((p.hybrid.0 as i64).wrapping_sub(home_hybrid(record.local.stamp)));
    if has(field::EFFECTIVE) {
        out.put_signed(p.effective.0);
    }
    for (bit, id) in [
        (field::COMMAND, p.command),
        (field::CAUSATION, p.causation),
        (field::CORRELATION, correlation),
    ] {
        if let Some(id) = id.filter(|_| has(bit)) {
            out.put_u128(id.as_u128());
        }
    }
    if has(field::UNIT) {
        out.put_varint(u64::from(p.unit.index));
        out.put_varint(u64::from(p.unit.count));
    }
    if has(field::HOPS) {
        out.put_varint(u64::from(p.hops));
    }
    if has(field::PRINCIPAL) {
        out.put_text(&p.principal);
    }
    if has(field::TRACE) {
        out.put_text(&p.trace);
    }
    if has(field::LABELS) {
        out.put_varint(p.labels.len() as u64);
        for (name, value) in &p.labels {
            out.put_text(name);
            out.put_text(value);
        }
    }
    if has(field::SUBJECT_KEY) {
        out.put_text(&p.subject_key);
    }
    if has(field::CONTENT_TYPE) {
        out.put_text(&p.content_type);
    }
    if has(field::METADATA) {
        out.put_slice(&p.metadata);
    }
    out.put_slice(&p.payload);
    out.put_varint(record.local.version);
    if let Some(reply) = reply {
        out.put_u128(reply.command_digest.number());
        out.put_slice(&reply.body);
    }
    if let Some(source) = source {
        out.put_text(&source.handler);
        out.put_varint(u64::from(source.partition.0));
        out.put_varint(source.offset.0);
        out.put_varint(source.settled.0);
    }
}

/// The hybrid time of an event recorded by a clock that nobody is ahead of.
fn home_hybrid(stamp: Stamp) -> i64 {
    stamp.millis() << 16
}

fn put_origin(out: &mut Vec<u8>, origin: &Origin) {
    out.put_text(&origin.site);
    out.put_u128(origin.incarnation.0);
    out.put_varint(u64::from(origin.layout));
}

fn put_dot(out: &mut Vec<u8>, dot: &Dot) {
    put_origin(out, &dot.origin);
    out.put_varint(u64::from(dot.partition.0));
    out.put_varint(dot.counter);
}
