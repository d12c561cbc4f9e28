//! Rules about this repository's sources that neither the compiler nor clippy checks, run as a test.
//!
//! A simulated run can be repeated only if nothing reaches around the seams to a clock, a thread or
//! a randomly seeded map. That, and what keeps the sources readable, is checked here. Exceptions
//! are listed in [`exceptions`], each with its reason.

pub mod exceptions;

mod documents;
mod finding;
mod paths;
mod rules;
mod source;
mod tree;

pub use documents::{check_architecture, check_links, dependencies};
pub use finding::Finding;
pub use rules::check_source;
pub use tree::check_tree;
