//! Rules that every engine keeps in the same way.

use std::sync::Arc;

use super::{Batch, Limits, ReadLimit, Refusal};
use crate::record::{Portable, Record};
use crate::time::Stamp;

/// The rules that a batch keeps on every engine: limits, whole units, growing stamps. An engine that
/// runs statements takes them out first.
///
/// # Errors
/// [`Refusal`]: nothing may be appended of the batch.
pub fn check_batch(batch: &Batch, limits: Limits, floor: Stamp) -> Result<(), Refusal> {
    if batch.records.is_empty() {
        return Err(Refusal::Invalid("it is empty".into()));
    }
    if !batch.statements.is_empty() {
        let reason = "it carries statements, and there are no tables beside this log";
        return Err(Refusal::Invalid(reason.into()));
    }
    if batch.records.len() > limits.batch_records {
        return Err(Refusal::TooLarge {
            bytes: batch.records.len(),
            limit: limits.batch_records,
        });
    }
    let (mut total, mut unit, mut expected, mut last) = (0, 0, 0, floor);
    for record in &batch.records {
        let bytes = event_bytes(&record.portable);
        let reply = record.local.reply.as_ref();
        let with_reply = bytes + reply.map_or(0, |reply| reply.body.len());
        let place = record.portable.unit;
        if place.index != expected || place.count == 0 || place.index >= place.count {
            return Err(Refusal::Invalid(
                "its units are not whole and in order".into(),
            ));
        }
        if record.local.stamp <= last {
            return Err(Refusal::Invalid(
                "its stamps do not grow above the floor".into(),
            ));
        }
        last = record.local.stamp;
        expected = if place.is_last() { 0 } else { expected + 1 };
        unit = if place.index == 0 {
            with_reply
        } else {
            unit + with_reply
        };
        total += with_reply;
        let over = [
            (bytes, limits.event_bytes),
            (unit, limits.unit_bytes),
            (total, limits.batch_bytes),
        ];
        if let Some((bytes, limit)) = over.into_iter().find(|(bytes, limit)| bytes > limit) {
            return Err(Refusal::TooLarge { bytes, limit });
        }
    }
    if expected == 0 {
        Ok(())
    } else {
        Err(Refusal::Invalid("its last unit is cut".into()))
    }
}

/// What counts against the limit of an event: all that may be of any length.
fn event_bytes(portable: &Portable) -> usize {
    let labels = portable.labels.iter();
    portable.payload.len()
        + portable.metadata.len()
        + portable.principal.len()
        + portable.trace.len()
        + labels
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>()
}

/// The longest prefix of `records` that keeps within the limit and ends with a unit, but never less
/// than one unit.
pub fn whole_units(records: &mut Vec<Arc<Record>>, limit: ReadLimit) {
    let (mut bytes, mut end) = (0, 0);
    for (index, record) in records.iter().enumerate() {
        bytes += record.portable.payload.len();
        if end > 0 && (index >= limit.records || bytes > limit.bytes) {
            break;
        }
        if record.portable.unit.is_last() {
            end = index + 1;
        }
    }
    records.truncate(end);
}
