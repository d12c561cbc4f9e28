//! What each case does, by the part of the contract it is about.

pub(crate) mod append;
pub(crate) mod area;
pub(crate) mod durable;
pub(crate) mod entity;
pub(crate) mod find;
pub(crate) mod ownership;
pub(crate) mod read;
pub(crate) mod refusal;
pub(crate) mod wait;
