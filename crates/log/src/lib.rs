//! everfold-log
