//! A buffer whose start is aligned as direct writes want it.

/// What direct writes are aligned to.
pub(crate) const BLOCK: usize = 4096;

/// Bytes that begin at a multiple of [`BLOCK`] in memory.
pub(crate) struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    pub(crate) fn zeroed(length: usize) -> Self {
        let bytes = vec![0; length + BLOCK];
        let start = bytes.as_ptr().align_offset(BLOCK).min(BLOCK);
        Self {
            bytes,
            start,
            length,
        }
    }

    /// Keeps the first `used` bytes and has room for at least `length`.
    pub(crate) fn grow(&mut self, used: usize, length: usize) {
        if length > self.length {
            let mut larger = Self::zeroed(length.next_power_of_two());
            larger[..used].copy_from_slice(&self[..used]);
            *self = larger;
        }
    }
}

impl std::ops::Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}
