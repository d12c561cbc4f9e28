//! Tells those who wait what has become durable.
//!
//! Waking a task from a thread outside its executor is dear, and the driver has better things to do:
//! it wakes this one task, which wakes the others from within.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Submission;
use crate::partition::Shard;

/// Announces each flush, until the driver ends.
pub(crate) async fn herald(
    shards: Arc<[Shard]>,
    mut flushes: mpsc::UnboundedReceiver<Vec<Submission>>,
) {
    while let Some(flush) = flushes.recv().await {
        for submission in flush {
            if let Some(last) = submission.records.last() {
                let offset = last.local.offset;
                let shard = &shards[submission.frame.header.partition.index()];
                shard.head.send_modify(|head| head.offset = offset);
            }
            submission.settle(Ok(()));
        }
    }
}
