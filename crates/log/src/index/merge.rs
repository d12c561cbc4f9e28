//! Many runs become one, entry by entry.

use std::io;

use super::run::{Cursor, PIECE, decode_postings, encode_postings};
use super::{Builder, Key, Run};
use crate::error::Damage;

/// Why runs were not merged.
#[derive(Debug)]
pub(crate) enum MergeError {
    Damaged(Damage),
    Io(io::Error),
    /// There was no time for it.
    Stopped,
}

impl From<Damage> for MergeError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl From<io::Error> for MergeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Gives all entries of `runs`, oldest first, to `builder`. Frames of segments for which
/// `has_frames` is false are left out; small pieces of one subject are joined. Ends early once `stop`
/// says so.
pub(crate) fn merge(
    runs: &[&Run],
    builder: &mut Builder,
    has_frames: &dyn Fn(u32) -> bool,
    stop: &dyn Fn() -> bool,
) -> Result<(), MergeError> {
    let mut sources = Vec::with_capacity(runs.len());
    for run in runs {
        let start = Key::frame(0, 0);
        let mut source = Source {
            run,
            cursor: run.from(start, false)?,
            head: None,
        };
        source.advance()?;
        sources.push(source);
    }
    let mut open: Option<Open> = None;
    // Few runs: looking at all of them costs less than keeping them in order.
    while let Some(next) = sources
        .iter_mut()
        .filter(|source| source.head.is_some())
        .min_by_key(|source| source.head.as_ref().map(|(key, _)| *key))
    {
        let Some((key, value)) = next.head.take() else {
            break;
        };
        next.advance()?;
        if stop() {
            return Err(MergeError::Stopped);
        }
        if key.is_frame() {
            Open::close(open.take(), builder)?;
            let generation = super::run::generation_of_frame(&value);
            if generation.is_some_and(has_frames) {
                builder.push(key, &value)?;
            }
            continue;
        }
        let places = decode_postings(key, &value).ok_or_else(|| {
            let found = format!("offsets of {key:?} that cannot be read");
            next.run.damage(0, found)
        })?;
        if let Some(open) = &mut open
            && open.takes(key, places.offsets().len())
        {
            open.join(places.first_version, places.dense, places.offsets());
            continue;
        }
        Open::close(open.take(), builder)?;
        open = Some(Open {
            key,
            first_version: places.first_version,
            dense: places.dense,
            offsets: places.offsets().to_vec(),
        });
    }
    Open::close(open.take(), builder)?;
    Ok(())
}

struct Source<'a> {
    run: &'a Run,
    cursor: Cursor<'a>,
    head: Option<(Key, bytes::Bytes)>,
}

impl Source<'_> {
    fn advance(&mut self) -> Result<(), Damage> {
        self.head = self.cursor.next()?;
        Ok(())
    }
}

/// A piece that may still grow.
struct Open {
    key: Key,
    first_version: u64,
    dense: bool,
    offsets: Vec<u64>,
}

impl Open {
    fn takes(&self, key: Key, more: usize) -> bool {
        self.key.is_with(key) && self.offsets.len() + more <= PIECE
    }

    fn join(&mut self, first_version: u64, dense: bool, offsets: &[u64]) {
        let next = self.first_version + self.offsets.len() as u64;
        self.dense &= dense && first_version == next;
        self.offsets.extend_from_slice(offsets);
    }

    fn close(open: Option<Self>, builder: &mut Builder) -> io::Result<()> {
        match open {
            Some(open) => {
                let value = encode_postings(open.first_version, open.dense, &open.offsets);
                builder.push(open.key, &value)
            }
            None => Ok(()),
        }
    }
}
