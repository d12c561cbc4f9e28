//! The store in the simulated world: what clients do with it, and what must hold whatever goes wrong.

use std::time::Duration;

use everfold::engine::Record;
use everfold::prelude::*;
use everfold_world::workload::{Auditor, Workload};
use everfold_world::{Client, Ended, Random};
use std::sync::Arc;

use crate::customer::{ChangeCreditLimit, Close, Customer, CustomerId, Open, ReserveCredit};
use crate::money::Money;
use crate::order::{Cancel, Order, OrderId, Pay, PaymentMethod, Place, Reason, Reject, Ship};
use crate::reactions::DECISION;
use crate::views::{CustomerRow, customer_history};

mod books;
mod instances;

use books::Books;
use instances::Instances;

const CUSTOMERS: u64 = 3;
const ORDERS: u64 = 8;

/// Customers who place, cancel and pay orders while their credit limits change.
#[derive(Clone, Copy, Debug)]
pub struct Orders {
    form: Form,
}

/// Who leads an order through what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Reactors,
    Saga,
}

impl Orders {
    /// Customers and orders answer each other's events.
    pub fn choreographed() -> Self {
        Self {
            form: Form::Reactors,
        }
    }

    /// A saga leads each order.
    pub fn orchestrated() -> Self {
        Self { form: Form::Saga }
    }
}

fn customer(number: u64) -> CustomerId {
    CustomerId::from(format!("c-{number}"))
}

/// What an order is usually about, so that it is placed again with the same contents.
fn usual(number: u64) -> Place {
    place(customer(number % CUSTOMERS), 100 + 60 * number as i64)
}

fn place(customer: CustomerId, cents: i64) -> Place {
    Place {
        customer,
        items: Vec::new(),
        total: Money::from_cents(cents),
        delivery: "here".into(),
    }
}

impl Workload for Orders {
    fn name(&self) -> &'static str {
        match self.form {
            Form::Reactors => "store",
            Form::Saga => "store-saga",
        }
    }

    /// Deadlines are so short in most runs that they pass while something goes wrong.
    fn application(&self, mut random: Random) -> Application {
        let seconds = Duration::from_secs;
        let within = *random.pick(&[seconds(1), seconds(3), seconds(10), DECISION]);
        match self.form {
            Form::Reactors => crate::choreographed(within),
            Form::Saga => crate::led(within),
        }
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
        let whose = customer(random.below(CUSTOMERS));
        let number = random.below(ORDERS);
        let order = OrderId::from(format!("o-{number}"));
        let cents = random.below(700) as i64;
        match random.below(20) {
            0..4 => {
                client.send::<Order, _>(order, usual(number)).await;
            }
            4..7 => {
                client.send::<Order, _>(order, place(whose, cents)).await;
            }
            7 | 8 => {
                client.send::<Order, _>(order, Cancel).await;
            }
            9 => {
                client.send::<Order, _>(order, Ship).await;
            }
            10 | 11 => {
                let method = PaymentMethod::Card;
                client.send::<Order, _>(order, Pay { method }).await;
            }
            12 | 13 => {
                let credit_limit = Money::from_cents(500 + cents);
                let change = ChangeCreditLimit { credit_limit };
                client.send::<Customer, _>(whose, change).await;
            }
            14 => match random.one_in(6) {
                true => drop(client.send::<Customer, _>(whose, Close).await),
                false => self.late(client, order).await,
            },
            15 => self.late(client, order).await,
            16 => {
                client.read::<Order>(order).await;
            }
            17 => {
                client.read_session::<Customer>(whose).await;
            }
            18 => {
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
        Some(Box::new(Audit::default()))
    }

    fn check(&self, ended: &Ended) -> Result<(), String> {
        let mut audit = Audit::default();
        for unit in ended.units() {
            // What does not hold in between was said by the auditor.
            let _ = audit.unit(unit);
        }
        audit.books.check_end()?;
        for (id, row) in ended.rows::<CustomerRow>("customer-history")? {
            if row.reserved != audit.books.reserved_by(&id) {
                return Err(format!("the view has {:?} reserved by {id}", row.reserved));
            }
        }
        if self.form == Form::Saga {
            audit.instances.check_end(&audit.books)?;
            let live = ended.shown.views.get("sagas");
            if live.is_none_or(|live| !live.is_empty()) {
                return Err(format!("the view of live sagas has {live:?}"));
            }
        }
        Ok(())
    }
}

impl Orders {
    /// What was decided long ago is decided again: by a handler that repeats itself under another
    /// id, or by a deadline that has passed elsewhere.
    async fn late(&self, client: &mut Client, order: OrderId) {
        // Only reactors give back what is reserved for an order that needs nothing any more, whoever
        // asked for it; a saga gives back what it asked for itself.
        let reserve = client.random().one_in(2) && self.form == Form::Reactors;
        if !reserve {
            let reason = Reason::TimedOut;
            client.send::<Order, _>(order, Reject { reason }).await;
        } else if let Some((found, _)) = client.read::<Order>(order.clone()).await
            && let Some(placed) = found.placed()
        {
            let total = placed.total;
            let reserve = ReserveCredit { order, total };
            client
                .send::<Customer, _>(placed.customer.clone(), reserve)
                .await;
        }
    }
}

/// Every prefix of the log.
#[derive(Default)]
struct Audit {
    books: Books,
    instances: Instances,
}

impl Auditor for Audit {
    fn unit(&mut self, unit: &[Arc<Record>]) -> Result<(), String> {
        for record in unit.iter().filter(|record| record.local.version > 0) {
            self.books.record(record)?;
            self.instances.record(record)?;
        }
        Ok(())
    }
}
