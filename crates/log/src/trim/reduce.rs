//! Takes the records of one entity out of a sealed segment.

use bytes::Bytes;
use everfold_engine::{Partition, Record};

use crate::decode::{Body, Husk, Slot, encode_reduced, first_stamp};
use crate::disk;
use crate::error::OpenError;
use crate::frame::{FrameHeader, FrameKind, Loose, Place};
use crate::sealed::{self, Packer, Walk};
use crate::upkeep::{SEALING, Upkeep};

impl Upkeep {
    /// Writes a sealed segment again without the records of a partition that `goes` says yes to;
    /// how many these were, and how many bytes the file is shorter.
    pub(crate) fn reduce(
        &self,
        generation: u64,
        partition: Partition,
        goes: &dyn Fn(&Record) -> bool,
    ) -> Result<(u64, u64), OpenError> {
        let reduced = self.or_clear(SEALING, || self.write_reduced(generation, partition, goes))?;
        self.source().segments.packed(generation);
        Ok(reduced)
    }

    fn write_reduced(
        &self,
        generation: u64,
        partition: Partition,
        goes: &dyn Fn(&Record) -> bool,
    ) -> Result<(u64, u64), OpenError> {
        let file = self.source().segments.sealed(generation)?;
        let header = file.header().clone();
        let out = disk::create(self.disk(), SEALING).map_err(OpenError::io(SEALING))?;
        let mut packer = Packer::new(out, &header, self.compression());
        let mut gone = 0;
        let mut known = (0, 0);
        for entry in file.directory()?.entries() {
            // No record of a block is older than where it began.
            if known.0 != entry.partition {
                known = (entry.partition, 0);
            }
            known.1 = entry.stamp.max(known.1);
            let damage = |found: &str| file.damage(entry.position, "frames of records", found);
            for found in Walk::through(file.block(entry, false)?) {
                let (position, mut found, mut frame) = found.map_err(damage)?;
                let place = Place {
                    incarnation: self.identity().incarnation.0,
                    generation,
                    position: u64::from(position),
                };
                if entry.partition == partition.0
                    && let Some((count, reduced)) = self
                        .reduced(&frame, &found, place, goes)
                        .map_err(|found| damage(&found))?
                {
                    gone += count;
                    found.kind = FrameKind::Reduced;
                    found.length = reduced.len() as u32;
                    frame = reduced;
                }
                if packer.begins_block(&found) {
                    let stamp = first_stamp(&frame, &found, self.identity());
                    known.1 = stamp.map_err(|found| damage(&found))?.max(known.1);
                }
                let stamp = known.1;
                packer
                    .push(&found, stamp, position, &frame)
                    .map_err(OpenError::io(SEALING))?;
            }
        }
        let length = packer.finish().map_err(OpenError::io(SEALING))?;
        let name = sealed::name(generation);
        disk::publish(self.disk(), SEALING, &name).map_err(OpenError::io(&name))?;
        Ok((gone, file.bytes().saturating_sub(length)))
    }

    /// The frame without the records that go, if it holds any.
    fn reduced(
        &self,
        frame: &Bytes,
        header: &FrameHeader,
        place: Place,
        goes: &dyn Fn(&Record) -> bool,
    ) -> Result<Option<(u64, Bytes)>, String> {
        if !matches!(header.kind, FrameKind::Batch | FrameKind::Reduced) {
            return Ok(None);
        }
        let chained = self.identity().chained;
        let body = Body::of(frame, header)?;
        let previous = body.previous;
        let (mut slots, last) = body.slots(header, self.identity())?;
        let mut gone = 0;
        for slot in &mut slots {
            if let Slot::Kept(record) = slot
                && goes(record)
            {
                gone += 1;
                *slot = Slot::Trimmed(Husk {
                    kind: record.kind,
                    version: record.local.version,
                    digest: if chained {
                        record.digest()
                    } else {
                        Default::default()
                    },
                });
            }
        }
        if gone == 0 {
            return Ok(None);
        }
        let reduced = FrameHeader {
            kind: FrameKind::Reduced,
            ..*header
        };
        let body = encode_reduced(previous, &slots, last, &reduced, self.identity());
        Ok(Some((gone, Loose::new(reduced, body).bytes(place).into())))
    }
}
