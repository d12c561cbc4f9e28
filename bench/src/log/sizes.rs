//! How many bytes an event takes in the log, and what for.

use everfold_engine::engine::Identity;
use everfold_engine::position::Incarnation;
use everfold_engine::record::{Link, Record, codec};
use everfold_engine::{Bytes, HybridTime, Layout, Offset, Partition, Stamp, Text, Timestamp};
use serde::Serialize;

use crate::load::mix;
use crate::order::ORDERS;
use crate::turns::{hundredths, tenths};
use crate::unit::{Clock, Ids, Maker};

/// Frames of so many events are looked at.
const FRAMES: [usize; 3] = [1, 16, 100];

// As docs/format.md says.
const FRAME_HEADER: usize = 56;
const FRAME_ALIGNMENT: usize = 8;
const LINK: usize = 32;

/// What an event of the workload takes, by field.
#[derive(Clone, Debug, Serialize)]
pub struct Sizes {
    /// Which of an event's ids are the same.
    pub ids: Ids,
    /// Events in the frame that is looked at; one column each.
    pub events_per_frame: Vec<usize>,
    /// Bytes per event with its share of the frame.
    pub bytes_per_event: Vec<f64>,
    /// The same by field: what a frame without the field takes less, per event.
    pub fields: Vec<Field>,
}

/// One field's bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Field {
    /// What it is.
    pub field: &'static str,
    /// Bytes per event, in the order of the frames.
    pub bytes: Vec<f64>,
}

/// A field's name, and how a record looks that takes no bytes for it.
type Without = (&'static str, fn(&mut Record));

const FIELDS: &[Without] = &[
    ("payload", |record| record.portable.payload = Bytes::new()),
    ("event id", |record| {
        record.portable.event_id = record.portable.command.unwrap_or_default();
    }),
    ("command id, and what equals it", |record| {
        let portable = &mut record.portable;
        let command = portable.command.take();
        portable.causation = portable.causation.filter(|id| Some(*id) != command);
        portable.correlation = portable.correlation.filter(|id| Some(*id) != command);
    }),
    ("causation", |record| record.portable.causation = None),
    ("correlation", |record| record.portable.correlation = None),
    ("reply with command digest", |record| {
        record.local.reply = None
    }),
    ("entity id", |record| {
        record.portable.entity.id = Text::new()
    }),
    ("entity type", |record| {
        record.portable.entity.kind = Text::new()
    }),
    ("event type", |record| {
        record.portable.event_type = Text::new()
    }),
    ("principal", |record| {
        record.portable.principal = Text::new()
    }),
    ("dot", |record| record.portable.dot = None),
    ("stamp, hybrid and effective time", |record| {
        record.local.stamp = Stamp(0);
        record.portable.hybrid = HybridTime(0);
        record.portable.effective = Timestamp(0);
    }),
];

/// Encodes events of the workload with and without each field.
///
/// # Errors
/// None that this workload meets.
pub(super) fn sizes(ids: Ids) -> anyhow::Result<Sizes> {
    let identity = Identity {
        log: "main".into(),
        site: "local".into(),
        incarnation: Incarnation(7),
        layout: Layout::first(16)?,
        chained: true,
    };
    let frames = FRAMES.map(|count| frame(ids, &identity, count));
    let mut totals = Vec::new();
    let mut columns = Vec::new();
    for records in frames {
        let records = records?;
        let count = records.len() as f64;
        let body = body_bytes(&records, &identity);
        let links = if records.len() > 1 { 2 * LINK } else { LINK };
        let total = frame_bytes(&records, &identity);
        let padding = total - FRAME_HEADER - body;
        let mut column = Vec::new();
        let mut rest = (body - links) as f64 / count;
        for (_, without) in FIELDS {
            let mut less = records.clone();
            less.iter_mut().for_each(without);
            let bytes = (body - body_bytes(&less, &identity)) as f64 / count;
            rest -= bytes;
            column.push(bytes);
        }
        column.push(rest);
        column.extend([FRAME_HEADER, links, padding].map(|bytes| bytes as f64 / count));
        totals.push(tenths(total as f64 / count));
        columns.push(column);
    }
    let names = FIELDS.iter().map(|(name, _)| *name);
    let names = names.chain([
        "kind, mask, version, lengths",
        "frame header",
        "links of the chain",
        "padding",
    ]);
    let fields = names.enumerate().map(|(row, field)| Field {
        field,
        bytes: columns
            .iter()
            .map(|column| hundredths(column[row]))
            .collect(),
    });
    Ok(Sizes {
        ids,
        events_per_frame: FRAMES.to_vec(),
        bytes_per_event: totals,
        fields: fields.collect(),
    })
}

/// Records as an owner would hand them over in one batch, of a partition with some history.
fn frame(ids: Ids, identity: &Identity, count: usize) -> anyhow::Result<Vec<Record>> {
    const EVERY_MICROS: i64 = 10;
    let maker = Maker::new(ids, identity.layout);
    let origin = identity.origin();
    let mut clock = Clock {
        counter: 1_000_000,
        ..Clock::default()
    };
    let mut now = Timestamp::from_date(2026, 1, 1);
    let mut records = Vec::new();
    for number in 0..count as u64 {
        now.0 += EVERY_MICROS;
        let order = mix(number) as usize % ORDERS;
        let (_, unit) = maker.unit(order, mix(number), 1, now)?;
        for mut record in unit {
            clock.complete(&mut record, &origin, Partition(9), now);
            records.push(record);
        }
    }
    Ok(records)
}

/// The bytes of the journal that a batch takes.
pub(super) fn frame_bytes(records: &[Record], identity: &Identity) -> usize {
    (FRAME_HEADER + body_bytes(records, identity)).next_multiple_of(FRAME_ALIGNMENT)
}

fn body_bytes(records: &[Record], identity: &Identity) -> usize {
    let frame = codec::Frame {
        origin: identity.origin(),
        partition: Partition(0),
        epoch: 1,
        batch: 1,
        first: Offset(1),
        chained: identity.chained,
        previous_link: Link::default(),
    };
    let mut bytes = Vec::new();
    codec::encode(&mut bytes, records, &frame);
    let previous = identity.chained && records.len() > 1;
    bytes.len() + if previous { LINK } else { 0 }
}

impl Sizes {
    /// A table for people.
    pub fn table(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let mut line = |name: &str, values: &mut dyn Iterator<Item = String>| {
            let _ = write!(text, "{name:<34}");
            values.for_each(|value| {
                let _ = write!(text, "{value:>9}");
            });
            text.push('\n');
        };
        let ids = match self.ids {
            Ids::Distinct => "all ids distinct",
            Ids::Coinciding => "command = causation = correlation",
        };
        let mut heads = self
            .events_per_frame
            .iter()
            .map(|count| format!("x{count}"));
        line(ids, &mut heads);
        for field in &self.fields {
            let mut values = field.bytes.iter().map(|bytes| format!("{bytes:.2}"));
            line(field.field, &mut values);
        }
        let mut totals = self
            .bytes_per_event
            .iter()
            .map(|bytes| format!("{bytes:.1}"));
        line("bytes per event", &mut totals);
        text
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use everfold_engine::Engine as _;
    use everfold_engine::engine::ReadLimit;
    use everfold_engine::world::{System, World};
    use everfold_log::{Log, Options, segment};

    use super::*;
    use crate::log::Front;

    /// Attacks: a size that is computed but not what lies on the disk.
    #[tokio::test]
    async fn frames_take_as_many_bytes_of_a_segment_as_is_said() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let world: Arc<dyn World> = System::current();
        let mut options = Options::default();
        options.partitions = Some(1);
        let log = Log::open_directory(directory.path(), world.clone(), options).unwrap();
        let maker = Maker::new(Ids::Distinct, log.identity().layout);
        let partition = Partition(0);
        let claimed = Front::claim(log.clone(), world.clone(), partition, Arc::default());
        let mut front = claimed.await.unwrap();
        for (order, events) in [(7, 1), (8, 5), (7, 2), (9, 1)] {
            let now = world.now();
            let (_, records) = maker.unit(order, order as u64, events, now).unwrap();
            records
                .into_iter()
                .for_each(|record| front.put(record, now));
            front.flush().await.unwrap();
        }
        let chunk = log.read(partition, Offset(0), ReadLimit::default()).await;
        let records = chunk.unwrap().records;
        let batches = records.chunk_by(|a, b| a.local.batch == b.local.batch);
        let sum: usize = batches
            .map(|batch| batch.iter().map(|record| Record::clone(record)).collect())
            .map(|batch: Vec<_>| frame_bytes(&batch, log.identity()))
            .sum();
        log.close().await;
        let bytes = std::fs::read(directory.path().join("0000000001.log")).unwrap();
        // The last frame says that the log was closed.
        let close = bytes.windows(4).rposition(|four| four == b"EVFR").unwrap();
        assert_eq!(segment::header_bytes(1) as usize + sum, close);
    }

    #[test]
    fn the_fields_make_up_the_whole() {
        for ids in [Ids::Distinct, Ids::Coinciding] {
            let sizes = sizes(ids).unwrap();
            for (column, total) in sizes.bytes_per_event.iter().enumerate() {
                let sum: f64 = sizes.fields.iter().map(|field| field.bytes[column]).sum();
                assert!((sum - total).abs() < 0.5, "{ids:?}: {sum} of {total}");
                // Nothing that the runtime fills is empty, and nothing is counted twice.
                for field in &sizes.fields[..FIELDS.len()] {
                    let elided = ids == Ids::Coinciding
                        && ["causation", "correlation"].contains(&field.field);
                    assert_eq!(field.bytes[column] > 0.0, !elided, "{field:?}");
                }
                let rest = sizes.fields[FIELDS.len()].bytes[column];
                assert!((5.0..16.0).contains(&rest), "{rest}");
            }
        }
    }
}
