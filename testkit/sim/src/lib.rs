//! everfold-sim
