//! What is measured with: orders that take lines of 256 bytes.

use everfold::prelude::*;
use serde::{Deserialize, Serialize};

/// How many orders there are.
pub(crate) const ORDERS: usize = 100_000;
/// How many bytes an event's payload has.
pub(crate) const PAYLOAD: usize = 256;

/// Fills the payload up to its size.
const NOTE: &str =
    "Leave with the neighbour if nobody is at home; please ring twice, and mind the dog behind it";

#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OrderId(String);

#[derive(Event, Clone, Debug, PartialEq)]
pub(crate) enum OrderEvent {
    LineAdded {
        order: String,
        line: u32,
        article: String,
        customer: String,
        quantity: u32,
        price: u32,
        currency: String,
        at: u64,
        note: String,
    },
}

#[derive(Entity, Default, Clone, Debug)]
#[entity(name = "order", id = OrderId, event = OrderEvent, commands(AddLine))]
pub(crate) struct Order {
    lines: u64,
    total: u64,
}

impl Evolve for Order {
    fn evolve(&mut self, event: &OrderEvent) {
        let OrderEvent::LineAdded {
            quantity, price, ..
        } = event;
        self.lines += 1;
        self.total += u64::from(*quantity) * u64::from(*price);
    }
}

#[derive(Command, Clone, Debug)]
pub(crate) struct AddLine {
    pub(crate) line: u32,
    pub(crate) article: String,
    pub(crate) customer: String,
    pub(crate) quantity: u32,
    pub(crate) price: u32,
    pub(crate) currency: String,
    pub(crate) at: u64,
    pub(crate) note: String,
}

impl AddLine {
    /// A line whose values all have a fixed width; `seed` varies them.
    pub(crate) fn any(seed: u64) -> Self {
        let part = |shift: u32, below: u64| (seed >> shift) % below;
        Self {
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

    /// What happens when `order` takes the line.
    pub(crate) fn into_event(self, order: String) -> OrderEvent {
        OrderEvent::LineAdded {
            order,
            line: self.line,
            article: self.article,
            customer: self.customer,
            quantity: self.quantity,
            price: self.price,
            currency: self.currency,
            at: self.at,
            note: self.note,
        }
    }
}

#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    NoQuantity,
}

impl Decide<AddLine> for Order {
    type Reply = u64;
    type Rejection = Refused;

    fn decide(&self, command: &AddLine, context: &Context) -> Decision<Self, AddLine> {
        if command.quantity == 0 {
            return reject(Refused::NoQuantity);
        }
        let event = command.clone().into_event(context.entity_id().to_owned());
        emit(event).reply(self.lines + 1)
    }
}

/// What the view keeps per order.
#[derive(Default, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sum {
    pub(crate) lines: u64,
    pub(crate) total: u64,
}

pub(crate) fn sums() -> View<String, Sum> {
    View::named("sums").on(
        |_: &OrderEvent, at| at.entity_id::<String>(),
        |row: &mut Sum, event, _| {
            let OrderEvent::LineAdded {
                quantity, price, ..
            } = event;
            row.lines += 1;
            row.total += u64::from(*quantity) * u64::from(*price);
        },
    )
}

/// The application under measurement.
pub(crate) fn shop() -> Application {
    Application::new("bench").entity::<Order>().view(sums())
}

/// The name of an order.
pub(crate) fn name(order: usize) -> String {
    format!("order-{order:06}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_payload_has_its_size() {
        for seed in [0, 1, 0x9e37_79b9_7f4a_7c15, u64::MAX] {
            let event = AddLine::any(seed).into_event(name(seed as usize % ORDERS));
            let mut json = Vec::new();
            event.encode(&mut json).unwrap();
            let text = String::from_utf8(json).unwrap();
            assert_eq!(text.len(), PAYLOAD, "{text}");
        }
    }
}
