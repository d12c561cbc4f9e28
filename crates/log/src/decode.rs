//! From a frame's bytes to records.

use std::sync::Arc;

use bytes::Bytes;
use everfold_engine::engine::Identity;
use everfold_engine::record::wire::{Reader, WireError, Writer};
use everfold_engine::record::{Digest, Kind, Link, Origin, codec};
use everfold_engine::{Offset, Record};

use crate::frame::{FrameHeader, FrameKind, HEADER, read_floor};

const LINK: usize = 32;

/// The bytes of a batch behind its header, taken apart.
pub(crate) struct Body {
    /// The link before the first record, where the frame carries it.
    pub(crate) previous: Option<Link>,
    /// What the codec wrote.
    codec: Bytes,
    /// Whether some records were trimmed.
    reduced: bool,
}

/// A record, or what is left of one.
pub(crate) enum Slot {
    Kept(Box<Record>),
    Trimmed(Husk),
}

/// What keeps the chain whole where a record was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Husk {
    pub(crate) kind: Kind,
    pub(crate) version: u64,
    /// All zero in a log without a chain.
    pub(crate) digest: Digest,
}

/// Set in the kind of a record that was trimmed.
const TRIMMED: u8 = 0x80;

impl Body {
    /// Splits a frame whose checksum was found right.
    pub(crate) fn of(frame: &Bytes, header: &FrameHeader) -> Result<Self, String> {
        let body = frame.slice(HEADER..header.length as usize);
        let reduced = header.kind == FrameKind::Reduced;
        if !header.has_previous_link {
            return Ok(Self {
                previous: None,
                codec: body,
                reduced,
            });
        }
        let link = body.first_chunk::<LINK>().ok_or("a body without a link")?;
        Ok(Self {
            previous: Some(Link(*link)),
            codec: body.slice(LINK..),
            reduced,
        })
    }

    /// Every record, or what is left of it, and the link of the last one.
    pub(crate) fn slots(
        self,
        header: &FrameHeader,
        identity: &Identity,
    ) -> Result<(Vec<Slot>, Link), String> {
        let (origin, chained) = (identity.origin(), identity.chained);
        if !self.reduced {
            let records = self.records(header, identity)?;
            let link = records.last().map(|last| last.local.link);
            let kept = records
                .into_iter()
                .map(|record| Slot::Kept(Box::new(record)));
            return Ok((kept.collect(), link.unwrap_or_default()));
        }
        let mut link = self.previous.unwrap_or_default();
        let mut reader = Reader::new(&self.codec);
        let mut slots = Vec::new();
        for index in 0..u64::from(header.count) {
            let slot = self.slot(&mut reader, header, &origin, chained, index)?;
            let slot = match slot {
                Slot::Kept(mut record) if chained => {
                    link = record.link_after(link);
                    record.local.link = link;
                    Slot::Kept(record)
                }
                Slot::Trimmed(husk) if chained => {
                    link = link.next(husk.kind, husk.version, husk.digest);
                    Slot::Trimmed(husk)
                }
                slot => slot,
            };
            slots.push(slot);
        }
        if chained {
            let last = reader.take(LINK).map_err(|error| error.to_string())?;
            link = Link(last.try_into().map_err(|_| "a body without a link")?);
        }
        Ok((slots, link))
    }

    fn slot(
        &self,
        reader: &mut Reader<'_>,
        header: &FrameHeader,
        origin: &Origin,
        chained: bool,
        index: u64,
    ) -> Result<Slot, String> {
        let text = |error: WireError| error.to_string();
        let code = reader.u8().map_err(text)?;
        if code & TRIMMED != 0 {
            let kind = Kind::of(code & !TRIMMED).ok_or("a trimmed record of an unknown kind")?;
            let version = reader.varint().map_err(text)?;
            let digest = match chained {
                true => reader.take(LINK).map_err(text)?.try_into(),
                false => Ok([0; LINK]),
            };
            let digest = Digest(digest.map_err(|_| "a trimmed record without a digest")?);
            return Ok(Slot::Trimmed(Husk {
                kind,
                version,
                digest,
            }));
        }
        let length = reader.slice().map_err(text)?.len();
        let end = reader.taken();
        let frame = codec::Frame {
            first: Offset(header.first.0 + index),
            ..header.codec(origin, false, Link::default())
        };
        let bytes = self.codec.slice(end - length..end);
        let mut records = codec::decode(&bytes, 1, &frame).map_err(text)?;
        let record = records.pop().ok_or("no record")?;
        Ok(Slot::Kept(Box::new(record)))
    }

    /// The records, complete; without those that were trimmed.
    pub(crate) fn records(
        self,
        header: &FrameHeader,
        identity: &Identity,
    ) -> Result<Vec<Record>, String> {
        if self.reduced {
            return Ok(kept(self.slots(header, identity)?.0));
        }
        let previous = self.previous.unwrap_or_default();
        let frame = header.codec(&identity.origin(), identity.chained, previous);
        codec::decode(&self.codec, header.count as usize, &frame).map_err(|error| error.to_string())
    }

    /// The records at offsets that are wanted, only the batch's last one with its link.
    pub(crate) fn some(
        self,
        header: &FrameHeader,
        identity: &Identity,
        wanted: impl Fn(u64) -> bool,
    ) -> Result<Vec<Arc<Record>>, String> {
        if self.reduced {
            let mut records = kept(self.slots(header, identity)?.0);
            records.retain(|record| wanted(record.local.offset.0));
            return Ok(records.into_iter().map(Arc::new).collect());
        }
        let frame = header.codec(&identity.origin(), identity.chained, Link::default());
        let wanted = |index| wanted(header.first.0 + index);
        codec::decode_some(&self.codec, header.count as usize, &frame, wanted)
            .map_err(|error| error.to_string())
    }

    /// The records without their links, and the link of the last one: computing the others costs
    /// more than decoding, and an index needs none.
    pub(crate) fn records_without_links(
        self,
        header: &FrameHeader,
        identity: &Identity,
    ) -> Result<(Vec<Record>, Link), String> {
        if self.reduced {
            let (slots, link) = self.slots(header, identity)?;
            return Ok((kept(slots), link));
        }
        let frame = header.codec(&identity.origin(), false, Link::default());
        let (codec, link) = if identity.chained {
            let split = self.codec.len().checked_sub(LINK);
            let split = split.ok_or("a body without a link")?;
            let link = self.codec[split..].first_chunk::<LINK>();
            let link = Link(*link.ok_or("a body without a link")?);
            (self.codec.slice(..split), link)
        } else {
            (self.codec.clone(), Link::default())
        };
        let records = codec::decode(&codec, header.count as usize, &frame)
            .map_err(|error| error.to_string())?;
        Ok((records, link))
    }
}

fn kept(slots: Vec<Slot>) -> Vec<Record> {
    let kept = slots.into_iter().filter_map(|slot| match slot {
        Slot::Kept(record) => Some(*record),
        Slot::Trimmed(_) => None,
    });
    kept.collect()
}

/// The body of a reduced frame.
pub(crate) fn encode_reduced(
    previous: Option<Link>,
    slots: &[Slot],
    last: Link,
    header: &FrameHeader,
    identity: &Identity,
) -> Vec<u8> {
    let mut body = Vec::new();
    if let Some(previous) = previous {
        body.extend_from_slice(&previous.0);
    }
    let frame = header.codec(&identity.origin(), false, Link::default());
    for slot in slots {
        match slot {
            Slot::Kept(record) => {
                body.put_u8(0);
                let mut bytes = Vec::new();
                codec::encode(&mut bytes, std::slice::from_ref(record), &frame);
                body.put_slice(&bytes);
            }
            Slot::Trimmed(husk) => {
                body.put_u8(husk.kind as u8 | TRIMMED);
                body.put_varint(husk.version);
                if identity.chained {
                    body.extend_from_slice(&husk.digest.0);
                }
            }
        }
    }
    if identity.chained {
        body.extend_from_slice(&last.0);
    }
    body
}

/// The stamp of a frame's first record, or the floor that it notes.
pub(crate) fn first_stamp(
    frame: &Bytes,
    header: &FrameHeader,
    identity: &Identity,
) -> Result<i64, String> {
    if header.kind == FrameKind::Floor {
        let floor = read_floor(&frame[HEADER..]).ok_or("a floor of fewer bytes")?;
        return Ok(floor.0);
    }
    let body = Body::of(frame, header)?;
    let (records, _) = body.records_without_links(header, identity)?;
    // Without a record there is nothing that a search by time could miss.
    Ok(records.first().map_or(0, |first| first.local.stamp.0))
}
