//! The record, the engine contract and its in-memory reference engine.
//!
//! An *engine* stores ordered batches of records per partition, durably, and gives them back. This
//! crate fixes what every engine agrees on: the [`record`] and its bytes, [`slot`]s and partitions,
//! [`position`]s, the [`engine::Engine`] trait, and the [`world`] through which engines and the
//! runtime reach clocks, tasks and randomness.

pub mod coordination;
pub mod engine;
mod forward;
pub mod indexed;
pub mod map;
pub mod memory;
pub mod name;
pub mod position;
pub mod record;
pub mod slot;
pub mod time;
pub mod world;

pub use bytes::Bytes;
pub use bytestring::ByteString as Text;
pub use coordination::Coordinator;
pub use engine::Engine;
pub use name::EntityKey;
pub use position::{Offset, Position};
pub use record::Record;
pub use slot::{Layout, Partition, Slot};
pub use time::{HybridTime, Stamp, Timestamp};
pub use uuid::Uuid;
pub use world::World;

/// A version 7 UUID (RFC 9562) of a moment and 74 random bits.
pub fn uuid7(now: Timestamp, random_high: u64, random_low: u64) -> Uuid {
    let mut random = [0u8; 10];
    random[..8].copy_from_slice(&random_low.to_le_bytes());
    random[8..].copy_from_slice(&random_high.to_le_bytes()[..2]);
    uuid::Builder::from_unix_timestamp_millis(now.millis().max(0) as u64, &random).into_uuid()
}

/// A version 8 UUID (RFC 9562) of a hash: the same for the same thing, always.
pub fn name_based_id(hash: [u8; 16]) -> Uuid {
    uuid::Builder::from_custom_bytes(hash).into_uuid()
}
