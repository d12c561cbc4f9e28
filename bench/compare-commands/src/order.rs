//! What both sides are asked: a line for an order, 256 bytes as JSON.

use serde::{Deserialize, Serialize};

/// Fills the payload up to its size.
const NOTE: &str =
    "Leave with the neighbour if nobody is at home; please ring twice, and mind the dog behind it";

/// The name of an order.
pub(crate) fn name(order: usize) -> String {
    format!("order-{order:06}")
}

/// A line.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) order: String,
    pub(crate) line: u32,
    pub(crate) article: String,
    pub(crate) customer: String,
    pub(crate) quantity: u32,
    pub(crate) price: u32,
    pub(crate) currency: String,
    pub(crate) at: u64,
    pub(crate) note: String,
}

impl Line {
    /// A line whose values all have a fixed width; `seed` varies them.
    pub(crate) fn any(order: usize, seed: u64) -> Self {
        let part = |shift: u32, below: u64| (seed >> shift) % below;
        Self {
            order: name(order),
            line: 100 + part(0, 900) as u32,
            article: format!("article-{:06}", part(10, 1_000_000)),
            customer: format!("customer-{:06}", part(30, 1_000_000)),
            quantity: 1 + part(50, 9) as u32,
            price: 10_000 + part(20, 90_000) as u32,
            currency: "EUR".into(),
            at: 1_700_000_000_000 + part(5, 100_000_000_000),
            note: NOTE.into(),
        }
    }
}
