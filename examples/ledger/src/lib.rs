//! A double-entry ledger: accounts, holds, overdraft limits, and transfers that balance at every
//! instant.
//!
//! - [`amount`]: what moves, and what an account stands at
//! - [`account`]: balances, overdraft limits, holds
//! - [`transfer`]: from one account to another, in one atomic change where both share a tag, as a
//!   saga where they do not
//! - [`statement`]: what several accounts stand at, at one moment
//! - [`transit`]: where money is on its way from one tag to another
//! - [`views`]: balances, and the books over all accounts
//! - [`audit`]: the same promises checked over the log itself
//! - `simulated`: the ledger in a world where everything goes wrong (feature `world`)
//!
//! Money is only ever moved: a unit of the log that debits one account credits another with as
//! much, so debits equal credits at every position. No account goes past its overdraft limit; what
//! holds set aside cannot be spent. In-transit accounts are clearing accounts and have no limit.

pub mod account;
pub mod amount;
pub mod audit;
#[cfg(test)]
mod samples;
#[cfg(feature = "world")]
pub mod simulated;
pub mod statement;
pub mod transfer;
pub mod transit;
pub mod views;

use everfold::prelude::*;

/// The whole ledger, ready to be opened.
pub fn application() -> Application {
    Application::new("ledger")
        .entity::<account::Account>()
        .entity::<transit::Transit>()
        .together::<transfer::Transfer>()
        .together::<transfer::Capture>()
        .together::<transfer::Dispatch>()
        .together::<transfer::Deliver>()
        .together::<transfer::GiveBack>()
        .together::<statement::Statement>()
        .saga(transfer::between_tags())
        .reactor(account::expire_holds())
        .view(views::balances())
        .view(views::books())
}
