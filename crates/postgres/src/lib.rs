//! The engine contract over PostgreSQL 15 and later: a readable row for each event, in a schema of its
//! own, without rights beyond that schema.
//!
//! - [`Postgres`] is the engine; [`Options`] says how it is opened.
//! - [`migrate`], [`adopt`], [`remove`] and [`schema_sql`] are for who looks after the database.
//! - [`server`] starts a private server, for trials and tests.

mod address;
mod area;
mod beside;
mod connect;
mod coordination;
mod doctor;
mod doorbell;
mod engine;
mod error;
mod json;
mod ownership;
mod postgres;
mod read;
mod row;
mod schema;
mod text;
mod tls;
mod writer;

#[cfg(feature = "server")]
pub mod server;

pub use address::without_password;
pub use error::OpenError;
pub use postgres::{Options, Postgres};
pub use schema::{adopt, migrate, remove, schema_sql};
/// What parameters of a statement in a [session](Postgres::session) are.
pub use tokio_postgres::types::ToSql;
