//! What may be typed, one module per command.

pub mod bench;
pub mod demo;
pub mod entity;
pub mod events;
pub mod serve;
pub mod verify;
