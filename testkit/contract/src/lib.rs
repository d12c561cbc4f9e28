//! everfold-contract
