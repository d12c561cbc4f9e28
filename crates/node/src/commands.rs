//! What may be typed, one module per command.

pub mod adopt;
pub mod backup;
pub mod bench;
pub mod chaos;
pub mod cluster;
pub mod demo;
pub mod doctor;
pub mod entity;
pub mod events;
pub mod init;
pub mod migrate;
pub mod report;
pub mod restore;
pub mod sagas;
pub mod serve;
pub mod sim;
mod source;
pub mod trim;
pub mod verify;
