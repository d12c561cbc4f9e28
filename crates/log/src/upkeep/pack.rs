//! Full segments are packed, and their files used again.

use super::{SEALING, Upkeep};
use crate::decode::first_stamp;
use crate::disk;
use crate::error::OpenError;
use crate::frame::FrameKind;
use crate::sealed::{self, Packer, SealedHeader};
use crate::segments::Form;

impl Upkeep {
    /// Packs what is far enough behind the segment that is written.
    pub(super) fn pack_old(&self) -> Result<(), OpenError> {
        let Some(level) = self.options.compression else {
            return Ok(());
        };
        let keep = self.options.plain_segments;
        let active = self.source.segments.active();
        let mut result = Ok(());
        for (generation, form) in self.source.segments.forms() {
            if generation + keep >= active || self.is_closing() {
                break;
            }
            if form == Form::Plain && self.source.runs.cover(generation) {
                match self.pack(generation, Some(level)) {
                    // The others are packed all the same.
                    Err(error @ OpenError::Damaged(_)) => result = result.and(Err(error)),
                    packed => packed?,
                }
            }
        }
        result
    }

    /// Packs a full segment, and gives its file to be used again.
    pub(crate) fn pack(&self, generation: u64, level: Option<i32>) -> Result<(), OpenError> {
        let packed = self.or_clear(SEALING, || self.write_packed(generation, level))?;
        let Some(name) = packed else {
            return Ok(());
        };
        self.source.segments.packed(generation);
        self.spare.reuse(&name).map_err(OpenError::io(&name))
    }

    /// The name of the file that is packed now; none if there was no time for it.
    fn write_packed(
        &self,
        generation: u64,
        level: Option<i32>,
    ) -> Result<Option<String>, OpenError> {
        let (segment, next, bytes, recovered) = self.full_segment(generation)?;
        let file = disk::create(&*self.disk, SEALING).map_err(OpenError::io(SEALING))?;
        let header = SealedHeader {
            segment: segment.header.clone(),
            end: next.previous_end,
            last_flush: next.last_flush,
            ends: next.starts,
        };
        let mut frames = recovered.frames;
        frames.retain(|found| found.header.kind != FrameKind::Close);
        frames.sort_by_key(|found| (found.header.partition, found.position));
        let mut packer = Packer::new(file, &header, level);
        for found in &frames {
            if self.is_closing() {
                return Ok(None);
            }
            let begin = found.position as usize;
            let frame = bytes.slice(begin..begin + found.header.length as usize);
            let stamp = if packer.begins_block(&found.header) {
                first_stamp(&frame, &found.header, &self.identity)
                    .map_err(|seen| segment.damage(found.position, "records", seen))?
            } else {
                0
            };
            packer
                .push(&found.header, stamp, found.position as u32, &frame)
                .map_err(OpenError::io(SEALING))?;
        }
        packer.finish().map_err(OpenError::io(SEALING))?;
        let name = sealed::name(generation);
        disk::publish(&*self.disk, SEALING, &name).map_err(OpenError::io(&name))?;
        Ok(Some(segment.name))
    }
}
