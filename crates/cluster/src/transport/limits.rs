//! How much may be under way.

/// Bounds of the connections of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls that a caller may have in flight on one connection, those that wait for it to be made
    /// included. Default: 4096.
    pub calls: usize,
    /// Bytes of calls that wait to be written to one connection. Default: 64 MiB. A single call is
    /// taken in any case.
    pub call_bytes: usize,
    /// Calls of one connection that a node answers at a time. Default: 4096, so that what is held up is told
    /// to who calls, and not hidden in buffers that others share.
    pub answers: usize,
    /// Bytes of calls of one connection that a node answers at a time. Default: 64 MiB.
    pub answer_bytes: usize,
    /// Connections that a node takes. Default: 1024.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: 4096,
            call_bytes: 64 << 20,
            answers: 4096,
            answer_bytes: 64 << 20,
            connections: 1024,
        }
    }
}
