//! Read models: each account, and the books over all of them.

mod balances;
mod books;
#[cfg(test)]
mod tests;

pub use balances::{BalanceRow, balances};
pub use books::{BooksRow, books, the_books};
