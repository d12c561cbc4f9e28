//! What of a log is durable, also while another process writes it.
//!
//! Files change their names and are used again while they are looked at, and no read of a whole file
//! is one act. So a look that finds something wrong is repeated: what was written before the first
//! look is there in the second, so damage that both see is damage.

use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Access, Disk, File};
use crate::error::OpenError;
use crate::open::{Segment, load};
use crate::partition::Shard;
use crate::recovery::Recovered;

/// Looks at a log that is never the same twice.
const ATTEMPTS: usize = 32;

/// Repeats a look until it succeeds, or the same damage is seen twice.
pub(crate) fn look_again<T>(
    mut look: impl FnMut() -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    let mut before: Option<OpenError> = None;
    for _ in 1..ATTEMPTS {
        let error = match look() {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        let seen_twice = match (&before, &error) {
            (Some(OpenError::Damaged(before)), OpenError::Damaged(now)) => before == now,
            _ => false,
        };
        if seen_twice || !may_pass(&error) {
            return Err(error);
        }
        before = Some(error);
    }
    look()
}

/// Whether a second look may find it otherwise.
fn may_pass(error: &OpenError) -> bool {
    matches!(
        error,
        OpenError::Damaged(_)
            | OpenError::Io { .. }
            | OpenError::MissingSegment { .. }
            | OpenError::NotASegment { .. }
            | OpenError::MixedLogs { .. }
    )
}

/// Reads the segment that is written into partitions, and makes what was read durable: whoever
/// writes it may not have been told yet that it is.
pub(crate) fn load_settled(
    disk: &dyn Disk,
    active: &Segment,
    shards: &[Shard],
) -> Result<(Bytes, Recovered, Arc<dyn File>), OpenError> {
    let file = disk.open(&active.name, Access::Read);
    let file = file.map_err(OpenError::io(&active.name))?;
    let (bytes, recovered) = load(disk, active, shards)?;
    file.sync().map_err(OpenError::io(&active.name))?;
    Ok((bytes, recovered, file))
}
