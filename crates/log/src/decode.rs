//! From a frame's bytes to records.

use bytes::Bytes;
use everfold_engine::Record;
use everfold_engine::engine::Identity;
use everfold_engine::record::{Link, Origin, codec};

use crate::frame::{FrameHeader, FrameKind, HEADER, read_floor};

const LINK: usize = 32;

/// The bytes of a batch behind its header, taken apart.
pub(crate) struct Body {
    /// The link before the first record, where the frame carries it.
    pub(crate) previous: Option<Link>,
    /// What the codec wrote.
    pub(crate) codec: Bytes,
}

impl Body {
    /// Splits a frame whose checksum was found right.
    pub(crate) fn of(frame: &Bytes, header: &FrameHeader) -> Result<Self, String> {
        let body = frame.slice(HEADER..header.length as usize);
        if !header.has_previous_link {
            let codec = body;
            return Ok(Self {
                previous: None,
                codec,
            });
        }
        let link = body.first_chunk::<LINK>().ok_or("a body without a link")?;
        Ok(Self {
            previous: Some(Link(*link)),
            codec: body.slice(LINK..),
        })
    }

    /// The records, complete.
    pub(crate) fn records(
        self,
        header: &FrameHeader,
        origin: &Origin,
        chained: bool,
    ) -> Result<Vec<Record>, String> {
        let previous = self.previous.unwrap_or_default();
        let frame = header.codec(origin, chained, previous);
        codec::decode(&self.codec, header.count as usize, &frame).map_err(|error| error.to_string())
    }

    /// The records without their links, and the link of the last one: computing the others costs
    /// more than decoding, and an index needs none.
    pub(crate) fn records_without_links(
        self,
        header: &FrameHeader,
        origin: &Origin,
        chained: bool,
    ) -> Result<(Vec<Record>, Link), String> {
        let frame = header.codec(origin, false, Link::default());
        let (codec, link) = if chained {
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
    let (records, _) = body.records_without_links(header, &identity.origin(), identity.chained)?;
    let first = records.first().ok_or("a batch without records")?;
    Ok(first.local.stamp.0)
}
