//! Bytes of fixed meaning: little-endian integers, LEB128 varints, length-prefixed slices.

/// The bytes end early or break a rule of the encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Fewer bytes than the encoding announces.
    #[error("the bytes end {0} early")]
    Short(usize),
    /// A varint of more than 64 bits.
    #[error("a number is longer than 64 bits")]
    LongNumber,
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    NotText,
    /// A code that this version does not know.
    #[error("unknown {what} code {code}")]
    Unknown {
        /// What the code stands for.
        what: &'static str,
        /// The code found.
        code: u64,
    },
}

/// Appends values to a byte vector.
pub trait Writer {
    /// One byte.
    fn put_u8(&mut self, value: u8);
    /// Four bytes, little-endian.
    fn put_u32(&mut self, value: u32);
    /// Eight bytes, little-endian.
    fn put_u64(&mut self, value: u64);
    /// Sixteen bytes, little-endian.
    fn put_u128(&mut self, value: u128);
    /// LEB128, one to ten bytes.
    fn put_varint(&mut self, value: u64);
    /// Zig-zag, then LEB128.
    fn put_signed(&mut self, value: i64);
    /// A varint length, then the bytes.
    fn put_slice(&mut self, value: &[u8]);
    /// A varint length, then UTF-8.
    fn put_text(&mut self, value: &str) {
        self.put_slice(value.as_bytes());
    }
}

impl Writer for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u128(&mut self, value: u128) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn put_signed(&mut self, value: i64) {
        self.put_varint(((value << 1) ^ (value >> 63)) as u64);
    }

    fn put_slice(&mut self, value: &[u8]) {
        self.put_varint(value.len() as u64);
        self.extend_from_slice(value);
    }
}

/// Takes values off the front of bytes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    length: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from their start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            length: bytes.len(),
        }
    }

    /// How many bytes have been taken.
    pub fn taken(&self) -> usize {
        self.length - self.bytes.len()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let short = WireError::Short(length.saturating_sub(self.bytes.len()));
        let (head, rest) = self.bytes.split_at_checked(length).ok_or(short)?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let short = WireError::Short(N.saturating_sub(self.bytes.len()));
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(short)?;
        self.bytes = rest;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    /// Four bytes, little-endian.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes, little-endian.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Sixteen bytes, little-endian.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn u128(&mut self) -> Result<u128, WireError> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    /// LEB128.
    ///
    /// # Errors
    /// [`WireError::Short`], [`WireError::LongNumber`].
    pub fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::LongNumber)
    }

    /// A varint that must fit `usize` and not exceed what is left.
    ///
    /// # Errors
    /// [`WireError::Short`], [`WireError::LongNumber`].
    pub fn length(&mut self) -> Result<usize, WireError> {
        let value = self.varint()?;
        let length = usize::try_from(value).map_err(|_| WireError::LongNumber)?;
        if length > self.bytes.len() {
            return Err(WireError::Short(length - self.bytes.len()));
        }
        Ok(length)
    }

    /// Zig-zag LEB128.
    ///
    /// # Errors
    /// [`WireError::Short`], [`WireError::LongNumber`].
    pub fn signed(&mut self) -> Result<i64, WireError> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Length-prefixed bytes.
    ///
    /// # Errors
    /// [`WireError::Short`], [`WireError::LongNumber`].
    pub fn slice(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.length()?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_round_trip(a in any::<u64>(), b in any::<i64>(), c in any::<u128>()) {
            let mut bytes = Vec::new();
            bytes.put_varint(a);
            bytes.put_signed(b);
            bytes.put_u128(c);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint(), Ok(a));
            prop_assert_eq!(reader.signed(), Ok(b));
            prop_assert_eq!(reader.u128(), Ok(c));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = Reader::new(&bytes);
            while reader.slice().is_ok() && !reader.is_empty() {}
            let _ = Reader::new(&bytes).varint();
            prop_assert!(reader.taken() <= bytes.len());
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_refused() {
        assert_eq!(
            Reader::new(&[0xff; 10]).varint(),
            Err(WireError::LongNumber)
        );
        let mut largest = Vec::new();
        largest.put_varint(u64::MAX);
        assert_eq!(Reader::new(&largest).varint(), Ok(u64::MAX));
    }
}
