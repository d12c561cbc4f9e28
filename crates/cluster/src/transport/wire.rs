//! A connection with its buffers and its signs of life.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_rustls::TlsStream;
use tokio_util::codec::{Decoder, LengthDelimitedCodec};
use tokio_util::io::{poll_read_buf, poll_write_buf};

use super::frame::{Frame, MAX_FRAME};

/// How often the signs of life are looked after.
const TICK: Duration = Duration::from_millis(250);
/// After so many ticks without a word one is said.
const SAY: u32 = 2;
/// After so many ticks without a word from the peer it is given up. Ticks are counted, not time: one
/// that was frozen itself sees a single one pass, and finds what has come meanwhile.
const GIVE_UP: u32 = 6;
/// After so many ticks in which the peer took nothing of what is written, though it may be alive.
const STUCK: u32 = 40;
/// What is gathered for one write, roughly.
const GATHERED: usize = 128 << 10;
/// Room for reading: a few records of TLS.
const READ: usize = 32 << 10;

/// Reads and writes frames. One task polls it, so neither side waits for a lock of the other.
pub(super) struct Wire {
    stream: TlsStream<TcpStream>,
    codec: LengthDelimitedCodec,
    read: BytesMut,
    write: BytesMut,
    unflushed: bool,
    ticks: Interval,
    silent: u32,
    quiet: u32,
    stuck: u32,
}

impl Wire {
    pub(super) fn new(stream: TlsStream<TcpStream>) -> Self {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            stream,
            codec: LengthDelimitedCodec::builder()
                .max_frame_length(MAX_FRAME)
                .new_codec(),
            read: BytesMut::new(),
            write: BytesMut::new(),
            unflushed: false,
            ticks,
            silent: 0,
            quiet: 0,
            stuck: 0,
        }
    }

    /// How many bytes more are to be put up for writing; the last frame may go beyond.
    pub(super) fn room(&self) -> usize {
        GATHERED.saturating_sub(self.write.len())
    }

    /// Puts a frame up for writing.
    pub(super) fn put(&mut self, frame: &Frame) {
        frame.write(&mut self.write);
    }

    /// The next frame.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Frame>> {
        loop {
            if let Some(frame) = self.codec.decode(&mut self.read)? {
                let frame = Frame::read(frame.freeze());
                return Poll::Ready(frame.map_err(|error| invalid(&error)));
            }
            if self.read.capacity() - self.read.len() < READ / 4 {
                self.read.reserve(READ);
            }
            let stream = Pin::new(&mut self.stream);
            let count = ready!(poll_read_buf(stream, cx, &mut self.read))?;
            if count == 0 {
                return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
            }
            self.silent = 0;
        }
    }

    /// Writes what was put up, all of it.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.write.is_empty() {
            let stream = Pin::new(&mut self.stream);
            if ready!(poll_write_buf(stream, cx, &mut self.write))? == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            (self.unflushed, self.quiet, self.stuck) = (true, 0, 0);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            (self.unflushed, self.stuck) = (false, 0);
            if self.write.capacity() > 8 * GATHERED {
                // A long frame needs no room for ever.
                self.write = BytesMut::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Says that we are alive, and fails if the peer seems not to be. `reads`: whether frames are
    /// read at all; who does not read hears nothing. Returns how many ticks have passed.
    pub(super) fn poll_life(&mut self, cx: &mut Context<'_>, reads: bool) -> io::Result<u32> {
        let mut passed = 0;
        while self.ticks.poll_tick(cx).is_ready() {
            passed += 1;
            self.quiet += 1;
            if reads {
                self.silent += 1;
            }
            let waits = self.unflushed || !self.write.is_empty();
            if waits {
                self.stuck += 1;
            } else if self.quiet >= SAY {
                self.put(&Frame::Alive);
                self.quiet = 0;
            }
        }
        let failed = |what: &str| Err(io::Error::new(ErrorKind::TimedOut, what.to_owned()));
        if self.silent > GIVE_UP {
            return failed("the peer gave no sign of life for 1.5 s");
        }
        if self.stuck > STUCK {
            return failed("the peer took nothing for 10 s");
        }
        Ok(passed)
    }

    /// Ends the connection in order: what was put up is written, then the end of the stream.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn invalid(error: &impl ToString) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error.to_string())
}

/// What an error means to somebody who knows nothing of sockets.
pub(super) fn told(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => "the peer closed the connection".into(),
        _ => error.to_string(),
    }
}
