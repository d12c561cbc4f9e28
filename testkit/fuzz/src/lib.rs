//! Any bytes for every decoder, and any calls for the embedded log beside the reference engine.
//!
//! A target takes bytes and panics if what it tests does something wrong with them. A new one is a
//! function in a file below `targets`, a line in [`TARGETS`], and, if it needs a beginning, files in
//! `corpus/NAME/`.
//!
//! ```text
//! cargo run --release -p everfold-fuzz -- --seconds 60            all targets
//! cargo run --release -p everfold-fuzz -- codec recovery          two of them
//! cargo run --release -p everfold-fuzz -- --replay FILE codec     one input
//! ```

pub mod corpus;
mod examples;
mod input;
pub mod mutate;
mod repair;
pub mod run;
mod targets;

pub use examples::examples;
pub use targets::TARGETS;

/// What is fuzzed.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Takes any input; panics if something is wrong. What it returns says roughly what happened:
    /// an input that leads to something new is built upon.
    pub run: fn(&[u8]) -> u64,
}

/// Texts and numbers as one outcome.
pub(crate) fn outcome(of: impl std::hash::Hash) -> u64 {
    use std::hash::BuildHasher;
    let seed: everfold_engine::map::Map<(), ()> = everfold_engine::map::seeded(0);
    seed.hasher().hash_one(of)
}
