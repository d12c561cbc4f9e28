//! everfold-runtime
