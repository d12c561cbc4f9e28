//! "orders-1": lines that are added to orders.

use std::time::{SystemTime, UNIX_EPOCH};

use everfold_engine::{Timestamp, Uuid, uuid7};
use serde::Serialize;

/// How many entities there are.
pub(crate) const ENTITIES: usize = 100_000;
/// Events of one entity in a log that is read.
pub(crate) const HISTORY: usize = 10;
/// The type of every event.
pub(crate) const EVENT_TYPE: &str = "LineAdded";
/// How many bytes an event's payload has.
pub(crate) const PAYLOAD: usize = 256;

/// Fills the payload up to its size.
const NOTE: &str =
    "Leave with the neighbour if nobody is at home; please ring twice, and mind the dog behind it";

#[derive(Serialize)]
struct LineAdded<'a> {
    order: &'a str,
    line: u32,
    article: String,
    customer: String,
    quantity: u32,
    price: u32,
    currency: &'a str,
    at: u64,
    note: &'a str,
}

/// One event on its way to a store.
pub(crate) struct Event {
    pub(crate) id: Uuid,
    pub(crate) entity: String,
    /// JSON, [`PAYLOAD`] bytes.
    pub(crate) payload: Vec<u8>,
}

impl Event {
    /// A line whose values all have a fixed width; `seed` varies them.
    pub(crate) fn any(entity: usize, seed: u64) -> anyhow::Result<Self> {
        let order = name(entity);
        let part = |shift: u32, below: u64| (seed >> shift) % below;
        let line = LineAdded {
            order: &order,
            line: 100 + part(0, 900) as u32,
            article: format!("article-{:06}", part(10, 1_000_000)),
            customer: format!("customer-{:06}", part(30, 1_000_000)),
            quantity: 1 + part(50, 9) as u32,
            price: 10_000 + part(20, 90_000) as u32,
            currency: "EUR",
            at: 1_700_000_000_000 + part(5, 100_000_000_000),
            note: NOTE,
        };
        let mut payload = Vec::with_capacity(PAYLOAD);
        serde_json::to_writer(&mut payload, &line)?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let now = Timestamp::from_millis(since.as_millis() as i64);
        Ok(Self {
            id: uuid7(now, mix(seed ^ 1), mix(seed ^ 2 ^ (entity as u64) << 32)),
            entity: order,
            payload,
        })
    }
}

/// The name of an entity.
pub(crate) fn name(entity: usize) -> String {
    format!("order-{entity:06}")
}

/// The finisher of SplitMix64: the load is the same in every run.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_payload_has_its_size() {
        for seed in [0, 1, 0x9e37_79b9_7f4a_7c15, u64::MAX] {
            let event = Event::any(seed as usize % ENTITIES, seed).unwrap();
            assert_eq!(event.payload.len(), PAYLOAD);
        }
    }
}
