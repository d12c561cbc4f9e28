//! Hash maps whose order does not change from run to run.
//!
//! The standard maps draw a random seed per process, so a simulated run could not be repeated.
//! These are seeded by whoever makes them, from the world's randomness where keys come from outside.

#![allow(clippy::disallowed_types)]

use foldhash::fast::FixedState;

/// A hash map with a stated seed.
pub type Map<K, V> = std::collections::HashMap<K, V, FixedState>;
/// A hash set with a stated seed.
pub type Set<K> = std::collections::HashSet<K, FixedState>;

/// An empty map. `seed` comes from [`crate::World::random`] where strangers choose the keys.
pub fn seeded<K, V>(seed: u64) -> Map<K, V> {
    Map::with_hasher(FixedState::with_seed(seed))
}

/// An empty set. `seed` comes from [`crate::World::random`] where strangers choose the keys.
pub fn seeded_set<K>(seed: u64) -> Set<K> {
    Set::with_hasher(FixedState::with_seed(seed))
}
