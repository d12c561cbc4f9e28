//! The program as people run it: arguments, files, signals and sockets.

#![allow(clippy::unwrap_used, reason = "what supports a test fails with it")]

mod backup;
mod bench;
mod chaos;
mod commands;
mod crash;
mod demo;
mod http;
mod init;
mod inspect;
mod ledger;
mod members;
mod model;
mod postgres;
mod running;
mod sagas;
mod sim;
