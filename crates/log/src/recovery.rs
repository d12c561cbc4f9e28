//! Recovery: which frames of a segment count, as a pure function over its bytes.
//!
//! A flush is written only after the one before it is durable, and every frame says which flush
//! wrote it and where that flush began. So if the bytes at X are no frame, and a frame of a flush
//! that began behind X exists, then X had been durable: that is damage. If none exists, X belongs
//! to the last flush, which nobody was told of: it is cut off.

use crate::frame::{self, ALIGNMENT, FrameHeader, HEADER, Place};

/// What is known about a segment before its frames are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The log.
    pub incarnation: u128,
    /// The segment.
    pub generation: u64,
    /// Where the first frame begins.
    pub first_frame: u64,
    /// The last flush of the segment before; later ones have higher numbers.
    pub last_flush: u64,
    /// Where the frames end, if the next segment says so.
    pub sealed_end: Option<u64>,
}

impl Expectation {
    fn place(&self, position: usize) -> Place {
        Place {
            incarnation: self.incarnation,
            generation: self.generation,
            position: position as u64,
        }
    }
}

/// A frame that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it begins.
    pub position: u64,
    /// What it says.
    pub header: FrameHeader,
}

/// What the bytes of a segment amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Every frame that counts, in order.
    pub frames: Vec<Found>,
    /// Where the next frame goes.
    pub end: u64,
    /// The highest flush number seen anywhere, in remains too: the next flush gets a higher one.
    pub last_flush: u64,
    /// What lies behind the end.
    pub verdict: Verdict,
}

/// What lies behind the last frame that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Clean,
    /// Remains of a flush that was never acknowledged, up to `until`.
    Torn {
        /// The end of the last sector that is not zero.
        until: u64,
    },
    /// An acknowledged frame is missing or wrong.
    Damaged {
        /// Where.
        at: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// Reads a segment's frames.
pub fn recover(bytes: &[u8], expectation: &Expectation) -> Recovered {
    let mut position = expectation.first_frame as usize;
    let (mut flush, mut start) = (expectation.last_flush, None);
    let mut frames = Vec::new();
    let found = loop {
        if expectation.sealed_end == Some(position as u64) {
            break "the end";
        }
        let rest = bytes.get(position..).unwrap_or_default();
        let header = match frame::parse(rest, expectation.place(position)) {
            Ok(header) => header,
            Err(found) => break found,
        };
        let begins = header.flush > flush && header.flush_start as usize == position;
        let goes_on = header.flush == flush && start == Some(header.flush_start);
        if !begins && !goes_on {
            break "a frame left over from an older flush";
        }
        (flush, start) = (header.flush, Some(header.flush_start));
        frames.push(Found {
            position: position as u64,
            header,
        });
        position += header.span() as usize;
    };
    let remains = Remains::behind(position, bytes, expectation);
    let end = position as u64;
    let damaged = |expected: String| Verdict::Damaged {
        at: end,
        expected,
        found: found.to_owned(),
    };
    let verdict = match (expectation.sealed_end, remains.later_start) {
        (Some(sealed), _) if sealed != end => damaged(format!("frames up to byte {sealed}")),
        (Some(_), _) => Verdict::Clean,
        (None, Some(later)) => damaged(format!(
            "the frame that flushes from byte {later} on were written after"
        )),
        (None, None) if remains.until > end => Verdict::Torn {
            until: remains.until,
        },
        (None, None) => Verdict::Clean,
    };
    Recovered {
        frames,
        end,
        last_flush: flush.max(remains.last_flush),
        verdict,
    }
}

/// What lies behind the last frame that counts.
struct Remains {
    /// The end of what is not zero.
    until: u64,
    /// The highest flush number of a whole frame.
    last_flush: u64,
    /// Where a flush began that could only be written after everything before was durable.
    later_start: Option<u32>,
}

impl Remains {
    fn behind(position: usize, bytes: &[u8], expectation: &Expectation) -> Self {
        let mut remains = Self {
            until: position as u64,
            last_flush: 0,
            later_start: None,
        };
        if expectation.sealed_end.is_some() {
            return remains;
        }
        let mut at = position;
        while let Some(next) = next_data(bytes, at) {
            // Frames begin at multiples of eight, and so does whatever `next_data` looks at.
            let word_end = (next + ALIGNMENT).min(bytes.len());
            remains.until = word_end as u64;
            at = word_end;
            if bytes.len() - next < HEADER || bytes[next..next + 4] != frame::MAGIC {
                continue;
            }
            if let Ok(header) = frame::parse(&bytes[next..], expectation.place(next)) {
                remains.last_flush = remains.last_flush.max(header.flush);
                if header.flush_start as usize > position {
                    remains.later_start.get_or_insert(header.flush_start);
                }
            }
        }
        remains
    }
}

/// The first aligned word at or after `from` that is not zero.
pub(crate) fn next_data(bytes: &[u8], from: usize) -> Option<usize> {
    const STRIDE: usize = 512;
    let mut at = from;
    while at < bytes.len() {
        let stride = &bytes[at..(at + STRIDE).min(bytes.len())];
        if stride.iter().fold(0, |all, byte| all | byte) != 0 {
            let word = stride
                .chunks(ALIGNMENT)
                .position(|word| word.iter().any(|byte| *byte != 0))?;
            return Some(at + word * ALIGNMENT);
        }
        at += stride.len();
    }
    None
}
