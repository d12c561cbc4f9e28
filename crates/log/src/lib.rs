//! The embedded log engine: one journal for all partitions, one durable write per group.
//!
//! A [`Log`] keeps its records in segments, append-only files in one directory, and implements
//! [`everfold_engine::Engine`]. `docs/format.md` describes every byte.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use everfold_engine::{Engine, Partition, world::System};
//! use everfold_log::{Log, Options};
//! let log = Log::open_directory("data", System::current(), Options::default())?;
//! let claim = log.claim(Partition(0)).await?;
//! # Ok(())
//! # }
//! ```

mod areas;
mod backup;
mod cache;
mod decode;
pub mod disk;
mod error;
pub mod frame;
mod index;
mod journal;
mod log;
mod open;
mod options;
mod partition;
mod prefix;
mod read;
pub mod recovery;
mod scrub;
mod sealed;
pub mod segment;
mod segments;
mod trim;
mod upkeep;
mod verify;

pub use backup::{BackedUp, BackupError, Restored, backup, is_backup, restore, verify_backup};
pub use disk::{Directory, Disk, MemoryDisk};
pub use error::{Damage, OpenError};
pub use log::{Log, ReadOnly};
pub use open::Report;
pub use options::Options;
pub use verify::{Verified, verify};
