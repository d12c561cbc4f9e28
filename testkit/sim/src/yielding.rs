//! Stepping aside.

use std::task::Poll;

/// Lets others go first, once. Works in any executor: a place where a simulation may interleave.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
