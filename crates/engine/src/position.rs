//! Positions: opaque tokens that say how much of a log an answer reflects.

use std::collections::BTreeMap;

use data_encoding::BASE64URL_NOPAD;

use crate::Text;
use crate::record::wire::{Reader, Writer};
use crate::slot::Partition;

/// A place in one partition. The first record has offset 1; 0 lies before everything. Offsets grow
/// and may have holes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Offset(pub u64);

impl std::fmt::Display for Offset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A random id given to a log when it is created; a copy that lives on by itself gets a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Incarnation(pub u128);

impl std::fmt::Display for Incarnation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// How much of a log is meant: per partition, everything up to and including an offset. A write
/// returns one; a query that is given one waits until it reflects at least that much.
///
/// As text it is opaque, safe in URLs, and guarded by a checksum:
///
/// ```
/// use everfold_engine::{Offset, Position, slot::Partition, position::Incarnation};
/// let position = Position::new("main", Incarnation(7), 1).with(Partition(3), Offset(42));
/// assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    log: Text,
    incarnation: Incarnation,
    layout: u32,
    offsets: BTreeMap<Partition, Offset>,
}

impl Position {
    /// The start of a log.
    pub fn new(log: impl Into<Text>, incarnation: Incarnation, layout: u32) -> Self {
        Self {
            log: log.into(),
            incarnation,
            layout,
            offsets: BTreeMap::new(),
        }
    }

    /// The same position, moved forward in one partition.
    #[must_use]
    pub fn with(mut self, partition: Partition, offset: Offset) -> Self {
        self.advance(partition, offset);
        self
    }

    /// Moves forward in one partition; never back.
    pub fn advance(&mut self, partition: Partition, offset: Offset) {
        if offset > Offset(0) {
            let known = self.offsets.entry(partition).or_default();
            *known = offset.max(*known);
        }
    }

    /// How far this position reaches into a partition.
    pub fn offset(&self, partition: Partition) -> Offset {
        self.offsets.get(&partition).copied().unwrap_or_default()
    }

    /// The partitions that this position says something of.
    pub fn offsets(&self) -> impl Iterator<Item = (Partition, Offset)> + '_ {
        self.offsets
            .iter()
            .map(|(partition, offset)| (*partition, *offset))
    }

    /// The name of the log.
    pub fn log(&self) -> &Text {
        &self.log
    }

    /// The position that reflects both.
    ///
    /// # Errors
    /// [`ForeignPosition`] if the two are of different logs.
    pub fn join(mut self, other: &Position) -> Result<Self, ForeignPosition> {
        other.check(&self)?;
        for (partition, offset) in other.offsets() {
            self.advance(partition, offset);
        }
        Ok(self)
    }

    /// Whether everything in `other` is reflected here too.
    pub fn covers(&self, other: &Position) -> bool {
        other
            .offsets()
            .all(|(partition, offset)| self.offset(partition) >= offset)
    }

    /// Refuses a position of another log, incarnation or layout than that of `here`.
    ///
    /// # Errors
    /// [`ForeignPosition`]: the token was handed out elsewhere; read again without it.
    pub fn check(&self, here: &Position) -> Result<(), ForeignPosition> {
        let difference = if self.log != here.log {
            format!("it is of log {:?}, this is {:?}", self.log, here.log)
        } else if self.incarnation != here.incarnation {
            format!(
                "it is of incarnation {}, this is {}",
                self.incarnation, here.incarnation
            )
        } else if self.layout != here.layout {
            format!("it is of layout {}, this is {}", self.layout, here.layout)
        } else {
            return Ok(());
        };
        Err(ForeignPosition { difference })
    }
}

const FORMAT: u8 = 1;

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = vec![FORMAT];
        bytes.put_text(&self.log);
        bytes.put_u128(self.incarnation.0);
        bytes.put_varint(u64::from(self.layout));
        bytes.put_varint(self.offsets.len() as u64);
        for (partition, offset) in self.offsets() {
            bytes.put_varint(u64::from(partition.0));
            bytes.put_varint(offset.0);
        }
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        f.write_str(&BASE64URL_NOPAD.encode(&bytes))
    }
}

impl std::str::FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let bytes = BASE64URL_NOPAD
            .decode(text.as_bytes())
            .map_err(|_| BadPosition)?;
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(BadPosition)?;
        if checksum(body) != *sum {
            return Err(BadPosition);
        }
        let mut reader = Reader::new(body);
        Self::decode(&mut reader)
            .filter(|_| reader.is_empty())
            .ok_or(BadPosition)
    }
}

impl Position {
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        if reader.u8().ok()? != FORMAT {
            return None;
        }
        let log = std::str::from_utf8(reader.slice().ok()?).ok()?;
        let incarnation = Incarnation(reader.u128().ok()?);
        let layout = u32::try_from(reader.varint().ok()?).ok()?;
        let mut position = Position::new(log, incarnation, layout);
        for _ in 0..reader.varint().ok()? {
            let partition = u16::try_from(reader.varint().ok()?).ok()?;
            position.advance(Partition(partition), Offset(reader.varint().ok()?));
        }
        Some(position)
    }
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    (xxhash_rust::xxh3::xxh3_64(bytes) as u32).to_le_bytes()
}

/// The text is no position token: it was cut, changed, or never was one. Use a token exactly as a
/// write returned it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position token (cut or changed?): pass it on exactly as it was returned")]
pub struct BadPosition;

/// A position token of another log than the one asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the position does not belong to this log: {difference}; read again without it")]
pub struct ForeignPosition {
    difference: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tokens_round_trip(offsets in proptest::collection::btree_map(0..1024u16, 1..u64::MAX, 0..20)) {
            let mut position = Position::new("orders", Incarnation(9), 2);
            for (partition, offset) in offsets {
                position.advance(Partition(partition), Offset(offset));
            }
            prop_assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        }

        #[test]
        fn a_changed_token_is_refused(at in 0usize..40, with in 0u8..64) {
            let token = Position::new("main", Incarnation(1), 1).with(Partition(0), Offset(1)).to_string();
            let mut bytes = token.clone().into_bytes();
            let at = at % bytes.len();
            bytes[at] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[usize::from(with)];
            let changed = String::from_utf8(bytes).unwrap();
            prop_assume!(changed != token);
            prop_assert_eq!(changed.parse::<Position>(), Err(BadPosition));
        }
    }

    #[test]
    fn positions_of_other_logs_are_refused() {
        let here = Position::new("main", Incarnation(1), 1);
        for other in [
            Position::new("bus", Incarnation(1), 1),
            Position::new("main", Incarnation(2), 1),
            Position::new("main", Incarnation(1), 2),
        ] {
            assert!(other.check(&here).is_err());
            assert!(here.clone().join(&other).is_err());
        }
    }

    #[test]
    fn join_covers_both() {
        let start = Position::new("main", Incarnation(1), 1);
        let a = start
            .clone()
            .with(Partition(0), Offset(5))
            .with(Partition(1), Offset(1));
        let b = start
            .with(Partition(0), Offset(3))
            .with(Partition(2), Offset(9));
        let joined = a.clone().join(&b).unwrap();
        assert!(joined.covers(&a) && joined.covers(&b) && !a.covers(&b));
    }
}
