//! The caller's side of one connection.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use everfold_engine::Text;
use everfold_engine::map::{Map, seeded};
use futures_util::task::AtomicWaker;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::connect::unreachable;
use super::error::{CallError, Side};
use super::frame::{Frame, MAX_BODY};
use super::limits::Limits;
use super::pace::Pace;
use super::wire::{Wire, told};

/// Frames that are read before it is written again.
const AT_A_TIME: usize = 256;
/// A connection without calls is ended after so many ticks: five minutes.
const UNUSED: u32 = 1200;

type Outcome = Result<Bytes, CallError>;

/// Calls on a connection. One task, [`Connection::drive`], carries them; callers only leave their
/// call and wait.
pub(super) struct Connection {
    address: Text,
    limits: Limits,
    calls: Mutex<Calls>,
    driver: AtomicWaker,
}

struct Calls {
    waiting: Map<u64, Waiting>,
    /// By number, which grows.
    queue: VecDeque<(u64, Bytes)>,
    queued_bytes: usize,
    next: u64,
    answered: bool,
    pace: Pace,
    open: bool,
}

struct Waiting {
    caller: oneshot::Sender<Outcome>,
    sent: bool,
}

/// A call that was left; its place is free again when this is dropped.
pub(super) struct Left {
    connection: Arc<Connection>,
    number: u64,
    outcome: oneshot::Receiver<Outcome>,
}

impl Connection {
    pub(super) fn new(address: Text, limits: Limits) -> Self {
        Self {
            address,
            limits,
            calls: Mutex::new(Calls {
                waiting: seeded(0),
                queue: VecDeque::new(),
                queued_bytes: 0,
                next: 0,
                answered: false,
                pace: Pace::new(),
                open: true,
            }),
            driver: AtomicWaker::new(),
        }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many calls wait for an answer.
    pub(super) fn in_flight(&self) -> usize {
        self.calls().waiting.len()
    }

    /// Whether the peer has answered a call.
    pub(super) fn has_answered(&self) -> bool {
        self.calls().answered
    }

    /// No further calls; those that were left are carried to their end.
    pub(super) fn finish(&self) {
        self.calls().open = false;
        self.driver.wake();
    }

    /// Leaves a call. `None`: not on this connection any more.
    pub(super) fn leave(self: &Arc<Self>, request: Bytes) -> Result<Option<Left>, CallError> {
        let (caller, outcome) = oneshot::channel();
        let mut calls = self.calls();
        if !calls.open {
            return Ok(None);
        }
        let full = calls.queued_bytes > 0
            && calls.queued_bytes.saturating_add(request.len()) > self.limits.call_bytes;
        if full || calls.waiting.len() >= self.limits.calls {
            return Err(CallError::Overloaded {
                address: self.address.clone(),
                in_flight: calls.waiting.len(),
                retry_after: calls.pace.until(calls.waiting.len() / 2, Instant::now()),
            });
        }
        let number = calls.next;
        calls.next += 1;
        let waiting = Waiting {
            caller,
            sent: false,
        };
        calls.waiting.insert(number, waiting);
        calls.queued_bytes += request.len();
        // Whoever found the queue empty has woken the driver, which takes all that is there.
        let wake = calls.queue.is_empty();
        calls.queue.push_back((number, request));
        drop(calls);
        if wake {
            self.driver.wake();
        }
        Ok(Some(Left {
            connection: self.clone(),
            number,
            outcome,
        }))
    }

    /// Carries calls and answers until the connection ends; says why.
    pub(super) async fn drive(&self, mut wire: Wire) -> Text {
        let (mut last, mut unused) = (false, 0);
        let ended = poll_fn(|cx| self.poll(cx, &mut wire, &mut last, &mut unused)).await;
        let reason: Text = match ended {
            Ok(()) => "the connection was ended".into(),
            Err(error) => told(&error).into(),
        };
        self.close(&reason);
        let _ = poll_fn(|cx| match wire.poll_close(cx) {
            // A peer that takes nothing gets no farewell.
            Poll::Pending => Poll::Ready(Ok(())),
            ready => ready,
        })
        .await;
        reason
    }

    fn poll(
        &self,
        cx: &mut Context<'_>,
        wire: &mut Wire,
        last: &mut bool,
        unused: &mut u32,
    ) -> Poll<io::Result<()>> {
        self.driver.register(cx.waker());
        *unused += wire.poll_life(cx, true)?;
        loop {
            let mut came = 0;
            while came < AT_A_TIME
                && let Poll::Ready(frame) = wire.poll_frame(cx)
            {
                came += 1;
                self.take(frame?)?;
            }
            let (left, finished) = self.put(wire);
            if left.is_some() {
                *unused = 0;
            } else if *unused > UNUSED {
                self.finish();
            }
            if finished && !*last {
                *last = true;
                wire.put(&Frame::Last);
            }
            let written = wire.poll_write(cx)?.is_ready();
            if written && *last && self.in_flight() == 0 {
                return Poll::Ready(Ok(()));
            }
            if came < AT_A_TIME && !(written && left == Some(true)) {
                return Poll::Pending;
            }
        }
    }

    /// Puts up for writing what there is room for. Returns whether there were calls, and whether some
    /// are left; and whether the last one has been put up.
    fn put(&self, wire: &mut Wire) -> (Option<bool>, bool) {
        let mut taken = Vec::new();
        let mut room = wire.room();
        let mut guard = self.calls();
        let calls = &mut *guard;
        while room > 0
            && let Some((number, body)) = calls.queue.pop_front()
        {
            calls.queued_bytes -= body.len();
            room = room.saturating_sub(body.len() + 16);
            if let Some(waiting) = calls.waiting.get_mut(&number) {
                waiting.sent = true;
                taken.push(Frame::Call { number, body });
            }
        }
        let left = !calls.queue.is_empty();
        let any = (left || !calls.waiting.is_empty()).then_some(left);
        let finished = !calls.open && !left;
        drop(guard);
        // Long bodies are copied when callers can go on.
        for frame in &taken {
            wire.put(frame);
        }
        (any, finished)
    }

    fn take(&self, frame: Frame) -> io::Result<()> {
        let (number, outcome) = match frame {
            Frame::Answer { number, body } => (number, Ok(body)),
            Frame::TooLarge { number, bytes } => {
                let too_large = CallError::TooLarge {
                    side: Side::There,
                    bytes: bytes as usize,
                    limit: MAX_BODY,
                };
                (number, Err(too_large))
            }
            Frame::Failed { number } => (number, Err(self.lost("the peer failed on it"))),
            Frame::Last => {
                self.finish();
                return Ok(());
            }
            Frame::Alive => return Ok(()),
            Frame::Hello { .. } | Frame::Call { .. } | Frame::OtherCluster { .. } | Frame::Full => {
                return Err(io::Error::other(
                    "the peer sent what only a caller may send",
                ));
            }
        };
        let mut calls = self.calls();
        calls.answered = true;
        calls.pace.answered(Instant::now());
        let waiting = calls.waiting.remove(&number);
        drop(calls);
        if let Some(waiting) = waiting {
            // Whoever does not wait any more does not want it.
            let _ = waiting.caller.send(outcome);
        }
        Ok(())
    }

    fn lost(&self, reason: impl Into<Text>) -> CallError {
        CallError::Lost {
            address: self.address.clone(),
            reason: reason.into(),
        }
    }

    /// Nothing will come any more: tells all who wait.
    fn close(&self, reason: &Text) {
        let mut calls = self.calls();
        calls.open = false;
        calls.queue.clear();
        calls.queued_bytes = 0;
        let waiting = std::mem::replace(&mut calls.waiting, seeded(0));
        drop(calls);
        for waiting in waiting.into_values() {
            let error = if waiting.sent {
                self.lost(reason.clone())
            } else {
                unreachable(&self.address, reason.clone())
            };
            let _ = waiting.caller.send(Err(error));
        }
    }
}

impl Left {
    /// Its outcome.
    pub(super) async fn outcome(&mut self) -> Outcome {
        let outcome = (&mut self.outcome).await;
        // The runtime that drives the connection has ended.
        outcome.unwrap_or_else(|_| Err(self.connection.lost("the connection was given up")))
    }

    /// Whether the call has been sent.
    pub(super) fn is_sent(&self) -> bool {
        let calls = self.connection.calls();
        calls
            .waiting
            .get(&self.number)
            .is_none_or(|waiting| waiting.sent)
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        let mut calls = self.connection.calls();
        let unsent = calls
            .waiting
            .remove(&self.number)
            .is_some_and(|waiting| !waiting.sent);
        if unsent
            && let Ok(place) = calls
                .queue
                .binary_search_by_key(&self.number, |(number, _)| *number)
            && let Some((_, body)) = calls.queue.remove(place)
        {
            calls.queued_bytes -= body.len();
        }
    }
}
