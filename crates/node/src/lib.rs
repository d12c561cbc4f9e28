//! What the binary `everfold` consists of: one module per command, and what they share.
//!
//! - [`commands`]: what may be typed
//! - [`demo`]: a purchase history played against the store
//! - [`purchases`]: reading that history
//! - [`store`]: opening a store's directory
//! - [`output`]: data for programs, words and progress for people
//! - [`failure`]: exit codes

pub mod commands;
pub mod demo;
pub mod failure;
pub mod output;
pub mod purchases;
pub mod store;
