//! everfold
