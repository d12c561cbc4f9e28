//! everfold-tidy
