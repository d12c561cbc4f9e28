//! Demonstrations: a purchase history played against the store ([`load`], [`figures`]), and
//! transfers played against the ledger ([`ledger`]). Both go on in their [`directory`] where they
//! were interrupted.

pub mod directory;
pub mod figures;
pub mod ledger;
pub mod load;
pub mod patience;
