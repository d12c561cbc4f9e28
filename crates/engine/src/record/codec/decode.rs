//! From the bytes of a batch to records.
//!
//! Each record is first taken apart into places ([`Shape`]), which costs little; what nobody wants is
//! never made.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{Frame, field, home_hybrid};
use crate::Text;
use crate::name::EntityKey;
use crate::position::{Incarnation, Offset};
use crate::record::wire::{Reader, WireError};
use crate::record::{
    Context, Dot, JSON, Kind, Link, Local, Origin, Portable, Record, Reply, Source, Unit,
};
use crate::slot::Partition;
use crate::time::{HybridTime, Stamp, Timestamp};

/// Reads the records of a batch; slices of `bytes` are shared, not copied.
///
/// # Errors
/// [`WireError`]: the bytes are no batch of this version; the log is damaged or newer.
pub fn decode(bytes: &Bytes, count: usize, frame: &Frame) -> Result<Vec<Record>, WireError> {
    let mut records: Vec<Record> = Vec::with_capacity(count.min(bytes.len()));
    let stored = each(bytes, count, frame, |_| true, |record| records.push(record))?;
    let last = records.len().saturating_sub(1);
    if let Some(stored) = stored.filter(|_| !records.is_empty()) {
        if last > 0 {
            // The links between are a function of the records, so they are not stored.
            let mut link = frame.previous_link;
            for record in &mut records[..last] {
                link = record.link_after(link);
                record.local.link = link;
            }
        }
        records[last].local.link = stored;
    }
    Ok(records)
}

/// Reads those records of a batch that are wanted, by their place in it. Of the links of a chained
/// batch only the last record's is known.
///
/// # Errors
/// Those of [`decode`].
pub fn decode_some(
    bytes: &Bytes,
    count: usize,
    frame: &Frame,
    wanted: impl Fn(u64) -> bool,
) -> Result<Vec<Arc<Record>>, WireError> {
    let end = Offset(frame.first.0 + (count as u64).saturating_sub(1));
    let mut records: Vec<Arc<Record>> = Vec::new();
    let stored = each(bytes, count, frame, wanted, |record| {
        records.push(Arc::new(record));
    })?;
    if let (Some(link), Some(last)) = (stored, records.last_mut().and_then(Arc::get_mut))
        && last.local.offset == end
    {
        last.local.link = link;
    }
    Ok(records)
}

/// Makes the wanted records; the link behind them, if the batch is chained.
fn each(
    bytes: &Bytes,
    count: usize,
    frame: &Frame,
    wanted: impl Fn(u64) -> bool,
    mut found: impl FnMut(Record),
) -> Result<Option<Link>, WireError> {
    let mut decoder = Decoder {
        bytes,
        reader: Reader::new(bytes),
        carried: Carried::default(),
    };
    let mut stamp = 0;
    for index in 0..count as u64 {
        let shape = decoder.shape(stamp, frame)?;
        stamp = shape.stamp.0;
        if wanted(index) {
            found(decoder.record(&shape, frame, index)?);
        }
    }
    let link = match frame.chained && count > 0 {
        true => Some(Link(
            decoder
                .reader
                .take(32)?
                .try_into()
                .map_err(|_| WireError::Short(32))?,
        )),
        false => None,
    };
    match decoder.reader.is_empty() {
        true => Ok(link),
        false => Err(WireError::Unknown {
            what: "trailing byte",
            code: decoder.reader.taken() as u64,
        }),
    }
}

/// Where some bytes of the batch are.
#[derive(Clone, Copy, Default)]
struct Span {
    start: usize,
    length: usize,
}

/// A text that holds until another one is written, made when it is first wanted.
#[derive(Default)]
struct Carry {
    span: Option<Span>,
    text: Option<Text>,
}

/// What a record takes over from the one before.
struct Carried {
    tenant: Carry,
    entity_type: Carry,
    entity_id: Carry,
    event_type: Carry,
    principal: Carry,
    trace: Carry,
    subject_key: Carry,
    content_type: Carry,
    context: Span,
    causes: Span,
    labels: Span,
    schema_version: u32,
    hops: u32,
}

impl Default for Carried {
    fn default() -> Self {
        Self {
            tenant: Carry::default(),
            entity_type: Carry::default(),
            entity_id: Carry::default(),
            event_type: Carry::default(),
            principal: Carry::default(),
            trace: Carry::default(),
            subject_key: Carry::default(),
            content_type: Carry {
                span: None,
                text: Some(Text::from_static(JSON)),
            },
            context: Span::default(),
            causes: Span::default(),
            labels: Span::default(),
            schema_version: 1,
            hops: 0,
        }
    }
}

/// A record taken apart, but for what it takes over.
struct Shape {
    kind: Kind,
    fields: u32,
    event_id: Option<Uuid>,
    /// Of the log's own origin.
    home_dot: (Partition, u64),
    foreign_dot: Span,
    stamp: Stamp,
    hybrid: HybridTime,
    effective: Timestamp,
    command: Option<Uuid>,
    causation: Option<Uuid>,
    correlation: Option<Uuid>,
    unit: Unit,
    metadata: Span,
    payload: Span,
    version: u64,
    reply: Span,
}

struct Decoder<'a> {
    bytes: &'a Bytes,
    reader: Reader<'a>,
    carried: Carried,
}

impl<'a> Decoder<'a> {
    fn shape(&mut self, stamp: i64, frame: &Frame) -> Result<Shape, WireError> {
        let code = self.reader.u8()?;
        let kind = Kind::of(code).ok_or(WireError::Unknown {
            what: "record kind",
            code: u64::from(code),
        })?;
        let fields = self.reader.u32()?;
        if fields & !field::KNOWN != 0 {
            return Err(WireError::Unknown {
                what: "field",
                code: u64::from(fields),
            });
        }
        let has = |bit: u32| fields & bit != 0;
        let event_id = has(field::EVENT_ID).then(|| self.id()).transpose()?;
        let mut home_dot = (frame.partition, 0);
        let mut foreign_dot = Span::default();
        if has(field::DOT) && has(field::FOREIGN_DOT) {
            foreign_dot = self.passed(|decoder| decoder.dot().map(drop))?;
        } else if has(field::DOT) {
            home_dot = (self.partition()?, self.reader.varint()?);
        }
        if has(field::CONTEXT) {
            self.carried.context = self.passed(|decoder| decoder.context().map(drop))?;
        }
        if has(field::CAUSES) {
            self.carried.causes = self.passed(|decoder| decoder.list(Self::dot).map(drop))?;
        }
        self.carry(has(field::TENANT), |carried| &mut carried.tenant)?;
        self.carry(has(field::ENTITY_TYPE), |carried| &mut carried.entity_type)?;
        self.carry(has(field::ENTITY_ID), |carried| &mut carried.entity_id)?;
        self.carry(has(field::EVENT_TYPE), |carried| &mut carried.event_type)?;
        if has(field::SCHEMA_VERSION) {
            self.carried.schema_version = self.small("schema version")?;
        }
        let stamp = Stamp(stamp.wrapping_add(self.reader.signed()?));
        let hybrid = HybridTime(home_hybrid(stamp).wrapping_add(self.reader.signed()?) as u64);
        let effective = match has(field::EFFECTIVE) {
            true => Timestamp(self.reader.signed()?),
            false => stamp.time(),
        };
        let command = has(field::COMMAND).then(|| self.id()).transpose()?;
        let mut causation = has(field::CAUSATION).then(|| self.id()).transpose()?;
        if has(field::CAUSATION_IS_COMMAND) {
            causation = command;
        }
        let mut correlation = has(field::CORRELATION).then(|| self.id()).transpose()?;
        if has(field::CORRELATION_IS_COMMAND) {
            correlation = command;
        } else if has(field::CORRELATION_IS_CAUSATION) {
            correlation = causation;
        }
        let unit = match has(field::UNIT) {
            true => Unit {
                index: self.small("unit index")?,
                count: self.small("unit count")?,
            },
            false => Unit::SINGLE,
        };
        if has(field::HOPS) {
            self.carried.hops = self.small("hop count")?;
        }
        self.carry(has(field::PRINCIPAL), |carried| &mut carried.principal)?;
        self.carry(has(field::TRACE), |carried| &mut carried.trace)?;
        if has(field::LABELS) {
            self.carried.labels = self.passed(|decoder| decoder.list(Self::pair).map(drop))?;
        }
        self.carry(has(field::SUBJECT_KEY), |carried| &mut carried.subject_key)?;
        self.carry(has(field::CONTENT_TYPE), |carried| {
            &mut carried.content_type
        })?;
        let metadata = match has(field::METADATA) {
            true => self.slice()?,
            false => Span::default(),
        };
        let payload = self.slice()?;
        let version = self.reader.varint()?;
        let reply = match has(field::REPLY) {
            true => self.passed(|decoder| decoder.skip_reply(fields))?,
            false => Span::default(),
        };
        Ok(Shape {
            kind,
            fields,
            event_id,
            home_dot,
            foreign_dot,
            stamp,
            hybrid,
            effective,
            command,
            causation,
            correlation,
            unit,
            metadata,
            payload,
            version,
            reply,
        })
    }

    /// Makes the record that was taken apart last.
    fn record(&mut self, shape: &Shape, frame: &Frame, index: u64) -> Result<Record, WireError> {
        let has = |bit: u32| shape.fields & bit != 0;
        let dot = match (has(field::DOT), has(field::FOREIGN_DOT)) {
            (false, _) => None,
            (true, true) => Some(self.at(shape.foreign_dot).dot()?),
            (true, false) => Some(Dot {
                origin: frame.origin.clone(),
                partition: shape.home_dot.0,
                counter: shape.home_dot.1,
            }),
        };
        let (bytes, carried) = (self.bytes, &self.carried);
        let context = match carried.context.length {
            0 => Context::new(),
            _ => self.at(carried.context).context()?,
        };
        let causes = match carried.causes.length {
            0 => Vec::new(),
            _ => self.at(carried.causes).list(Self::dot)?,
        };
        let labels = match carried.labels.length {
            0 => Vec::new(),
            _ => self.at(carried.labels).list(Self::pair)?,
        };
        let reply = match has(field::REPLY) {
            true => Some(self.at(shape.reply).reply(shape.fields)?),
            false => None,
        };
        let carried = &mut self.carried;
        Ok(Record {
            kind: shape.kind,
            portable: Portable {
                event_id: shape.event_id.or(shape.command).unwrap_or_default(),
                dot,
                context,
                causes,
                entity: EntityKey {
                    tenant: carried.tenant.get(bytes)?,
                    kind: carried.entity_type.get(bytes)?,
                    id: carried.entity_id.get(bytes)?,
                },
                event_type: carried.event_type.get(bytes)?,
                schema_version: carried.schema_version,
                effective: shape.effective,
                hybrid: shape.hybrid,
                causation: shape.causation,
                correlation: shape.correlation,
                command: shape.command,
                unit: shape.unit,
                hops: carried.hops,
                principal: carried.principal.get(bytes)?,
                trace: carried.trace.get(bytes)?,
                labels,
                subject_key: carried.subject_key.get(bytes)?,
                content_type: carried.content_type.get(bytes)?,
                metadata: shape.metadata.of(bytes),
                payload: shape.payload.of(bytes),
            },
            local: Local {
                offset: Offset(frame.first.0 + index),
                version: shape.version,
                epoch: frame.epoch,
                batch: frame.batch,
                stamp: shape.stamp,
                reply,
                link: Link::default(),
            },
        })
    }

    /// A decoder of some bytes that were passed before.
    fn at(&self, span: Span) -> Decoder<'a> {
        let whole: &'a Bytes = self.bytes;
        let bytes = &whole[..span.start + span.length];
        let mut reader = Reader::new(bytes);
        // It is there: the same bytes were passed before.
        let _ = reader.take(span.start);
        Decoder {
            bytes: self.bytes,
            reader,
            carried: Carried::default(),
        }
    }

    /// Passes over something; where it is.
    fn passed(
        &mut self,
        pass: impl FnOnce(&mut Self) -> Result<(), WireError>,
    ) -> Result<Span, WireError> {
        let start = self.reader.taken();
        pass(self)?;
        Ok(Span {
            start,
            length: self.reader.taken() - start,
        })
    }

    fn carry(
        &mut self,
        present: bool,
        field: impl FnOnce(&mut Carried) -> &mut Carry,
    ) -> Result<(), WireError> {
        if present {
            let span = Some(self.slice()?);
            *field(&mut self.carried) = Carry { span, text: None };
        }
        Ok(())
    }

    fn reply(&mut self, fields: u32) -> Result<Reply, WireError> {
        let command_digest = self.reader.u128()?.into();
        let body = self.slice()?.of(self.bytes);
        let source = match fields & field::SOURCE {
            0 => None,
            _ => Some(Source {
                handler: self.text()?,
                partition: self.partition()?,
                offset: Offset(self.reader.varint()?),
                settled: Offset(self.reader.varint()?),
            }),
        };
        Ok(Reply {
            command_digest,
            rejected: fields & field::REJECTED != 0,
            body,
            source,
        })
    }

    fn skip_reply(&mut self, fields: u32) -> Result<(), WireError> {
        self.reader.u128()?;
        self.slice()?;
        if fields & field::SOURCE != 0 {
            self.slice()?;
            self.partition()?;
            self.reader.varint()?;
            self.reader.varint()?;
        }
        Ok(())
    }

    fn slice(&mut self) -> Result<Span, WireError> {
        let length = self.reader.length()?;
        let start = self.reader.taken();
        self.reader.take(length)?;
        Ok(Span { start, length })
    }

    fn text(&mut self) -> Result<Text, WireError> {
        let span = self.slice()?;
        Text::try_from(span.of(self.bytes)).map_err(|_| WireError::NotText)
    }

    fn pair(&mut self) -> Result<(Text, Text), WireError> {
        Ok((self.text()?, self.text()?))
    }

    fn id(&mut self) -> Result<Uuid, WireError> {
        Ok(Uuid::from_u128(self.reader.u128()?))
    }

    fn small(&mut self, what: &'static str) -> Result<u32, WireError> {
        let code = self.reader.varint()?;
        u32::try_from(code).map_err(|_| WireError::Unknown { what, code })
    }

    fn partition(&mut self) -> Result<Partition, WireError> {
        let code = self.reader.varint()?;
        u16::try_from(code)
            .map(Partition)
            .map_err(|_| WireError::Unknown {
                what: "partition",
                code,
            })
    }

    fn origin(&mut self) -> Result<Origin, WireError> {
        Ok(Origin {
            site: self.text()?,
            incarnation: Incarnation(self.reader.u128()?),
            layout: self.small("layout number")?,
        })
    }

    fn dot(&mut self) -> Result<Dot, WireError> {
        Ok(Dot {
            origin: self.origin()?,
            partition: self.partition()?,
            counter: self.reader.varint()?,
        })
    }

    fn context(&mut self) -> Result<Context, WireError> {
        self.list(|decoder| Ok((decoder.origin()?, decoder.reader.varint()?)))
    }

    fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        // No allocation ahead: the count is not to be trusted before its items are there.
        let mut list = Vec::new();
        for _ in 0..self.reader.length()? {
            list.push(item(self)?);
        }
        Ok(list)
    }
}

impl Span {
    fn of(self, bytes: &Bytes) -> Bytes {
        match self.length {
            0 => Bytes::new(),
            length => bytes.slice(self.start..self.start + length),
        }
    }
}

impl Carry {
    fn get(&mut self, bytes: &Bytes) -> Result<Text, WireError> {
        if let Some(text) = &self.text {
            return Ok(text.clone());
        }
        let text = match self.span {
            Some(span) => Text::try_from(span.of(bytes)).map_err(|_| WireError::NotText)?,
            None => Text::new(),
        };
        self.text = Some(text.clone());
        Ok(text)
    }
}
