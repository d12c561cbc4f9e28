//! everfold-store
