//! What the binary `everfold` consists of: one module per command, and what they share.
//!
//! - [`commands`]: what may be typed
//! - [`demo`]: a purchase history played against the store
//! - [`chaos`]: nodes, faults, clients and checkers of `everfold chaos`
//! - [`purchases`]: reading that history
//! - [`place`]: where a log lies, and opening it there
//! - [`store`]: opening a store on such a log
//! - [`production`]: refusing what could lose acknowledged events
//! - [`serve`]: the store and [`inspect`] over HTTP
//! - [`inspect`]: looking at a running node, and at a log
//! - [`member`]: being one of many nodes
//! - [`client`]: asking a node of another process
//! - [`output`]: data for programs, words and progress for people
//! - [`failure`]: exit codes

pub mod chaos;
pub mod client;
pub mod commands;
pub mod demo;
pub mod failure;
pub mod inspect;
pub mod member;
pub mod output;
pub mod place;
pub mod production;
pub mod purchases;
pub mod serve;
pub mod store;
