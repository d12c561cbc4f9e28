//! everfold-node
