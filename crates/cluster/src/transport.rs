//! Calls between nodes, and from clients to nodes: opaque bytes there, opaque bytes back.
//!
//! One connection joins a caller to a node, over TLS in which both show certificates of one
//! [authority](crate::authority). Calls are numbered and answered in any order. What waits to be
//! written is written at once, so that many small calls cost few packets and few records of TLS.
//!
//! Everything is bounded: calls in flight and their bytes at the caller, who is told
//! [`CallError::Overloaded`] before anything is sent; answers in the making at the node, which reads
//! no more calls until some have left. Both sides say that they are alive twice a second, also when
//! they read nothing, so that a connection which was cut is given up within two seconds.
//!
//! A call is sent once. Whether one that failed may have been done is said by
//! [`CallError::may_be_done`]; to repeat it is up to whoever knows what it means.

mod connect;
mod connection;
mod error;
mod frame;
mod limits;
mod listen;
mod pace;
mod peers;
mod session;
mod wire;

pub use error::{CallError, ListenError, Side};
pub use frame::{Frame, FrameError, MAX_FRAME};
pub use limits::Limits;
pub use listen::{Answers, Listening, listen, listen_within};
pub use peers::Peers;
