//! Read models, all by customer.

mod history;
mod low_credit;
mod shipped;
#[cfg(test)]
mod tests;

pub use history::{CustomerRow, OrderLine, Totals, customer_history};
pub use low_credit::{LowCreditRow, low_credit};
pub use shipped::{ShippedRow, shipped_orders};

/// Moments in rows: microseconds since 1970.
mod moment {
    use everfold::engine::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        moment: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        moment.map(|moment| moment.0).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::deserialize(deserializer)?.map(Timestamp))
    }
}
