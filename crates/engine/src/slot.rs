//! Slots, partitions and layouts: which entity lives where.

use xxhash_rust::xxh3::xxh3_64;

/// How many slots there are, for ever.
pub const SLOTS: u16 = 1024;

/// One of the 1024 places an id hashes to. The mapping never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// `XXH3-64(seed 0, UTF-8 of the id, or of its {tag}) mod 1024`.
    pub fn of(id: &str) -> Self {
        let hash = xxh3_64(tag(id).unwrap_or(id).as_bytes());
        Self((hash % u64::from(SLOTS)) as u16)
    }

    /// The slot's number, 0 to 1023.
    pub fn number(self) -> u16 {
        self.0
    }
}

/// The text between the first `{` and the next `}`, if not empty: entities that share it share a
/// slot, whatever the partition count.
pub fn tag(id: &str) -> Option<&str> {
    let (_, rest) = id.split_once('{')?;
    let (tag, _) = rest.split_once('}')?;
    (!tag.is_empty()).then_some(tag)
}

/// A range of slots: the unit of order, ownership and parallelism.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Partition(pub u16);

impl Partition {
    /// The partition's place in vectors of one entry per partition.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// How the slots are cut into partitions. Changing the cut gives a new layout number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Grows with every re-partitioning of the log.
    pub number: u32,
    /// 1 to 1024.
    pub partitions: u16,
}

impl Layout {
    /// The first layout of a log.
    ///
    /// # Errors
    /// [`BadPartitionCount`] outside 1 to 1024: choose a count in that range.
    pub fn first(partitions: u16) -> Result<Self, BadPartitionCount> {
        if (1..=SLOTS).contains(&partitions) {
            Ok(Self {
                number: 1,
                partitions,
            })
        } else {
            Err(BadPartitionCount(partitions))
        }
    }

    /// The partition that holds a slot.
    pub fn partition_of(self, slot: Slot) -> Partition {
        let index = u32::from(slot.0) * u32::from(self.partitions) / u32::from(SLOTS);
        Partition(index as u16)
    }

    /// The partition that holds an entity id.
    pub fn partition(self, id: &str) -> Partition {
        self.partition_of(Slot::of(id))
    }

    /// All partitions in order.
    pub fn all(self) -> impl Iterator<Item = Partition> {
        (0..self.partitions).map(Partition)
    }
}

/// A partition count outside 1 to 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} partitions: a log has 1 to 1024 of them")]
pub struct BadPartitionCount(pub u16);

#[cfg(test)]
mod tests {
    use super::*;

    /// These numbers are for ever: another value here means that every log in the world is lost.
    #[test]
    fn slots_match_their_test_vectors() {
        let vectors = [
            ("", 194),
            ("a", 543),
            ("customer-1", 332),
            ("o-1", 674),
            ("acct", 282),
            ("{acct}-1", 282),
            ("Zürich", 846),
            ("invoice-2024-000001", 796),
        ];
        let actual: Vec<_> = vectors
            .iter()
            .map(|(id, _)| (*id, Slot::of(id).number()))
            .collect();
        assert_eq!(actual, vectors);
    }

    #[test]
    fn only_a_closed_nonempty_tag_counts() {
        assert_eq!(tag("{a}-1"), Some("a"));
        assert_eq!(tag("x{a}{b}"), Some("a"));
        assert_eq!(tag("x{}{b}"), None);
        assert_eq!(tag("x{a"), None);
        assert_eq!(tag("}a{"), None);
        assert_eq!(tag("{{a}"), Some("{a"));
    }

    #[test]
    fn partitions_are_contiguous_ranges_that_cover_all_slots() {
        for partitions in [1, 2, 3, 7, 16, 1000, 1024] {
            let layout = Layout::first(partitions).unwrap();
            let mut seen = Vec::new();
            for slot in 0..SLOTS {
                let partition = layout.partition_of(Slot(slot));
                if seen.last() != Some(&partition) {
                    seen.push(partition);
                }
            }
            assert_eq!(seen, layout.all().collect::<Vec<_>>());
        }
        assert_eq!(Layout::first(0), Err(BadPartitionCount(0)));
        assert_eq!(Layout::first(1025), Err(BadPartitionCount(1025)));
    }
}
