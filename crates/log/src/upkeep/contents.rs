//! What full segments hold, however they are stored.

use bytes::Bytes;
use everfold_engine::Record;

use super::Upkeep;
use crate::decode::Body;
use crate::error::OpenError;
use crate::frame::{FrameHeader, FrameKind};
use crate::index::FramePlace;
use crate::open::{Segment, check_length, read_whole, segment_of};
use crate::recovery::{Recovered, Verdict, recover};
use crate::sealed::Walk;
use crate::segment::SegmentHeader;
use crate::segments::Form;

/// A batch of a full segment, without what was trimmed of it.
pub(crate) struct Batch {
    pub(crate) header: FrameHeader,
    /// In order, without links.
    pub(crate) records: Vec<Record>,
    /// Where it lies, in a segment that is as it was written.
    pub(crate) place: Option<FramePlace>,
}

impl Upkeep {
    /// A segment as it was written, the header of the next one, and what it holds.
    pub(super) fn full_segment(
        &self,
        generation: u64,
    ) -> Result<(Segment, SegmentHeader, Bytes, Recovered), OpenError> {
        let segment = segment_of(&*self.disk, generation)?;
        let next = self.source.segments.header(generation + 1)?;
        let mut expectation = segment.expectation();
        expectation.sealed_end = Some(next.previous_end);
        check_length(&segment)?;
        let bytes = read_whole(&*self.disk, &segment.name)?;
        let recovered = recover(&bytes, &expectation);
        match recovered.verdict {
            Verdict::Damaged {
                at,
                expected,
                found,
            } => Err(segment.damage(at, expected, found).into()),
            _ => Ok((segment, next, bytes, recovered)),
        }
    }

    /// Reads a packed segment into the partitions, to index it again. Where its frames lie the
    /// segment says itself.
    pub(crate) fn load_packed(&self, generation: u64) -> Result<(), OpenError> {
        let header = self.source.segments.sealed(generation)?.header().clone();
        for (shard, start) in self.shards.iter().zip(&header.segment.starts) {
            shard.state().restart(*start);
        }
        self.for_each_batch(generation, &mut |batch| {
            if let Some(shard) = self.shards.get(batch.header.partition.index()) {
                let mut state = shard.state();
                batch.records.iter().for_each(|record| state.index(record));
            }
        })?;
        for (shard, end) in self.shards.iter().zip(&header.ends) {
            shard.state().at = *end;
        }
        Ok(())
    }

    /// Shows every batch of a full segment, those of each partition in order.
    pub(crate) fn for_each_batch(
        &self,
        generation: u64,
        visit: &mut dyn FnMut(Batch),
    ) -> Result<(), OpenError> {
        if self.source.segments.form(generation) == Some(Form::Sealed) {
            return self.for_each_packed(generation, visit);
        }
        let (segment, _, bytes, recovered) = self.full_segment(generation)?;
        for found in &recovered.frames {
            let header = found.header;
            if header.kind != FrameKind::Batch {
                continue;
            }
            let begin = found.position as usize;
            let frame = bytes.slice(begin..begin + header.length as usize);
            let records = self
                .records_of(&frame, &header)
                .map_err(|seen| segment.damage(found.position, "records", seen))?;
            let place = FramePlace {
                first: header.first,
                stamp: records.first().map_or(0, |first| first.local.stamp.0),
                generation: generation as u32,
                position: found.position as u32,
                length: header.length,
            };
            visit(Batch {
                header,
                records,
                place: Some(place),
            });
        }
        Ok(())
    }

    fn for_each_packed(
        &self,
        generation: u64,
        visit: &mut dyn FnMut(Batch),
    ) -> Result<(), OpenError> {
        let file = self.source.segments.sealed(generation)?;
        for entry in file.directory()?.entries() {
            let damage = |found: &str| file.damage(entry.position, "frames of records", found);
            for found in Walk::through(file.block(entry, false)?) {
                let (_, header, frame) = found.map_err(damage)?;
                if matches!(header.kind, FrameKind::Batch | FrameKind::Reduced) {
                    let records = self.records_of(&frame, &header);
                    visit(Batch {
                        header,
                        records: records.map_err(|found| damage(&found))?,
                        place: None,
                    });
                }
            }
        }
        Ok(())
    }

    fn records_of(&self, frame: &Bytes, header: &FrameHeader) -> Result<Vec<Record>, String> {
        let body = Body::of(frame, header)?;
        let (records, _) = body.records_without_links(header, &self.identity)?;
        Ok(records)
    }
}
