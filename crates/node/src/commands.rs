//! What may be typed, one module per command.

pub mod demo;
