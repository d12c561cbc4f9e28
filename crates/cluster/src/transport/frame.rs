//! What goes over a connection, byte by byte.
//!
//! A frame is its length in four bytes, most significant first, then a byte for its kind, then what
//! the kind has. Numbers have the most significant byte first.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest frame, without the four bytes of its length: 16 MiB.
pub const MAX_FRAME: usize = 16 << 20;
/// The longest call or answer.
pub(super) const MAX_BODY: usize = MAX_FRAME - HEAD;
/// Kind and number.
const HEAD: usize = 9;
/// Versions of this protocol, lowest and highest, that this build speaks.
pub(super) const VERSIONS: (u16, u16) = (1, 1);
/// Bodies up to this length are copied out of the buffer that they came in, which is much larger and
/// would be kept as long as any of them.
const COPIED: usize = 16 << 10;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The first of each side: the lowest and highest version of the protocol that it speaks. Later
    /// versions may append to it.
    Hello {
        /// The lowest.
        lowest: u16,
        /// The highest.
        highest: u16,
    },
    /// A request under a number that the caller chose.
    Call {
        /// Unique on its connection.
        number: u64,
        /// What is asked.
        body: Bytes,
    },
    /// What answers it.
    Answer {
        /// The call's.
        number: u64,
        /// What is answered.
        body: Bytes,
    },
    /// There is an answer, but it is too long.
    TooLarge {
        /// The call's.
        number: u64,
        /// How long it is.
        bytes: u64,
    },
    /// Whatever answers calls has failed on this one.
    Failed {
        /// The call's.
        number: u64,
    },
    /// Nothing but a sign of life.
    Alive,
    /// From a node: send no further calls here. From a caller: this was the last.
    Last,
    /// Instead of a hello: the peer belongs to another cluster than the node, which is of this one.
    OtherCluster {
        /// Its name.
        cluster: String,
    },
    /// Instead of a hello: the node has as many connections as it takes.
    Full,
}

/// Bytes that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than its kind must be.
    #[error("a frame ends too early")]
    Short,
    /// Of a kind that this version of the protocol does not have.
    #[error("a frame is of the unknown kind {0}")]
    Kind(u8),
    /// Text that is none.
    #[error("a name in a frame is not UTF-8")]
    Text,
}

const HELLO: u8 = 1;
const CALL: u8 = 2;
const ANSWER: u8 = 3;
const TOO_LARGE: u8 = 4;
const FAILED: u8 = 5;
const ALIVE: u8 = 6;
const LAST: u8 = 7;
const OTHER_CLUSTER: u8 = 8;
const FULL: u8 = 9;

impl Frame {
    /// Our hello.
    pub(super) fn hello() -> Self {
        let (lowest, highest) = VERSIONS;
        Self::Hello { lowest, highest }
    }

    /// Reads a frame without the bytes of its length.
    ///
    /// # Errors
    /// The bytes are no frame. The connection cannot go on.
    pub fn read(mut bytes: Bytes) -> Result<Self, FrameError> {
        let kind = bytes.try_get_u8().map_err(|_| FrameError::Short)?;
        let number = |bytes: &mut Bytes| bytes.try_get_u64().map_err(|_| FrameError::Short);
        let version = |bytes: &mut Bytes| bytes.try_get_u16().map_err(|_| FrameError::Short);
        Ok(match kind {
            HELLO => Self::Hello {
                lowest: version(&mut bytes)?,
                highest: version(&mut bytes)?,
            },
            CALL => Self::Call {
                number: number(&mut bytes)?,
                body: own(bytes),
            },
            ANSWER => Self::Answer {
                number: number(&mut bytes)?,
                body: own(bytes),
            },
            TOO_LARGE => Self::TooLarge {
                number: number(&mut bytes)?,
                bytes: number(&mut bytes)?,
            },
            FAILED => Self::Failed {
                number: number(&mut bytes)?,
            },
            ALIVE => Self::Alive,
            LAST => Self::Last,
            OTHER_CLUSTER => Self::OtherCluster {
                cluster: String::from_utf8(bytes.into()).map_err(|_| FrameError::Text)?,
            },
            FULL => Self::Full,
            other => return Err(FrameError::Kind(other)),
        })
    }

    /// Appends the frame with its length. Calls and answers are no longer than a frame may be.
    pub fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Hello { lowest, highest } => {
                head(out, HELLO, 4);
                out.put_u16(*lowest);
                out.put_u16(*highest);
            }
            Self::Call { number, body } => numbered(out, CALL, *number, body),
            Self::Answer { number, body } => numbered(out, ANSWER, *number, body),
            Self::TooLarge { number, bytes } => {
                numbered(out, TOO_LARGE, *number, &bytes.to_be_bytes());
            }
            Self::Failed { number } => numbered(out, FAILED, *number, &[]),
            Self::Alive => head(out, ALIVE, 0),
            Self::Last => head(out, LAST, 0),
            Self::OtherCluster { cluster } => {
                head(out, OTHER_CLUSTER, cluster.len());
                out.put_slice(cluster.as_bytes());
            }
            Self::Full => head(out, FULL, 0),
        }
    }
}

fn head(out: &mut BytesMut, kind: u8, rest: usize) {
    out.put_u32(rest as u32 + 1);
    out.put_u8(kind);
}

fn numbered(out: &mut BytesMut, kind: u8, number: u64, body: &[u8]) {
    out.reserve(4 + HEAD + body.len());
    head(out, kind, 8 + body.len());
    out.put_u64(number);
    out.put_slice(body);
}

fn own(body: Bytes) -> Bytes {
    if body.len() <= COPIED {
        Bytes::copy_from_slice(&body)
    } else {
        body
    }
}

/// The version that both sides speak, the highest of them.
pub(super) fn agreed(theirs: (u16, u16)) -> Option<u16> {
    let highest = VERSIONS.1.min(theirs.1);
    (highest >= VERSIONS.0.max(theirs.0)).then_some(highest)
}
