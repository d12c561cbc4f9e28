//! Reads on in a log that another process writes.

use std::sync::Arc;

use bytes::Bytes;
use everfold_engine::World;

use super::still::Still;
use crate::disk::{Access, Disk};
use crate::error::OpenError;
use crate::frame::{self, FrameHeader, Place};
use crate::open::{self, load_frame, segment_of};
use crate::options::Options;
use crate::recovery::Found;
use crate::segment;

/// How much is read at once, unless one frame is larger.
const PIECE: u64 = 1 << 20;

pub(super) struct Follow {
    pub(super) still: Still,
}

impl Follow {
    pub(super) fn begin(
        disk: &Arc<dyn Disk>,
        world: &Arc<dyn World>,
        options: &Options,
    ) -> Result<Self, OpenError> {
        Still::of(disk, world, options).map(|still| Self { still })
    }

    /// Takes in what has become readable; whether everything is to be looked at anew, because the
    /// log goes on in another segment.
    pub(super) fn read_on(&mut self, disk: &dyn Disk) -> Result<bool, OpenError> {
        let mut found = false;
        while self.piece()? {
            found = true;
        }
        Ok(!found && self.has_gone_on(disk))
    }

    /// Takes in some frames; `false` if there are none.
    fn piece(&mut self) -> Result<bool, OpenError> {
        let name = self.still.active.name.clone();
        let (frames, end, flush) = self.next_frames().map_err(OpenError::io(&name))?;
        if frames.is_empty() {
            return Ok(false);
        }
        // Whoever wrote them may not have been told yet that they are durable.
        self.still.file.sync().map_err(OpenError::io(&name))?;
        let shards = &self.still.log.shards;
        for (found, frame) in &frames {
            load_frame(&self.still.active, frame, found, shards)?;
        }
        (self.still.end, self.still.flush) = (end, flush);
        for shard in shards.iter() {
            let last = shard.state().at.last;
            shard.head.send_if_modified(|head| {
                let grown = last > head.offset;
                head.offset = last;
                grown
            });
        }
        Ok(true)
    }

    /// Whole frames behind the last one, where they end, and the flush they belong to.
    #[expect(clippy::type_complexity, reason = "used once")]
    fn next_frames(&self) -> std::io::Result<(Vec<(Found, Bytes)>, u64, (u64, Option<u32>))> {
        let (mut position, mut flush) = (self.still.end, self.still.flush);
        let mut frames = Vec::new();
        let mut wanted = PIECE;
        loop {
            let left = self.still.file.len()?.saturating_sub(position);
            let mut bytes = vec![0; left.min(wanted) as usize];
            self.still.file.read_at(position, &mut bytes)?;
            let bytes = Bytes::from(bytes);
            let mut at = 0;
            while let Some(header) = self.frame(&bytes[at..], position, &mut flush) {
                let frame = bytes.slice(at..at + header.length as usize);
                frames.push((Found { position, header }, frame));
                at += header.span() as usize;
                position += header.span();
            }
            // A frame may be longer than what was read of it.
            let longer = frame::peek(&bytes[at..]).map_or(0, |header| header.span());
            if !frames.is_empty() || longer <= bytes.len() as u64 || longer > left {
                return Ok((frames, position, flush));
            }
            wanted = longer;
        }
    }

    /// The frame at the front of `bytes`, if it goes on with the log.
    fn frame(
        &self,
        bytes: &[u8],
        position: u64,
        flush: &mut (u64, Option<u32>),
    ) -> Option<FrameHeader> {
        let header = &self.still.active.header;
        let place = Place {
            incarnation: header.identity.incarnation.0,
            generation: header.generation,
            position,
        };
        let found = frame::parse(bytes, place).ok()?;
        let begins = found.flush > flush.0 && u64::from(found.flush_start) == position;
        let goes_on = (found.flush, Some(found.flush_start)) == *flush;
        if !begins && !goes_on {
            return None;
        }
        *flush = (found.flush, Some(found.flush_start));
        Some(found)
    }

    /// Whether the log is written elsewhere: the next segment was begun, or this one has changed its
    /// form since.
    fn has_gone_on(&self, disk: &dyn Disk) -> bool {
        let generation = self.still.active.header.generation;
        let is_gone = || {
            let opened = disk.open(&segment::name(generation), Access::Read);
            opened.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        };
        let next = segment_of(disk, generation + 1);
        next.is_ok_and(|next| open::check_neighbours(&self.still.active.header, &next).is_ok())
            || is_gone()
    }
}
