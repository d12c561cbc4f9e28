//! One budget of memory for everything that is read from sealed segments and their indexes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use foldhash::fast::FixedState;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use crate::index::Block;
use crate::sealed::Directory;

/// What is kept: a file's number, and where in the file it lies.
type Place = (u64, u64);

#[derive(Clone)]
pub(crate) enum Cached {
    /// A block of an index.
    Block(Arc<Block>),
    /// Plain bytes: a page of a filter, a block of a sealed segment.
    Bytes(Bytes),
    /// Where a sealed segment has its blocks.
    Directory(Arc<Directory>),
}

#[derive(Clone)]
struct Footprint;

impl Weighter<Place, Cached> for Footprint {
    fn weight(&self, _: &Place, value: &Cached) -> u64 {
        let bytes = match value {
            Cached::Block(block) => block.footprint(),
            Cached::Bytes(bytes) => bytes.len(),
            Cached::Directory(directory) => directory.footprint(),
        };
        bytes as u64 + 64
    }
}

pub(crate) struct ReadCache {
    values: Cache<Place, Cached, Footprint, FixedState, DefaultLifecycle<Place, Cached>>,
    files: AtomicU64,
}

impl ReadCache {
    pub(crate) fn new(bytes: usize) -> Self {
        // One shard: what is kept then depends on nothing but the order of use.
        let options = OptionsBuilder::new()
            .estimated_items_capacity((bytes / (8 << 10)).max(16))
            .weight_capacity(bytes as u64)
            .shards(1)
            .build();
        let values = options.map_or_else(
            |_| {
                Cache::with(
                    16,
                    bytes as u64,
                    Footprint,
                    FixedState::with_seed(0),
                    DefaultLifecycle::default(),
                )
            },
            |options| {
                Cache::with_options(
                    options,
                    Footprint,
                    FixedState::with_seed(0),
                    DefaultLifecycle::default(),
                )
            },
        );
        Self {
            values,
            files: AtomicU64::new(0),
        }
    }

    /// A number for a file whose contents never change.
    pub(crate) fn file(&self) -> u64 {
        self.files.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn get(&self, file: u64, position: u64) -> Option<Cached> {
        self.values.get(&(file, position))
    }

    pub(crate) fn insert(&self, file: u64, position: u64, value: Cached) {
        self.values.insert((file, position), value);
    }
}
