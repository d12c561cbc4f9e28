//! The store in the simulated world: what clients do with it, and what must hold whatever goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use everfold::engine::Record;
use everfold::prelude::*;
use everfold_world::workload::{Auditor, Workload};
use everfold_world::{Client, Ended};

use crate::customer::{ChangeCreditLimit, Customer, CustomerEvent, CustomerId, Open};
use crate::money::Money;
use crate::order::{
    Cancel, Order, OrderEvent, OrderId, OrderState, Pay, PaymentMethod, Place, Ship,
};
use crate::views::{CustomerRow, customer_history};

const CUSTOMERS: u64 = 3;
const ORDERS: u64 = 8;

/// Customers who place, cancel and pay orders while their credit limits change.
#[derive(Clone, Copy, Debug, Default)]
pub struct Orders;

fn customer(number: u64) -> CustomerId {
    CustomerId::from(format!("c-{number}"))
}

impl Workload for Orders {
    fn name(&self) -> &'static str {
        "store"
    }

    fn application(&self) -> Application {
        crate::application()
    }

    /// The last customer never exists.
    async fn prepare(&self, client: &mut Client) {
        for number in 1..CUSTOMERS {
            let open = Open {
                name: format!("customer {number}"),
                credit_limit: Money::from_cents(1000),
            };
            client.send::<Customer, _>(customer(number), open).await;
        }
    }

    async fn operate(&self, client: &mut Client) {
        let random = client.random();
        let whose = customer(1 + random.below(CUSTOMERS));
        let order = OrderId::from(format!("o-{}", random.below(ORDERS)));
        let cents = random.below(700) as i64;
        match random.below(16) {
            0..6 => {
                let place = Place {
                    customer: whose,
                    items: Vec::new(),
                    total: Money::from_cents(cents),
                    delivery: "here".into(),
                };
                client.send::<Order, _>(order, place).await;
            }
            6 | 7 => {
                client.send::<Order, _>(order, Cancel).await;
            }
            8 => {
                client.send::<Order, _>(order, Ship).await;
            }
            9 | 10 => {
                let method = PaymentMethod::Card;
                client.send::<Order, _>(order, Pay { method }).await;
            }
            11 => {
                let credit_limit = Money::from_cents(500 + cents);
                let change = ChangeCreditLimit { credit_limit };
                client.send::<Customer, _>(whose, change).await;
            }
            12 => {
                client.read::<Order>(order).await;
            }
            13 => {
                client.read_session::<Customer>(whose).await;
            }
            14 => {
                client.row(customer_history, whose).await;
            }
            _ => {
                if let Some(rows) = client.rows(customer_history, true).await {
                    for (id, row) in &rows {
                        client.require(!row.reserved.is_negative(), || {
                            format!("{} has less than nothing reserved", id.as_text())
                        });
                    }
                }
            }
        }
    }

    fn auditor(&self) -> Option<Box<dyn Auditor>> {
        Some(Box::new(Books::default()))
    }

    fn check(&self, ended: &Ended) -> Result<(), String> {
        for (id, row) in ended.rows::<CustomerRow>("customer-history")? {
            let mut due = Vec::new();
            for (order, line) in &row.orders {
                let is_open = matches!(line.state, OrderState::Pending | OrderState::CancelPending);
                if is_open {
                    return Err(format!("{} of {id} was never decided", order.as_text()));
                }
                let holds = matches!(line.state, OrderState::Approved | OrderState::Shipped);
                if holds && line.paid.is_none() {
                    due.push(line.total);
                }
            }
            if Money::sum(due) != Some(row.reserved) {
                return Err(format!(
                    "{id} has {:?} reserved for {:?}",
                    row.reserved, row.orders
                ));
            }
        }
        Ok(())
    }
}

/// Credit is reserved within the limit, orders are approved on reserved credit only, and paid once.
#[derive(Default)]
struct Books {
    limits: BTreeMap<String, Money>,
    reserved: BTreeMap<(String, OrderId), Money>,
    granted: BTreeSet<OrderId>,
    paid: BTreeSet<OrderId>,
}

impl Auditor for Books {
    fn unit(&mut self, unit: &[Arc<Record>]) -> Result<(), String> {
        for record in unit.iter().filter(|record| record.local.version > 0) {
            let (kind, bytes) = (&record.portable.event_type, &record.portable.payload);
            let id = record.portable.entity.id.to_string();
            let version = record.portable.schema_version;
            match &*record.portable.entity.kind {
                "customer" => {
                    let event = CustomerEvent::decode(kind, version, bytes);
                    self.customer(id, event.map_err(|error| error.to_string())?)?;
                }
                "order" => {
                    let event = OrderEvent::decode(kind, version, bytes);
                    self.order(id.into(), &event.map_err(|error| error.to_string())?)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Books {
    fn customer(&mut self, id: String, event: CustomerEvent) -> Result<(), String> {
        match event {
            CustomerEvent::Opened { credit_limit, .. }
            | CustomerEvent::CreditLimitChanged { credit_limit } => {
                self.limits.insert(id, credit_limit);
            }
            CustomerEvent::CreditReserved { order, total } => {
                self.granted.insert(order.clone());
                if self.reserved.insert((id.clone(), order), total).is_some() {
                    return Err(format!("{id} reserved twice for one order"));
                }
                let of = self.reserved.iter().filter(|((owner, _), _)| *owner == id);
                let sum = Money::sum(of.map(|(_, total)| *total));
                let limit = self.limits.get(&id).copied().unwrap_or(Money::ZERO);
                if sum.is_none_or(|sum| sum > limit) {
                    return Err(format!("{id} has {sum:?} reserved, the limit is {limit:?}"));
                }
            }
            CustomerEvent::CreditReleased { order, .. } => {
                if self.reserved.remove(&(id.clone(), order)).is_none() {
                    return Err(format!("{id} released what was not reserved"));
                }
            }
            CustomerEvent::CreditRefused { .. } | CustomerEvent::Closed => {}
        }
        Ok(())
    }

    fn order(&mut self, id: OrderId, event: &OrderEvent) -> Result<(), String> {
        let name = id.as_text().to_owned();
        match event {
            OrderEvent::Approved { .. } if !self.granted.contains(&id) => Err(format!(
                "{name} was approved before its credit was reserved"
            )),
            OrderEvent::Paid { .. } if !self.paid.insert(id) => {
                Err(format!("{name} was paid twice"))
            }
            _ => Ok(()),
        }
    }
}
