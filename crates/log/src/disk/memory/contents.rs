//! The bytes of one file: what a reader sees, what is durable, and what lies between.

use super::fault::{Fault, Tally};
use super::{Crash, split_mix};

/// What a device writes whole or not at all.
pub(super) const SECTOR: usize = 512;
/// What the log writes at once.
const BLOCK: usize = 4096;

#[derive(Default, Clone)]
pub(super) struct Contents {
    pub(super) bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Written>,
}

#[derive(Clone)]
struct Written {
    at: usize,
    bytes: Vec<u8>,
    /// A flush of it failed: no later flush speaks for it.
    doubtful: bool,
}

impl Contents {
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        Self {
            durable: bytes.clone(),
            bytes,
            unsynced: Vec::new(),
        }
    }

    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        put(&mut self.bytes, at, bytes);
        self.unsynced.push(Written {
            at,
            bytes: bytes.to_vec(),
            doubtful: false,
        });
    }

    pub(super) fn sync(&mut self) {
        let Self {
            bytes,
            durable,
            unsynced,
        } = self;
        durable.resize(bytes.len(), 0);
        let mut doubtful = Vec::new();
        let mut settled = Vec::new();
        for written in unsynced.drain(..) {
            if written.doubtful {
                doubtful.push(written);
                continue;
            }
            // A later cut of the file may have taken part of the write away.
            let end = (written.at + written.bytes.len()).min(bytes.len());
            if written.at < end {
                durable[written.at..end].copy_from_slice(&bytes[written.at..end]);
                settled.push(written.at / SECTOR..end.div_ceil(SECTOR));
            }
        }
        // What was written again since is no longer in doubt.
        for written in doubtful {
            for (at, part) in sectors(written.at, &written.bytes) {
                if !settled.iter().any(|range| range.contains(&(at / SECTOR))) {
                    unsynced.push(Written {
                        at,
                        bytes: part.to_vec(),
                        doubtful: true,
                    });
                }
            }
        }
    }

    /// A failed flush: what it was for is readable, and may never become durable.
    pub(super) fn doubt(&mut self) {
        let unsynced = &mut self.unsynced;
        unsynced.iter_mut().for_each(|written| {
            written.doubtful = true;
        });
    }

    pub(super) fn flip(&mut self, at: usize, bit: u8) {
        for bytes in [&mut self.bytes, &mut self.durable] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// What is left after a crash.
    pub(super) fn after(&self, keeps: &mut Keeps, tally: &mut Tally) -> Self {
        let mut bytes = self.durable.clone();
        let mut lost_before = false;
        for written in &self.unsynced {
            let (mut kept, mut lost) = (0, 0);
            let (mut head_kept, mut head_lost) = (false, false);
            let head_end = written.at / BLOCK * BLOCK + BLOCK;
            let rewrites = self.rewrites(written);
            for (at, part) in sectors(written.at, &written.bytes) {
                let keep = keeps.next();
                if keep {
                    put(&mut bytes, at, part);
                    kept += 1;
                    if lost_before {
                        tally.happen(Fault::ReorderedWrite);
                        lost_before = false;
                    }
                } else {
                    (lost, lost_before) = (lost + 1, true);
                }
                if at < head_end {
                    (head_kept, head_lost) = (head_kept | keep, head_lost | !keep);
                }
            }
            match (kept, lost) {
                (_, 0) => {}
                (0, _) => tally.happen(Fault::LostWrite),
                _ => tally.happen(Fault::TornWrite),
            }
            if rewrites && head_kept && head_lost {
                tally.happen(Fault::TornRewrite);
            }
        }
        Self::durable(bytes)
    }

    /// Whether a write begins with a block that held durable bytes before.
    fn rewrites(&self, written: &Written) -> bool {
        let end = (written.at / BLOCK * BLOCK + BLOCK).min(self.durable.len());
        let before = self.durable.get(written.at..end).unwrap_or_default();
        before.iter().any(|byte| *byte != 0)
    }
}

/// Which sectors a crash keeps: draws of many shapes, since even chances never lose just one.
pub(super) struct Keeps {
    kind: Crash,
    random: u64,
    shape: u64,
    turn: u64,
    drawn: u64,
}

impl Keeps {
    pub(super) fn of(kind: Crash) -> Self {
        let mut random = match kind {
            Crash::Sectors(seed) => seed,
            _ => 0,
        };
        let shape = split_mix(&mut random) % 6;
        let turn = split_mix(&mut random) % 24;
        Self {
            kind,
            random,
            shape,
            turn,
            drawn: 0,
        }
    }

    fn next(&mut self) -> bool {
        let Crash::Sectors(_) = self.kind else {
            return self.kind == Crash::Everything;
        };
        self.drawn += 1;
        let draw = split_mix(&mut self.random);
        match self.shape {
            0 | 1 => draw & 1 == 1,
            2 => draw.is_multiple_of(8),
            3 => !draw.is_multiple_of(8),
            // In order up to a place, and from a place on.
            4 => self.drawn <= self.turn,
            _ => self.drawn > self.turn,
        }
    }

    /// Whether changes of names that were not flushed are there.
    pub(super) fn names(&mut self) -> bool {
        match self.kind {
            Crash::Nothing => false,
            Crash::Everything => true,
            Crash::Sectors(_) => split_mix(&mut self.random) & 1 == 1,
        }
    }
}

pub(super) fn sectors(at: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut from = 0;
    std::iter::from_fn(move || {
        (from < bytes.len()).then(|| {
            let place = at + from;
            let end = (from + SECTOR - place % SECTOR).min(bytes.len());
            let part = &bytes[from..end];
            from = end;
            (place, part)
        })
    })
}

fn put(bytes: &mut Vec<u8>, at: usize, part: &[u8]) {
    if bytes.len() < at + part.len() {
        bytes.resize(at + part.len(), 0);
    }
    bytes[at..at + part.len()].copy_from_slice(part);
}
