//! Where records lie: by offset, entity, type and label.
//!
//! What the active segment holds is indexed in memory ([`Fresh`]). When a segment is sealed its index
//! is written to a file, a [`Run`], and leaves memory; neighbouring runs are merged, so that a
//! lookup asks few files however long the log is. Runs are read block by block through one cache.
//! They hold nothing that the segments do not: one that is missing or damaged is made again.

mod block;
mod build;
mod fresh;
mod merge;
mod run;
mod runs;
mod subject;

pub(crate) use block::Block;
pub(crate) use build::Builder;
pub(crate) use fresh::{FramePlace, Fresh, Places};
pub(crate) use merge::{MergeError, merge};
pub(crate) use run::{
    PIECE, Run, Trust, decode_frame, decode_postings, encode_frame, encode_postings,
};
pub(crate) use runs::{Runs, is_run, name};
pub(crate) use subject::{Key, Subject, Subjects};
