//! Interactive queries: questions about many entities or rows at once, put to any node or from
//! outside, gathered from wherever they are.

mod anyone;
mod directory;
mod entities;
mod filter;
mod gather;
mod placed;
mod rows;
mod survey;

pub(crate) use anyone::{RowsAsked, RowsPage, Sheet, history, history_here};
pub(crate) use directory::Directory;
pub use entities::{Entities, Found, Named, One};
pub use filter::{BadFilter, Field, Filter, Operand};
pub(crate) use gather::Source;
pub use placed::{Holder, Placed};
pub use rows::{FoundRows, RowsRef};
pub(crate) use survey::{Asked, Page, Surveyor};
