//! A node's side of one connection.

use std::future::{Future, poll_fn};
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use everfold_engine::engine::BoxFuture;
use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::frame::{Frame, MAX_BODY};
use super::limits::Limits;
use super::listen::Answers;
use super::wire::Wire;
use crate::authority::PeerName;

/// Frames that are read before it is written again.
const AT_A_TIME: usize = 256;
/// When the node ends, calls may go on for so many ticks: five seconds.
const LET_END: u32 = 20;

/// Calls of one peer, and what answers them.
pub(super) struct Session {
    wire: Wire,
    peer: Arc<PeerName>,
    answers: Arc<dyn Answers>,
    limits: Limits,
    /// Calls that are answered, each in a task, so that none holds up signs of life and other calls.
    /// Those that are answered stay here until there is room for what they answer.
    running: JoinSet<(Frame, usize)>,
    running_bytes: usize,
    stop: BoxFuture<'static, ()>,
    /// We have said that we end, so many ticks ago.
    stopping: Option<u32>,
    /// The peer has said that no call will follow.
    last: bool,
}

impl Session {
    pub(super) fn new(
        wire: Wire,
        peer: PeerName,
        answers: Arc<dyn Answers>,
        limits: Limits,
        mut stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            wire,
            peer: Arc::new(peer),
            answers,
            limits,
            running: JoinSet::new(),
            running_bytes: 0,
            // Whoever drops the other end wants no more either.
            stop: Box::pin(async move { drop(stop.wait_for(|stop| *stop).await) }),
            stopping: None,
            last: false,
        }
    }

    /// Answers calls until the connection ends. What is not answered by then is dropped.
    pub(super) async fn serve(mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll(cx)).await?;
        poll_fn(|cx| self.wire.poll_close(cx)).await
    }

    /// Whether another call may be read.
    fn may_read(&self) -> bool {
        !self.last
            && self.running.len() < self.limits.answers
            && self.running_bytes < self.limits.answer_bytes
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let reads = self.may_read();
        let ticks = self.wire.poll_life(cx, reads)?;
        if let Some(passed) = &mut self.stopping {
            *passed += ticks;
        } else if Pin::new(&mut self.stop).poll(cx).is_ready() {
            self.stopping = Some(0);
            self.wire.put(&Frame::Last);
        }
        loop {
            let mut moved = false;
            while self.wire.room() > 0
                && let Poll::Ready(Some(answered)) = self.running.poll_join_next(cx)
            {
                moved = true;
                // A task ends in no other way, unless the runtime does.
                if let Ok((frame, bytes)) = answered {
                    self.running_bytes -= bytes;
                    self.wire.put(&frame);
                }
            }
            let written = self.wire.poll_write(cx)?.is_ready();
            if written && self.has_ended() {
                return Poll::Ready(Ok(()));
            }
            for _ in 0..AT_A_TIME {
                if !self.may_read() {
                    break;
                }
                let Poll::Ready(frame) = self.wire.poll_frame(cx) else {
                    break;
                };
                moved = true;
                self.take(frame?)?;
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    fn has_ended(&self) -> bool {
        let idle = self.running.is_empty();
        (self.last && idle) || self.stopping.is_some_and(|ticks| ticks > LET_END)
    }

    fn take(&mut self, frame: Frame) -> io::Result<()> {
        match frame {
            Frame::Call { number, body } => self.begin(number, body),
            Frame::Last => self.last = true,
            Frame::Alive => {}
            _ => return Err(io::Error::other("the peer sent what only a node may send")),
        }
        Ok(())
    }

    fn begin(&mut self, number: u64, body: Bytes) {
        let bytes = body.len();
        self.running_bytes += bytes;
        let (answers, peer) = (self.answers.clone(), self.peer.clone());
        // What panics fails this call and nothing else.
        let answer = async move { answers.answer(&peer, body).await };
        let answer = AssertUnwindSafe(answer).catch_unwind();
        self.running.spawn(async move {
            let frame = match answer.await {
                Ok(body) if body.len() > MAX_BODY => Frame::TooLarge {
                    number,
                    bytes: body.len() as u64,
                },
                Ok(body) => Frame::Answer { number, body },
                Err(_) => Frame::Failed { number },
            };
            (frame, bytes)
        });
    }
}
