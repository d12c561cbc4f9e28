//! The same as [`reactions`](crate::reactions) as one decision: an order and its credit in one
//! append, held together by a condition instead of by what follows. The entities decide as
//! everywhere; their events live in one boundary, found by label.

use std::sync::Arc;

use everfold::engine::{Record, Timestamp};
use everfold::prelude::*;
use everfold::{CommandError, Label, NewEvent, Node, Query, Verdict};
use serde::Serialize;

use crate::customer::{
    Credit, Customer, CustomerEvent, CustomerId, CustomerRejection, Open, ReserveCredit,
};
use crate::order::Reason;
use crate::order::{
    Approve, Order, OrderEvent, OrderId, OrderRejection, OrderState, Place, Reject,
};

/// The boundary's name.
const STORE: &str = "store";
/// How often somebody else may have been faster.
const ATTEMPTS: u32 = 64;

/// The store as one boundary.
pub fn application() -> Application {
    Application::new("store").boundary(STORE)
}

/// Why an order was not decided.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Undecided {
    /// The order was refused.
    #[error(transparent)]
    Order(#[from] OrderRejection),
    /// The customer was refused.
    #[error(transparent)]
    Customer(#[from] CustomerRejection),
    /// It could not be processed.
    #[error(transparent)]
    Failed(#[from] CommandError),
}

/// What the boundary says about a customer and an order.
struct Seen {
    customer: Customer,
    order: Order,
    now: Timestamp,
    new: Vec<NewEvent>,
}

/// What a customer made of a command.
type Decided<C> = Result<<Customer as Decide<C>>::Reply, <Customer as Decide<C>>::Rejection>;

impl Seen {
    fn fold(
        records: &[Arc<Record>],
        order: &OrderId,
        now: Timestamp,
    ) -> Result<Self, CommandError> {
        let mut seen = Self {
            customer: Customer::default(),
            order: Order::default(),
            now,
            new: Vec::new(),
        };
        for record in records {
            let portable = &record.portable;
            let (name, version) = (&portable.event_type, portable.schema_version);
            if CustomerEvent::SCHEMAS.iter().any(|it| it.name == &name[..]) {
                let event = CustomerEvent::decode(name, version, &portable.payload);
                seen.customer.evolve(&event.map_err(unreadable)?);
            } else if portable
                .labels
                .iter()
                .any(|(_, value)| value == order.as_text())
            {
                let event = OrderEvent::decode(name, version, &portable.payload);
                seen.order.evolve(&event.map_err(unreadable)?);
            }
        }
        Ok(seen)
    }

    /// Lets the customer decide.
    fn customer<C: Command>(
        &mut self,
        id: &CustomerId,
        command: &C,
    ) -> Result<Decided<C>, CommandError>
    where
        Customer: Decide<C>,
    {
        let context = Context::outside(id.as_text(), 0, self.now);
        Ok(match self.customer.decide(command, &context) {
            Verdict::Accepted { events, reply, .. } => {
                for event in events {
                    self.customer.evolve(&event);
                    let new = NewEvent::of(&event)?;
                    self.new
                        .push(new.label("customer", id.as_text().to_owned()));
                }
                Ok(reply)
            }
            Verdict::Rejected(rejection) => Err(rejection),
        })
    }

    /// Lets the order decide.
    fn order<C: Command>(&mut self, id: &OrderId, command: &C) -> Result<OrderState, Undecided>
    where
        Order: Decide<C, Reply = OrderState, Rejection = OrderRejection>,
    {
        let context = Context::outside(id.as_text(), 0, self.now);
        match self.order.decide(command, &context) {
            Verdict::Accepted { events, reply, .. } => {
                for event in events {
                    self.order.evolve(&event);
                    let customer = event.customer().as_text().to_owned();
                    let new = NewEvent::of(&event)?.label("order", id.as_text().to_owned());
                    self.new.push(match event {
                        // It names the customer by itself.
                        OrderEvent::Placed { .. } => new,
                        _ => new.label("customer", customer),
                    });
                }
                Ok(reply)
            }
            Verdict::Rejected(rejection) => Err(rejection.into()),
        }
    }
}

fn unreadable(error: everfold::DecodeError) -> CommandError {
    CommandError::Encoding(error.to_string())
}

/// Everything about a customer or an order.
fn about(customer: &CustomerId, order: &OrderId) -> Query {
    let label = |name: &'static str, value: &str| Label::new(name, value.to_owned());
    let of = |label| Query::of(Vec::<String>::new(), [label]);
    of(label("customer", customer.as_text())).or(of(label("order", order.as_text())))
}

/// Opens a customer.
///
/// # Errors
/// [`Undecided`], and nothing has happened.
pub async fn open(node: &Node, customer: &CustomerId, open: &Open) -> Result<(), Undecided> {
    let nothing = OrderId::from("");
    decide(node, customer, &nothing, |seen| {
        Ok(seen.customer(customer, open)??)
    })
    .await
}

/// Places an order and decides on its credit, as one.
///
/// # Errors
/// [`Undecided`], and nothing has happened.
pub async fn place(node: &Node, order: &OrderId, place: &Place) -> Result<OrderState, Undecided> {
    let customer = &place.customer;
    decide(node, customer, order, |seen| {
        let state = seen.order(order, place)?;
        if state != OrderState::Pending {
            return Ok(state);
        }
        let reserve = ReserveCredit {
            order: order.clone(),
            total: place.total,
        };
        let reason = match seen.customer(customer, &reserve)? {
            Ok(Credit::Reserved) => return seen.order(order, &Approve),
            Ok(Credit::Refused | Credit::Released) => Reason::InsufficientCredit,
            Err(refused) => refused.into(),
        };
        seen.order(order, &Reject { reason })
    })
    .await
}

/// How an order and its customer's credit stand.
///
/// # Errors
/// [`CommandError`] as for a read.
pub async fn look<T: Serialize>(
    node: &Node,
    customer: &CustomerId,
    order: &OrderId,
    look: impl FnOnce(&Customer, &Order) -> T,
) -> Result<T, CommandError> {
    let boundary = node.boundary(STORE, "all");
    let seen = boundary.read(about(customer, order)).await?;
    let seen = Seen::fold(&seen.events, order, node.world().now())?;
    Ok(look(&seen.customer, &seen.order))
}

async fn decide<T>(
    node: &Node,
    customer: &CustomerId,
    order: &OrderId,
    decide: impl Fn(&mut Seen) -> Result<T, Undecided>,
) -> Result<T, Undecided> {
    let boundary = node.boundary(STORE, "all");
    let mut attempt = 1;
    loop {
        let read = boundary.read(about(customer, order)).await?;
        let mut seen = Seen::fold(&read.events, order, node.world().now())?;
        let result = decide(&mut seen)?;
        if seen.new.is_empty() {
            return Ok(result);
        }
        match boundary.append(seen.new, Some(read.unchanged())).await {
            Ok(_) => return Ok(result),
            // Somebody was faster: look again, and decide anew.
            Err(CommandError::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}
