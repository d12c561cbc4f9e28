//! How a log is made and opened.

use std::time::Duration;

use everfold_engine::engine::Limits;

/// How a log is made, where there is none, and how it is opened.
///
/// An existing log keeps the name, the site, the layout and the chain that it was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The name of the log; `None` takes an existing log's, else `main`.
    pub log: Option<String>,
    /// The name of the site; `None` takes an existing log's, else `local`.
    pub site: Option<String>,
    /// How many partitions; `None` takes an existing log's, else 16.
    pub partitions: Option<u16>,
    /// Whether records carry the hash chain; `None` takes an existing log's, else they do.
    pub chained: Option<bool>,
    /// What one call may carry.
    pub limits: Limits,
    /// The size of a segment. The first ones are smaller, so that a small log stays small.
    pub segment_bytes: u64,
    /// The size of the first segment; each following one is twice as large, up to `segment_bytes`.
    pub first_segment_bytes: u64,
    /// The most that one write takes, about.
    pub flush_bytes: usize,
    /// Memory for the newest records of all partitions together.
    pub tail_bytes: usize,
    /// How segments that are full are compressed: a level of Zstandard, 1 (fast) to 19 (small).
    /// `None` leaves them as they were written.
    pub compression: Option<i32>,
    /// How many of the newest full segments are left uncompressed. They are read the most, and may
    /// wait until the writing has calmed down.
    pub plain_segments: u64,
    /// How often full segments are read back beside the writing, to find damage before the data is
    /// needed; `None` only when asked.
    pub scrub_every: Option<Duration>,
    /// The most that is read for it, in bytes per second; `None` as fast as may be.
    pub scrub_bytes_per_second: Option<u64>,
    /// Memory for what is read from full segments and their indexes.
    pub read_cache_bytes: usize,
    /// Memory for pages of the areas.
    pub area_cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            log: None,
            site: None,
            partitions: None,
            chained: None,
            limits: Limits::default(),
            segment_bytes: 64 << 20,
            first_segment_bytes: 4 << 20,
            flush_bytes: 4 << 20,
            tail_bytes: 64 << 20,
            compression: Some(1),
            plain_segments: 4,
            scrub_every: None,
            scrub_bytes_per_second: Some(32 << 20),
            read_cache_bytes: 64 << 20,
            area_cache_bytes: 32 << 20,
        }
    }
}

impl Options {
    /// The size of a generation's segment.
    pub(crate) fn capacity(&self, generation: u64) -> u64 {
        let doublings = generation.saturating_sub(1).min(32) as u32;
        let size = self.first_segment_bytes.saturating_mul(1 << doublings);
        // Places within a segment are 32 bits wide.
        size.min(self.segment_bytes).clamp(16 << 10, 1 << 30) / 4096 * 4096
    }
}
