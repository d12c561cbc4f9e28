//! A purchase history played against the store.

pub mod directory;
pub mod figures;
pub mod load;
