//! everfold-bench
