//! Records as rows, and back.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use everfold_engine::engine::Epoch;
use everfold_engine::record::codec::{Frame, decode, encode};
use everfold_engine::record::{JSON, Kind, Link, Origin, Record};
use everfold_engine::{Offset, Partition, Text, Timestamp, Uuid};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use crate::error::Failed;
use crate::json::fitting;
use crate::text::{array_literal, escape, restore};

/// What is read of a row, in this order; see [`Decoder::record`].
pub(crate) const COLUMNS: &str = "log_offset, epoch, batch, tenant, entity_type, entity_id, \
                                  event_type, payload, payload_bytes, link, rest";
/// How many columns these are.
pub(crate) const WIDTH: usize = 11;

/// A moment as `timestamptz` holds it; what it cannot hold becomes infinite.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(pub(crate) Timestamp);

impl ToSql for Moment {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        // Microseconds between 1970 and 2000, where PostgreSQL begins to count.
        const EPOCH: i64 = 946_684_800_000_000;
        // Its first and last moment: 4714-11-24 before our era, and the end of 294276.
        const RANGE: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;
        let moment = self.0.0.saturating_sub(EPOCH);
        out.put_i64(match moment {
            moment if RANGE.contains(&moment) => moment,
            moment if moment < 0 => i64::MIN,
            _ => i64::MAX,
        });
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

/// The records of a batch as columns.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) kinds: Vec<i16>,
    pub(crate) tenants: Vec<Text>,
    pub(crate) entity_types: Vec<Text>,
    pub(crate) entity_ids: Vec<Text>,
    pub(crate) versions: Vec<i64>,
    pub(crate) event_ids: Vec<Uuid>,
    pub(crate) event_types: Vec<Text>,
    pub(crate) schema_versions: Vec<i64>,
    pub(crate) effective: Vec<Moment>,
    pub(crate) recorded: Vec<Moment>,
    pub(crate) labels: Vec<Option<String>>,
    /// With whether it fits into `json`.
    pub(crate) payloads: Vec<(Bytes, bool)>,
    pub(crate) stamps: Vec<i64>,
    pub(crate) links: Vec<Option<[u8; 32]>>,
    pub(crate) rests: Vec<Vec<u8>>,
    pub(crate) bytes: usize,
}

fn sql_text(text: Text) -> Text {
    match escape(&text) {
        std::borrow::Cow::Borrowed(_) => text,
        std::borrow::Cow::Owned(escaped) => escaped.into(),
    }
}

impl Rows {
    /// Takes a batch apart.
    pub(crate) fn of(
        records: Vec<Record>,
        origin: &Origin,
        chained: bool,
        partition: Partition,
    ) -> Self {
        let frame = frame(origin, partition);
        let mut rows = Self::default();
        for mut record in records {
            rows.kinds.push(record.kind as i16);
            rows.versions.push(record.local.version as i64);
            rows.stamps.push(record.local.stamp.0);
            rows.recorded.push(Moment(record.recorded()));
            let link = chained.then_some(record.local.link.0);
            rows.links.push(link);
            let portable = &mut record.portable;
            rows.event_ids.push(portable.event_id);
            rows.schema_versions
                .push(i64::from(portable.schema_version));
            rows.effective.push(Moment(portable.effective));
            let labels = portable.labels.iter();
            let labels = labels.map(|(name, value)| (name.as_ref(), value.as_ref()));
            rows.labels
                .push((!portable.labels.is_empty()).then(|| array_literal(labels)));
            let payload = std::mem::take(&mut portable.payload);
            let is_json = portable.content_type.as_bytes() == JSON.as_bytes()
                || portable.content_type.ends_with("+json");
            let fits = is_json && fitting(&payload).is_some();
            rows.bytes += payload.len();
            rows.payloads.push((payload, fits));
            // What has a column that holds it exactly is not held twice.
            let take = |text: &mut Text| sql_text(std::mem::take(text));
            rows.tenants.push(take(&mut portable.entity.tenant));
            rows.entity_types.push(take(&mut portable.entity.kind));
            rows.entity_ids.push(take(&mut portable.entity.id));
            rows.event_types.push(take(&mut portable.event_type));
            let mut rest = Vec::with_capacity(64);
            encode(&mut rest, std::slice::from_ref(&record), &frame);
            rows.bytes += rest.len();
            rows.rests.push(rest);
        }
        rows
    }

    pub(crate) fn len(&self) -> usize {
        self.rests.len()
    }
}

/// `origin` must be the same whenever a record is read: what repeats it is not stored.
fn frame(origin: &Origin, partition: Partition) -> Frame {
    Frame {
        origin: origin.clone(),
        partition,
        epoch: 0,
        batch: 0,
        first: Offset(0),
        chained: false,
        previous_link: Link::default(),
    }
}

/// A value as it came, whatever its type.
pub(crate) struct Raw<'a>(pub(crate) &'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Makes records of the rows of one partition. Names that repeat are shared.
pub(crate) struct Decoder {
    frame: Frame,
    seen: [Text; 3],
}

impl Decoder {
    pub(crate) fn new(origin: &Origin, partition: Partition) -> Self {
        Self {
            frame: frame(origin, partition),
            seen: [const { Text::from_static("") }; 3],
        }
    }

    /// The record of a row's [`COLUMNS`].
    pub(crate) fn record<'a>(
        &mut self,
        mut column: impl FnMut(usize) -> Option<&'a [u8]>,
    ) -> Result<Arc<Record>, Failed> {
        let number = |raw: Option<&[u8]>| {
            let bytes = raw.and_then(|raw| raw.try_into().ok());
            bytes
                .map(i64::from_be_bytes)
                .ok_or_else(|| missing("a number"))
        };
        let offset = Offset(number(column(0))? as u64);
        self.frame.first = offset;
        self.frame.epoch = Epoch(number(column(1))? as u64).0;
        self.frame.batch = number(column(2))? as u64;
        let rest = column(10).ok_or_else(|| missing("the column rest"))?;
        let rest = Bytes::copy_from_slice(rest);
        let decoded = decode(&rest, 1, &self.frame);
        let mut record = decoded
            .ok()
            .and_then(|mut records| records.pop())
            .ok_or_else(|| Failed::damaged(format!("the column rest at offset {offset}")))?;
        let portable = &mut record.portable;
        portable.entity.tenant = self.name(0, column(3))?;
        portable.entity.kind = self.name(1, column(4))?;
        portable.entity.id = restored(text(column(5))?);
        portable.event_type = self.name(2, column(6))?;
        if let Some(payload) = column(7).or_else(|| column(8)) {
            portable.payload = Bytes::copy_from_slice(payload);
        }
        if let Some(link) = column(9) {
            let link = link.try_into().map_err(|_| missing("a link of 32 bytes"))?;
            record.local.link = Link(link);
        }
        Ok(Arc::new(record))
    }

    fn name(&mut self, place: usize, raw: Option<&[u8]>) -> Result<Text, Failed> {
        let text = text(raw)?;
        let seen = &mut self.seen[place];
        if seen.as_bytes() != text.as_bytes() {
            *seen = text.into();
        }
        match text.contains('␀') {
            true => Ok(restored(text)),
            false => Ok(seen.clone()),
        }
    }
}

fn text(raw: Option<&[u8]>) -> Result<&str, Failed> {
    raw.and_then(|raw| std::str::from_utf8(raw).ok())
        .ok_or_else(|| missing("a text"))
}

fn restored(text: &str) -> Text {
    restore(text).as_ref().into()
}

fn missing(what: &str) -> Failed {
    Failed::damaged(format!("a row of the table event lacks {what}"))
}

/// Whether a record counts as one of its entity's events.
pub(crate) const EVENT: i16 = Kind::Event as i16;
