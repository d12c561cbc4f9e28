//! everfold-macros
